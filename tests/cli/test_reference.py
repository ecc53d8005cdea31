"""The page docs/cli.md says what the program does, and its examples could be typed."""

import importlib.util
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

DOCS = Path(__file__).resolve().parents[2] / "docs"


def generator():
    spec = importlib.util.spec_from_file_location("generate_cli", DOCS / "generate_cli.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def sections():
    """The text of each command's section, by its words."""
    parts = re.split(r"^#+ (vitseek .*)$", generator().reference(), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def options_in(section):
    """Every option that a section's table names, without its value."""
    names = re.findall(r"`(-[^`]*)`", "".join(line for line in section.splitlines() if line.startswith("| `-")))
    return {name.split()[0] for name in names}


def examples():
    text = re.sub(r" \\\n +", " ", generator().reference())  # a command on two lines
    for line in re.findall(r"^    (vitseek .*)$", text, flags=re.MULTILINE):
        if "[OPTIONS]" not in line:
            yield line


def test_the_page_is_what_the_program_says():
    text = (DOCS / "cli.md").read_text("utf-8")
    assert text == generator().reference(), "run `make docs` and commit docs/cli.md"


def test_the_page_does_not_depend_on_the_terminal_or_the_order_of_sets():
    command = [sys.executable, str(DOCS / "generate_cli.py"), "--check"]
    env = {"COLUMNS": "40", "LANG": "C", "PYTHONHASHSEED": "7", "PATH": "/usr/bin:/bin"}
    ran = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stderr) == (0, "")


def test_every_row_of_its_tables_has_as_many_cells_as_the_head():
    cells = 0
    for line in generator().reference().splitlines():
        if line.startswith("|"):
            found = len(re.findall(r"(?<!\\)\|", line)) - 1
            cells = cells or found
            assert found == cells, line
        else:
            cells = 0


def test_every_command_that_the_program_lists_has_a_section_with_its_options(sections):
    listed = subprocess.run(
        [sys.executable, "-m", "vitseek", "--help"], capture_output=True, text=True, check=True
    ).stdout.split("Commands:")[1]
    names = re.findall(r"^  ([a-z-]+)", listed, flags=re.MULTILINE)
    assert len(names) > 5
    assert {name for name in names if f"vitseek {name}" not in sections} == set()
    assert options_in(sections["vitseek search"]) >= {"-k", "--where", "--json", "--null", "-0", "--exclude-query"}


@pytest.mark.parametrize("name", ["index", "search", "status", "remove"])
def test_the_help_of_the_program_lists_the_same_options(sections, name):
    shown = subprocess.run(
        [sys.executable, "-m", "vitseek", name, "--help"], capture_output=True, text=True, check=True
    ).stdout.split("Options:")[1]
    told = set(re.findall(r"^  (?:(-\w), )?(--?[\w-]+)", shown, flags=re.MULTILINE))
    told = {option for pair in told for option in pair if option} - {"-h", "--help"}
    assert told <= options_in(sections[f"vitseek {name}"])


@pytest.mark.parametrize("line", list(examples()))
def test_examples_use_commands_and_options_that_exist(sections, line):
    words = shlex.split(line, comments=False)
    words = words[: words.index("|")] if "|" in words else words
    command = max((name for name in sections if words[: len(name.split())] == name.split()), key=len)
    used = {word.split("=")[0] for word in words if re.fullmatch(r"--?[a-zA-Z][\w-]*(=.*)?|-0", word)}
    assert used <= options_in(sections[command])


def test_every_command_has_examples(sections):
    without = [
        name
        for name, text in sections.items()
        if "Examples:\n\n    " not in text and not any(other.startswith(f"{name} ") for other in sections)
    ]
    assert without == []
