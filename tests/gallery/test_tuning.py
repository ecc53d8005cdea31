"""What shortcuts cost and gain, on a gallery with the embedded model."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vitseek.errors import ConfigError, UsageError
from vitseek.gallery import tuning
from vitseek.gallery.gallery import Gallery
from vitseek.gallery.shortcuts import Shortcuts
from vitseek.gallery.tuning import Measured, agreement_of

PICTURES = 34


@pytest.fixture
def gallery(tmp_path: Path, rng: np.random.Generator) -> Gallery:
    """Pictures of two kinds in two folders, which give the labels, and one unreadable file."""
    for number in range(PICTURES):
        kind = ("coarse", "fine")[number % 2]
        side = 5 if kind == "coarse" else 40
        pixels = rng.integers(0, 256, (side, side, 3), dtype=np.uint8)
        (tmp_path / kind).mkdir(exist_ok=True)
        Image.fromarray(pixels).resize((120, 90)).save(tmp_path / kind / f"{number}.png")
    with Gallery(tmp_path) as opened:
        opened.index(labels_from_folders=True)
    (tmp_path / "fine" / "1.png").write_bytes(b"gone bad since")
    return Gallery(tmp_path)


def test_each_contestant_is_measured_against_exact_features(gallery: Gallery) -> None:
    told: list[tuple[str, int, int]] = []
    merged, smaller = Shortcuts(reduction="merge-12"), Shortcuts(size_px=64)
    with gallery:
        found = gallery.tune(
            images=100, chosen=[merged, smaller], agreement=1.0, progress=lambda *what: told.append(what)
        )
        assert len(gallery.status().spaces) == 1, "nothing is written"
    exact, *others = found.rows
    assert found.images == PICTURES - 1
    assert (exact.options, exact.agreement, exact.faster) == ("", 1.0, 1.0)
    assert [row.options for row in others] == ["--reduction merge-12", "--size 64"]
    for row in others:
        assert row.images_per_s is not None
        assert row.images_per_s > 0
        assert row.agreement is not None
        assert 0.1 < row.agreement < 1
        assert row.mean_average_precision == pytest.approx(exact.mean_average_precision, abs=0.3)
    assert found.recommended == "", "nothing else keeps all of the top 10"
    assert told == [("exact", 0, 3), ("--reduction merge-12", 1, 3), ("--size 64", 2, 3)]
    assert found.to_dict()["rows"][1]["options"] == "--reduction merge-12"


def test_what_cannot_be_measured_says_why(gallery: Gallery) -> None:
    with gallery:
        found = gallery.tune(chosen=[Shortcuts(size_px=100), Shortcuts(precision="int8", engine="numpy")])
    assert found.rows[1].problem is not None
    assert "take a multiple" in found.rows[1].problem
    assert found.rows[2].problem is not None
    assert "engine 'numpy' computes in float32" in found.rows[2].problem
    assert found.recommended == ""


def test_the_fastest_that_keeps_enough_is_recommended() -> None:
    exact = Measured("", 10, 1.0, 1.0, 0.7)
    sloppy = Measured("--sloppy", 90, 9.0, 0.94, 0.7)
    lossy = Measured("--lossy", 80, 8.0, 0.99, 0.69)
    good, slower = Measured("--good", 30, 3.0, 0.96, 0.696), Measured("--slower", 9, 0.9, 1.0, 0.7)
    rows = [exact, sloppy, lossy, good, slower, Measured("--broken", problem="no")]
    assert tuning._recommended(rows, 0.95) == "--good"
    assert tuning._recommended(rows, 0.99) == ""
    assert tuning._recommended([exact, sloppy], 0.9) == "--sloppy"


def test_agreement_is_the_share_of_the_ten_nearest_that_both_name(rng: np.random.Generator) -> None:
    features = rng.standard_normal((40, 7)).astype(np.float32)
    assert agreement_of(features, features * 3) == 1, "lengths do not matter"
    assert agreement_of(rng.standard_normal((40, 7)).astype(np.float32), features) < 0.5
    assert agreement_of(np.zeros((40, 7), np.float32), features) < 1, "no numbers, no crash"


def test_too_few_pictures_and_a_loaded_model_are_refused(gallery: Gallery, tmp_path: Path) -> None:
    with gallery:
        with pytest.raises(UsageError, match="pictures of one size are too few"):
            gallery.tune(images=9)
        with pytest.raises(UsageError, match="share between 0 and 1, not 95"):
            gallery.tune(agreement=95)
    from vitseek.engines.model import load

    with Gallery(tmp_path, model=load()) as loaded, pytest.raises(ConfigError, match="give its name or file"):
        loaded.tune()


def test_only_installed_engines_are_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tuning, "is_installed", lambda engine: engine == "numpy")
    options = [one.words() for one in tuning.contestants(224, 14)]
    assert options == ["--reduction merge-24", "--reduction merge-32", "--size 168"]
    monkeypatch.setattr(tuning, "is_installed", lambda engine: True)
    options = [one.words() for one in tuning.contestants(224, 14)]
    assert "--engine openvino --precision bfloat16 --reduction merge-24" in options
    assert len(set(options)) == len(options)
