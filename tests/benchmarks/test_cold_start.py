"""The question "cold_start": what is held against a budget, and a run of the real commands with a small gallery."""

import subprocess
import sys
from pathlib import Path

import pytest
from benchmarks.cold_start import NEW_PICTURE, Times, as_installed, row

ROOT = Path(__file__).resolve().parents[2]
NUMPY = Times(wall=[70.0, 140.0, 80.0], cpu=[60.0, 61.0, 62.0])


@pytest.mark.parametrize(
    ("name", "walls", "wanted"),
    [
        (NEW_PICTURE, [700.0, 530.0, 900.0], ("490 ms", "500 ms", "10 ms", "met")),
        (NEW_PICTURE, [700.0, 541.0, 900.0], ("501 ms", "500 ms", "-1 ms", "MISSED")),
        ("vitseek --help", [301.0, 320.0, 310.0], ("301 ms", "300 ms", "-1 ms", "MISSED")),
        ("vitseek --version", [999.0, 999.0, 999.0], ("–", "–", "–", "")),
    ],
)
def test_the_least_run_counts_and_a_search_is_besides_one_forward_pass(name, walls, wanted):
    found = row(name, Times(wall=walls, cpu=[1.0, 2.0, 3.0]), NUMPY, forward_ms=40.0, imports_ms=5.0)
    assert (found["counts"], found["budget"], found["margin"], found["result"]) == wanted


def test_the_ratio_to_numpy_is_that_of_the_same_round():
    found = row(NEW_PICTURE, Times(wall=[140.0, 280.0, 400.0], cpu=[1.0, 2.0, 3.0]), NUMPY, 40.0, 5.0)
    assert found["to NumPy's import"] == "2.00"


def test_modules_are_compiled_once_even_where_this_process_may_not(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    Times().run([sys.executable, "-c", "import vitseek"], as_installed(tmp_path / "modules"))
    assert [file.name.partition(".")[0] for file in (tmp_path / "modules").rglob("vitseek/__init__*.pyc")] == [
        "__init__"
    ]


@pytest.mark.slow
def test_the_question_times_the_real_commands(tmp_path):
    command = [sys.executable, "-m", "benchmarks.cold_start", "--quick", "--images", "12", "--imports"]
    ran = subprocess.run([*command, "--csv-dir", str(tmp_path)], cwd=ROOT, capture_output=True, text=True, check=False)
    assert ran.returncode == int("MISSED" in ran.stdout), ran.stderr
    assert "cold start, 12 pictures, vit_small" in ran.stdout
    assert ran.stdout.count("met") + ran.stdout.count("MISSED") == 3
    assert "one forward pass in a warm process" in ran.stdout
