"""The question "search": what counts as found, graphs that are built once, and a run of both tables."""

import csv
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from benchmarks.contest import Outcome, WorkerFailed
from benchmarks.search import EXACT, PRODUCT, WAYS, Graphs, contestant, recall, row, wrong

from benchmarks import search

ROOT = Path(__file__).resolve().parents[2]
BY_NAME = {way.name: way for way in WAYS}
GRAPH = BY_NAME["hnswlib"]


def test_recall_is_the_share_of_rows_that_exact_search_finds_in_any_order():
    wanted = np.array([[1, 2, 3, 4], [5, 6, 7, 8]])
    assert recall(wanted[:, ::-1], wanted) == 1.0
    assert recall(np.array([[1, 2, 3, 9], [5, 6, 0, 9]]), wanted) == 5 / 8


def test_exact_search_that_misses_rows_is_not_timed_and_a_graph_may():
    wanted = np.arange(640).reshape(64, 10)
    outputs = {
        EXACT.name: {"all": wanted},
        PRODUCT: {"all": wanted[:, ::-1]},
        "FAISS flat": {"all": np.where(wanted % 10 < 2, -1, wanted)},
        GRAPH.name: {"all": np.where(wanted % 10 < 2, -1, wanted)},
    }
    assert wrong(outputs) == {"FAISS flat": "finds something else: 80.0% of the rows of exact search"}


def test_a_graph_is_built_once_and_not_over_too_many_rows(monkeypatch):
    built = []

    def call(make, arguments, *, limit_s):
        built.append((make, arguments, limit_s))
        return "file", 7.0

    monkeypatch.setattr(search, "call", call)
    graphs = Graphs("matrix", "folder", 100, 100, 60.0)
    assert [graphs.obtain(GRAPH), graphs.obtain(GRAPH)] == [("file", 7.0)] * 2
    assert built == [("benchmarks.searchers:build_hnswlib", {"matrix": "matrix", "folder": "folder"}, 60.0)]
    with pytest.raises(WorkerFailed, match=r"more than 99 rows.*--hnsw-rows"):
        Graphs("matrix", "folder", 100, 99, 60.0).obtain(GRAPH)


def test_a_graph_that_cannot_be_built_is_tried_once_and_its_way_is_skipped(monkeypatch):
    tried = []

    def call(make, arguments, *, limit_s):
        tried.append(make)
        raise WorkerFailed("still working after 60 s")

    monkeypatch.setattr(search, "call", call)
    monkeypatch.setattr(search, "missing", lambda modules: "")
    graphs = Graphs("matrix", "folder", 100, 100, 60.0)
    files = {"matrix": "matrix", "queries": "queries"}
    skipped = [contestant(GRAPH, files, graphs, 100, 384, own).skipped for own in (1, 2)]
    assert skipped == ["still working after 60 s"] * 2
    assert len(tried) == 1


def test_nothing_is_built_for_a_library_that_is_not_installed(monkeypatch):
    monkeypatch.setattr(search, "missing", lambda modules: f"{modules[0]} not installed")
    monkeypatch.setattr(search, "call", None)
    graphs = Graphs("matrix", "folder", 100, 100, 60.0)
    assert contestant(GRAPH, {}, graphs, 100, 384, 1).skipped == "hnswlib not installed"


def test_a_row_says_milliseconds_a_query_and_the_ratio_to_the_plain_product():
    found = np.arange(640).reshape(64, 10)
    outcomes = {
        name: Outcome(name, wall_s={"one": [seconds * 64] * 3, "all": [seconds * 8] * 3}, outputs={"all": found})
        for name, seconds in ((EXACT.name, 0.001), (PRODUCT, 0.003))
    }
    cells = row(EXACT, outcomes, rows=10_000, width=384, own_cores=2, built_s=None)
    assert (cells["rows"], cells["cores"]) == ("10,000", "2")
    assert (cells["one query"], cells["64 queries"]) == ("1.00 ms", "8.0 ms")
    assert (cells["ratio"], cells["ratio of them"], cells["recall"]) == ("3.00", "3.00", "1.0000")


@pytest.mark.slow
def test_the_question_answers_and_searches_vectors(tmp_path):
    command = [sys.executable, "-m", "benchmarks.search", "--rows", "2003", "--widths", "307", "--cores", "1"]
    command += ["--rounds", "2", "--csv-dir", str(tmp_path)]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    (file,) = tmp_path.iterdir()
    with file.open(encoding="utf-8", newline="") as opened:
        lines = list(csv.DictReader(opened))
    starts = [(line["asked for"], line["start"]) for line in lines if line["asked for"]]
    assert [start for _, start in starts] == ["cold", "cold", "cold", "warm", "warm"]
    ways = {line["search"]: line for line in lines if line["search"]}
    assert list(ways) == [way.name for way in WAYS]
    for name in (EXACT.name, PRODUCT):
        assert float(ways[name]["recall"]) == 1
        assert float(ways[name]["one query [ms]"]) > 0
