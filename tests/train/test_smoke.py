"""Every recipe as a user starts it: ``vitseek train RECIPE --smoke``, then ``vitseek export``."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="training needs torch")

from vitseek.train.metrics import read_rows  # noqa: E402
from vitseek.train.smoke import KINDS, draw_pictures  # noqa: E402

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
LEARNS = {
    "supervised": 0.8,
    "deit": 0.8,
    "mae": 0.99,
    "clip": 0.8,
    "distill": 0.9,
}  # last epoch's loss against the first's, at most


def _vitseek(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "vitseek", *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=500, check=False)


@pytest.mark.parametrize("recipe", ["supervised", "finetune", "deit", "distill", "mae", "dino", "clip"])
def test_a_smoke_run_learns_and_its_model_serves_in_numpy(recipe: str, tmp_path: Path) -> None:
    out = tmp_path / "run"
    done = _vitseek("train", recipe, "--smoke", "--out", str(out), "--json")
    assert done.returncode == 0, done.stderr
    facts = json.loads(done.stdout)
    assert all(Path(picture).is_file() for picture in facts["pictures"])
    rows = read_rows(out / "metrics.csv")
    if recipe == "finetune":  # starts from the embedded model: its first epoch is good already
        assert rows[-1]["val_accuracy"] > 0.9
    elif recipe in LEARNS:
        assert rows[-1]["train_loss"] < LEARNS[recipe] * rows[0]["train_loss"]
    else:
        assert rows[-1]["knn_accuracy"] > 0.9
    exported = _vitseek("export", str(out), "-o", str(tmp_path / "model.safetensors"))
    assert exported.returncode == 0, exported.stderr
    assert "NumPy and torch agree" in exported.stderr
    picture = next((out / "pictures" / "disc").glob("*.png"))
    from vitseek.engines.model import load

    # that of the start, of the teacher, or of the space where both towers of clip meet
    width = {"finetune": 192, "distill": 192, "clip": 32}.get(recipe, 48)
    assert load(tmp_path / "model.safetensors").embed([picture]).shape == (1, width)


def test_a_smoke_run_of_clip_finds_pictures_by_words(tmp_path: Path) -> None:
    run, photos = tmp_path / "run", tmp_path / "photos"
    done = _vitseek("train", "clip", "--smoke", "--out", str(run))
    assert done.returncode == 0, done.stderr
    exported = _vitseek("export", str(run), "-o", str(tmp_path / "shapes.safetensors"))
    assert exported.returncode == 0, exported.stderr
    assert "text embeddings" in exported.stderr
    draw_pictures(photos, seed=97, per_class=7)  # none of those that it learned from
    (photos / "captions.csv").unlink()
    indexed = _vitseek("index", str(photos), "--model", str(tmp_path / "shapes.safetensors"))
    assert indexed.returncode == 0, indexed.stderr
    right = 0
    for shape, (colour, _) in KINDS.items():
        found = _vitseek("search", f"there is a {colour} {shape}", "-k", "5", "--gallery", str(photos), "--json")
        assert found.returncode == 0, found.stderr
        [result] = json.loads(found.stdout)["results"]
        right += sum(Path(match["path"]).parent.name == shape for match in result["matches"])
    assert right > 20  # of 30; 5 by chance


def test_a_smoke_run_can_finetune_another_run(tmp_path: Path) -> None:
    first = _vitseek("train", "mae", "--smoke", "--epochs", "1", "--out", str(tmp_path / "mae"))
    assert first.returncode == 0, first.stderr
    given = ["--start", str(tmp_path / "mae"), "--image-size", "32", "--out", str(tmp_path / "run")]
    done = _vitseek("train", "finetune", "--smoke", "--epochs", "8", *given)
    assert done.returncode == 0, done.stderr
    assert read_rows(tmp_path / "run" / "metrics.csv")[-1]["val_accuracy"] > 0.5


def test_ctrl_c_saves_and_says_how_to_go_on(tmp_path: Path) -> None:
    out = tmp_path / "run"
    command = [sys.executable, "-m", "vitseek", "train", "mae", "--smoke", "--epochs", "500", "--out", str(out)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)
    deadline = time.monotonic() + 300
    while not (out / "metrics.csv").is_file() and time.monotonic() < deadline:
        time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 130
    assert f"Go on with: vitseek train mae --out {out} --resume" in errors
    assert "Traceback" not in errors
    done = _vitseek("train", "mae", "--out", str(out), "--resume", "--epochs", "1")
    assert done.returncode == 0, done.stderr
    assert "resumed after step" in done.stderr
