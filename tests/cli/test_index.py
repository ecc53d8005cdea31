"""`vitseek index`, `status`, `remove` and `features`, as a user calls them."""

import json
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.cli.tiny_model import write_tiny_model
from vitseek.cli.app import main


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    return write_tiny_model(tmp_path / "tiny")


@dataclass
class Done:
    stdout: str
    stderr: str


@pytest.fixture
def vitseek(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """Run the program in tmp_path, in this process, and check its exit status."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: object, status: int = 0) -> Done:
        monkeypatch.setattr(sys, "argv", ["vitseek", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as left:
            main()
        said = capsys.readouterr()
        assert (left.value.code or 0) == status, f"{left.value.code}\n{said.out}\n{said.err}"
        return Done(said.out, said.err)

    return run


@pytest.fixture
def indexed(vitseek, photos: Path, tiny: Path) -> Path:
    vitseek("index", photos, "--model", tiny, "--labels-from-folders")
    return photos


def test_a_folder_is_indexed_and_the_summary_says_what_was_done(vitseek, photos: Path, tiny: Path) -> None:
    (photos / "bad.jpg").write_text("not an image")
    first = vitseek("index", photos, "--model", tiny)
    assert "7 images can be searched (tiny-random)" in first.stdout
    assert "7 new" in first.stdout
    assert "images/s" in first.stdout
    assert "1 file cannot be used" in first.stderr
    assert "bad.jpg: it is not an image but text" in first.stderr
    (photos / "red" / "red-0.png").rename(photos / "blue" / "x.png")
    second = vitseek("index", photos)
    assert "1 renamed" in second.stdout


def test_json_is_one_document_and_nothing_else(vitseek, photos: Path, tiny: Path) -> None:
    done = vitseek("index", photos, "--model", tiny, "--json")
    report = json.loads(done.stdout)
    assert (report["new"], report["images"], report["space"]) == (7, 7, "tiny-random")
    facts = json.loads(vitseek("status", "--gallery", photos, "--json").stdout)
    assert facts["images"] == 7
    assert facts["spaces"][0]["dim"] == 22


def test_the_gallery_is_found_from_inside_and_from_anywhere(vitseek, indexed: Path) -> None:
    assert "7 unchanged" in vitseek("index").stdout  # the last used
    assert "7 images" in vitseek("status").stdout
    assert "7 unchanged" in vitseek("index", indexed / "red" / ".." / ".").stdout
    assert "3 unchanged" in vitseek("index", indexed / "red").stdout


def test_several_folders_need_a_place_and_get_it(vitseek, photos: Path, tiny: Path, tmp_path: Path) -> None:
    refused = vitseek("index", photos / "red", photos / "blue", status=2)
    assert "--gallery DIR" in refused.stderr
    done = vitseek("index", photos / "red", photos / "blue", "--gallery", tmp_path / "new", "--model", tiny)
    assert "7 new" in done.stdout
    assert (tmp_path / "new" / ".vitseek" / "index.db").is_file()
    status = vitseek("status", "--gallery", tmp_path / "new").stdout
    assert f"{photos}/red: 3 images" in status
    assert f"{photos}/blue: 4 images" in status


def test_a_folder_without_images_says_so_and_leaves_nothing_behind(vitseek, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert "it is empty" in vitseek("index", "empty", status=1).stderr
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "a.txt").write_text("a")
    assert "1 other file," in vitseek("index", "texts", status=1).stderr
    assert not (tmp_path / "empty" / ".vitseek").exists()
    assert not (tmp_path / "texts" / ".vitseek").exists()


def test_only_bad_images_is_a_failure_that_names_one(vitseek, tmp_path: Path, tiny: Path) -> None:
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "a.jpg").write_bytes(b"")
    done = vitseek("index", "bad", "--model", tiny, status=1)
    assert "no image in" in done.stderr
    assert "a.jpg: the file is empty" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["index", "nothing"], "nothing does not exist"),
        (["index", "a.png"], "vitseek index"),
        (["status", "--gallery", "."], "has no index"),
        (["remove"], "nothing to remove"),
        (["index", ".", "--batch-size", "0"], "batch-size"),
    ],
)
def test_wrong_use_is_said_in_words(vitseek, tmp_path: Path, arguments: list[str], said: str) -> None:
    Image.new("RGB", (9, 9)).save(tmp_path / "a.png")
    done = vitseek(*arguments, status=1 if arguments[0] == "status" else 2)
    assert said in done.stderr


def test_status_shows_folders_models_labels_and_problems(vitseek, indexed: Path) -> None:
    (indexed / "bad.jpg").write_text("this is no image")
    vitseek("index", indexed)
    done = vitseek("status", "--gallery", indexed)
    for text in ("Images   7 (1 unreadable)", "tiny-random: 22-d, 7 of 7 images, searched by default", "blue 4, red 3"):
        assert text in done.stdout
    assert "bad.jpg" in done.stderr
    assert "bad.jpg: it is not" in vitseek("status", "--gallery", indexed, "--unreadable").stdout
    assert "holds together" in vitseek("status", "--gallery", indexed, "--check").stderr


def test_images_are_removed_and_taken_back(vitseek, indexed: Path) -> None:
    done = vitseek("remove", indexed / "red" / "red-0.png")
    assert "1 image is no longer in the gallery; no file was touched" in done.stderr
    assert (indexed / "red" / "red-0.png").is_file()
    assert "6 images" in vitseek("index", indexed).stdout
    assert "1 restored" in vitseek("index", indexed, "--restore-removed").stdout
    assert json.loads(vitseek("remove", "--where", "label:red", "--json").stdout)["removed"] == 3
    outside = vitseek("remove", "/etc/passwd", "--gallery", indexed, status=2)
    assert "outside gallery" in outside.stderr


def test_many_are_removed_only_when_that_is_meant(vitseek, photos: Path, tiny: Path, rng: np.random.Generator) -> None:
    for number in range(20):
        Image.fromarray(rng.integers(0, 255, (9, 9, 3), dtype=np.uint8)).save(photos / f"{number}.png")
    vitseek("index", photos, "--model", tiny)
    assert "27 images out of the gallery; add --yes" in vitseek("remove", "--where", "width>0", status=2).stderr
    assert "27 images are no longer" in vitseek("remove", "--where", "width>0", "--yes").stderr


def test_features_go_out_and_in(vitseek, indexed: Path, tmp_path: Path) -> None:
    assert "features of 7 images" in vitseek("features", "export", "f.npz", "--gallery", indexed).stderr
    with np.load(tmp_path / "f.npz") as archive:
        assert archive["features"].shape == (7, 22)
        np.savez(tmp_path / "g.npz", gallery_features=archive["features"][:, :5], filenames=archive["paths"])
    done = vitseek("features", "import", "g.npz", "--gallery", indexed, "--name", "course")
    assert "7 images have vectors in 'course'" in done.stderr
    assert "course: 5-d" in vitseek("status", "--gallery", indexed).stdout
    (tmp_path / "bad.npz").write_text("rubbish")
    assert "not a readable .npz" in vitseek("features", "import", "bad.npz", "--gallery", indexed, status=1).stderr


def test_a_damaged_index_is_said_and_rebuilt(vitseek, indexed: Path) -> None:
    file = indexed / ".vitseek" / "index.db"
    file.write_bytes(b"rubbish" * 5000)
    refused = vitseek("status", "--gallery", indexed, status=1)
    assert "vitseek index --rebuild" in refused.stderr
    done = vitseek("index", indexed, "--rebuild", "--model", indexed.parent / "tiny")
    assert "set aside as" in done.stderr
    assert "7 new" in done.stdout


@pytest.mark.slow
def test_ctrl_c_keeps_what_was_done(tmp_path: Path, rng: np.random.Generator) -> None:
    folder = tmp_path / "many"
    folder.mkdir()
    for number in range(400):  # seconds of work for the embedded model, and it saves every two
        Image.fromarray(rng.integers(0, 255, (200, 300, 3), dtype=np.uint8)).save(folder / f"{number}.jpg")
    command = [sys.executable, "-m", "vitseek", "index", str(folder)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while not _saved(folder) and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    said = process.communicate(timeout=60)[1]
    assert process.returncode == 130, said
    assert "interrupted" in said
    assert "Traceback" not in said
    saved = _saved(folder)
    done = subprocess.run([*command, "--json"], capture_output=True, text=True, check=True)
    report = json.loads(done.stdout)
    assert report["images"] == 400
    assert 0 < saved == report["unchanged"] < 400
    assert report["new"] == 400 - saved


def _saved(folder: Path) -> int:
    """Vectors that a reader sees; none before the index is there."""
    try:
        with closing(sqlite3.connect(f"file:{folder}/.vitseek/index.db?mode=ro", uri=True)) as database:
            return int(database.execute("SELECT count(*) FROM vectors").fetchone()[0])
    except sqlite3.OperationalError:
        return 0


def test_an_engine_that_does_not_exist_is_refused_before_anything_is_made(vitseek, photos: Path) -> None:
    said = vitseek("index", photos, "--engine", "abacus", status=2).stderr
    assert "engine must be one of numpy, numba, onnx, openvino, torch, not 'abacus'" in said
    assert not (photos / ".vitseek").exists()


def test_an_empty_folder_does_not_become_the_last_used_gallery(vitseek, indexed: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert "it is empty" in vitseek("index", "empty", status=1).stderr
    assert str(indexed) in vitseek("search", indexed / "red" / "red-0.png", "-k", "1").stderr
