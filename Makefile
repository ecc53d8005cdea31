# Each target sets up .venv by itself. PYTHON=python3.12 picks another interpreter.
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11 python3.14; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
VENV := .venv
BIN := $(VENV)/bin
ARGS ?=

.PHONY: demo test lint bench docs clean help

help:
	@echo "make demo    draw a sample gallery, search it, open the web page"
	@echo "make test    the fast, offline test suite"
	@echo "make lint    ruff, mypy, import layers"
	@echo "make bench   a table and a CSV per question of speed (ARGS=--quick for minutes)"
	@echo "make docs    generate the CLI reference and build site/"

demo: $(VENV)/.web
	$(BIN)/vitseek demo $(ARGS)

test: $(VENV)/.test
	$(BIN)/python -m pytest $(ARGS)

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

bench: $(VENV)/.test
	$(BIN)/python -m benchmarks $(ARGS)

docs: $(VENV)/.dev
	$(BIN)/python docs/generate_cli.py
	$(BIN)/mkdocs build --strict

clean:
	rm -rf $(VENV) site build dist demo-gallery

$(VENV)/bin/pip:
	@test -n "$(PYTHON)" || { echo "vitseek needs Python 3.11 or newer: none found on PATH (set PYTHON=…)"; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); \
	  if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	    apt-get update -q && apt-get install -y -q python3-venv && $(PYTHON) -m venv $(VENV); \
	  else echo "Python's venv module is incomplete: on Debian, run 'sudo apt install python3-venv' and try again"; exit 1; fi; }

$(VENV)/.web: $(VENV)/bin/pip pyproject.toml
	$(BIN)/pip install -q -e '.[web]'
	@touch $@

$(VENV)/.test: $(VENV)/bin/pip pyproject.toml
	$(BIN)/pip install -q -e '.[test]'
	@touch $@

$(VENV)/.dev: $(VENV)/bin/pip pyproject.toml
	$(BIN)/pip install -q -e '.[dev]'
	@touch $@
