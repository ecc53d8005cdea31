"""The question "indexing": photos, rows, and a run of the real command with a small model."""

import csv
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from benchmarks.contest import Outcome
from benchmarks.indexing import Task, contestants, different, draw_photos, labels, link_photos, row
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
TASK = Task("model", "numpy", "float32", "photos", "pixels", 16)


def outcomes(seconds):
    own, whole = labels("numpy", "float32")
    run = {"wall_s": 3.0, "processor_s": 4.0, "embed_s": 1.5, "again_s": 0.007}
    timed = Outcome(
        own,
        wall_s={"forward": [seconds], "reading": [1.0], "index": [9.0]},
        processor_s={"forward": [2.0], "reading": [1.0], "index": [9.0]},
        facts={"index": [run]},
    )
    return {own: timed, whole: Outcome(whole, facts={"": [{"wall_s": 5.0, "peak_bytes": 300 * 2.0**20}]})}


def test_photos_are_drawn_as_large_as_asked_for_and_all_different(tmp_path):
    assert draw_photos(tmp_path, 14, (131, 97)) == sum(path.stat().st_size for path in tmp_path.iterdir())
    pictures = [Image.open(path) for path in sorted(tmp_path.iterdir())]
    assert {picture.size for picture in pictures} == {(131, 97)}
    assert len({picture.tobytes() for picture in pictures}) == 14


def test_photos_of_ones_own_come_from_all_over_the_folder(photos, tmp_path):
    links = tmp_path / "links"
    links.mkdir()
    size = link_photos(photos, links, 3)
    chosen = [path.resolve() for path in sorted(links.iterdir())]
    assert {path.parent.name for path in chosen} == {"red", "blue"}
    assert size == sum(path.stat().st_size for path in chosen)
    with pytest.raises(SystemExit, match="holds no photos"):
        link_photos(tmp_path / "nowhere", links, 3)


def test_a_row_holds_the_run_against_the_model_and_reading_alone():
    found = row(TASK, outcomes(2.0), 12)
    assert (found["forward"], found["index"]) == ("6.00 images/s", "4.00 images/s")
    assert (found["of the limit"], found["model's share"]) == ("100%", "50%")
    assert (found["wall ratio"], found["processor ratio"]) == ("1.500", "2.000")
    assert (found["command"], found["peak"], found["skipped"]) == ("2.40 images/s", "300 MiB", "")


def test_vectors_of_another_engine_must_be_those_of_numpy(rng):
    wanted = rng.standard_normal((5, 7))
    outputs = {
        "numpy, float32": {"forward": wanted},
        "onnx, float32": {"forward": wanted * 1.01},
        "onnx, int8": {"forward": wanted * 1.01},
        "vitseek index --engine numpy, float32": {},
    }
    assert list(different(outputs)) == ["onnx, float32"]


def test_an_engine_that_does_not_exist_is_skipped():
    task = Task("model", "abacus", "float32", "photos", "pixels", 16)
    assert {one.skipped for one in contestants([task])} == {"no engine of that name in this version"}


@pytest.mark.slow
def test_the_question_indexes_photos_with_the_command(photos, tmp_path):
    command = [sys.executable, "-m", "benchmarks.indexing", "--model", "vitseek-tiny", "--photos", str(photos)]
    command += ["--engines", "numpy", "abacus", "--rounds", "2", "--csv-dir", str(tmp_path / "results")]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    (file,) = (tmp_path / "results").iterdir()
    with file.open(encoding="utf-8", newline="") as opened:
        numpy, abacus = csv.DictReader(opened)
    assert "7 photos" in numpy["table"]
    assert float(numpy["command [images/s]"]) > 0
    assert float(numpy["peak [MiB]"]) > 30
    assert numpy["skipped"] == ""
    assert abacus["skipped"] == "no engine of that name in this version"
    assert np.isfinite(float(numpy["wall ratio"]))
