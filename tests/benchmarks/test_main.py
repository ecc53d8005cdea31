"""`python -m benchmarks`: which benchmarks there are, and what the summary says."""

import subprocess
import sys
from pathlib import Path

from benchmarks.__main__ import BENCHMARKS, HERE, why_not
from benchmarks.report import Report, skipped_in

ROOT = Path(__file__).resolve().parents[2]


def test_the_three_questions_come_first():
    assert list(BENCHMARKS)[:3] == ["engines", "indexing", "search"]


def test_a_benchmark_that_is_not_there_says_so_and_the_others_are():
    assert why_not("nothing_of_the_kind") == "not in this version"
    there = {path.stem for path in HERE.glob("*.py")}
    assert {"engines", "indexing", "search", "memory", "kill", "cold_start"} <= there & set(BENCHMARKS)


def test_who_was_skipped_is_named_once_with_the_reason(tmp_path):
    report = Report("engines", tmp_path)
    rows = [
        {"engine": "ours", "precision": "int8", "images/s": "1.0", "skipped": ""},
        {"engine": "theirs", "precision": "int8", "images/s": "–", "skipped": "torch not installed"},
    ]
    for batch in (1, 8):
        report.keep(f"batch {batch}", rows)
    assert skipped_in(report.file) == [("theirs, int8", "torch not installed")]


def test_the_runner_prints_a_summary_and_keeps_the_file(tmp_path):
    command = [sys.executable, "-m", "benchmarks", "memory", "--quick", "--csv-dir", str(tmp_path / "results")]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "== memory" in ran.stdout
    assert "memory     peak memory against the size of the gallery  done" in ran.stdout
    assert [path.name.endswith("-memory-quick.csv") for path in (tmp_path / "results").iterdir()] == [True]
