"""Spaces in other precisions: apart from float32, found again, calibrated on the gallery's own pictures."""

import shutil
import sqlite3
from pathlib import Path

import numpy as np
import pytest

from vitseek.engines import checked
from vitseek.engines.model import load
from vitseek.errors import ConfigError, GalleryMismatchError, UsageError
from vitseek.gallery import shortcuts
from vitseek.gallery.gallery import Gallery
from vitseek.gallery.shortcuts import Shortcuts
from vitseek.gallery.spaces import SpaceKey, free_name

pytest.importorskip("onnx", reason="onnx is not installed: pip install 'vitseek[onnx]'")
pytest.importorskip("onnxruntime", reason="onnxruntime is not installed: pip install 'vitseek[onnx]'")

STATIC = "int8-static"


@pytest.fixture
def indexed(photos: Path) -> Path:
    with Gallery(photos) as gallery:
        gallery.index()
    return photos


def stored(gallery: Gallery, space: str) -> np.ndarray:
    """The vectors of a space, unit length."""
    return gallery.vectors(space=space)[1]


@pytest.mark.parametrize("precision", ["int8", STATIC])
def test_bytes_make_a_space_of_their_own_and_search_finds_its_model_again(indexed: Path, precision: str) -> None:
    with Gallery(indexed, precision=precision, engine="onnx") as gallery:
        report = gallery.index()
        assert report.notes == []
        spaces = gallery.status().spaces
    assert [space.name for space in spaces] == ["vitseek-tiny", f"vitseek-tiny/{precision}"]
    picture = indexed / "red" / "red-1.png"
    with Gallery(indexed) as gallery:  # nobody names the precision again
        name = f"vitseek-tiny/{precision}"
        exact, near = stored(gallery, "vitseek-tiny"), stored(gallery, name)
        cosines = np.einsum("id,id->i", exact, near)
        assert 0.99 < cosines.min() < 1 - 1e-7, "near float32, and not float32"
        shutil.copy(picture, indexed.parent / "new.png")
        (indexed.parent / "new.png").write_bytes(picture.read_bytes() + b"\0")  # another content, the same picture
        best, *_ = gallery.search(indexed.parent / "new.png", k=3, space=name)
        assert best.path == picture
        # A rounding of float32 that differs, as in a batch of another size, may turn a byte and those behind it, and
        # "int8" takes its scales from the batch.
        assert best.score == pytest.approx(1, abs=0.02)
        assert gallery.model_of(name).precision == precision  # type: ignore[attr-defined]


def test_a_calibration_is_made_once_and_serves_pictures_that_come_later(indexed: Path) -> None:
    with Gallery(indexed, precision=STATIC, engine="onnx") as gallery:
        gallery.index()
    shutil.copy(indexed / "red" / "red-1.png", indexed / "later.png")
    with (indexed / "later.png").open("ab") as file:
        file.write(b"\0")
    for options in ({"precision": STATIC}, {}):  # by name again, and as the default space
        with Gallery(indexed, **options) as gallery:
            if not options:
                gallery.use_space(f"vitseek-tiny/{STATIC}")
            gallery.index()
            assert len(gallery.status().spaces) == 2
            assert gallery._catalog.database.value("SELECT count(*) FROM calibrations") == 1
    with Gallery(indexed) as gallery:
        assert len(stored(gallery, f"vitseek-tiny/{STATIC}")) == gallery.count()


def test_unreadable_pictures_are_left_out_of_a_calibration(photos: Path) -> None:
    for number in range(5):
        (photos / f"0-broken-{number}.jpg").write_bytes(b"\xff\xd8\xff no picture")
    with Gallery(photos, precision=STATIC, engine="onnx") as gallery:
        report = gallery.index()
        assert (report.unreadable, len(gallery.status().spaces)) == (5, 1)
    with pytest.raises(ConfigError, match="none of the pictures"):
        load().calibrate([photos / "0-broken-0.jpg"])


def test_a_space_whose_calibration_is_lost_says_how_to_make_it_again(photos: Path) -> None:
    with Gallery(photos, precision=STATIC, engine="onnx") as gallery:
        gallery.index()
    connection = sqlite3.connect(photos / ".vitseek" / "index.db")
    connection.execute("DELETE FROM calibrations")
    connection.commit()
    connection.close()
    with (
        Gallery(photos) as gallery,
        pytest.raises(GalleryMismatchError, match=r"calibration .* is lost.*vitseek spaces remove"),
    ):
        _ = gallery.model


def test_removing_a_space_removes_its_calibration(indexed: Path) -> None:
    with Gallery(indexed, precision=STATIC, engine="onnx") as gallery:
        gallery.index()
        gallery.remove_space(f"vitseek-tiny/{STATIC}")
        assert gallery._catalog.database.value("SELECT count(*) FROM calibrations") == 0


def test_bytes_that_are_too_far_from_numpy_fill_a_space_in_float32(
    photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(checked.TOLERANCES, "int8", 1e-9)
    with Gallery(photos, precision="int8") as gallery:
        report = gallery.index()
        (space,) = gallery.status().spaces
        assert space.name == "vitseek-tiny"
        picture = sorted(photos.rglob("*.png"))[0]
        feature = load().embed([picture])[0]
        assert gallery.search(feature, k=1)[0].score == pytest.approx(1, abs=1e-6)
    (said,) = [note for note in report.notes if "NumPy computes instead" in note]
    assert "is not used in int8, because it gives features" in said


def test_a_space_in_bytes_is_not_searched_in_float32(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Gallery(photos, precision="int8") as gallery:
        gallery.index()
    monkeypatch.setitem(checked.TOLERANCES, "int8", 1e-9)
    with (
        Gallery(photos) as gallery,
        pytest.raises(
            GalleryMismatchError, match=r"holds vectors in int8, which cannot be computed here.*--precision float32"
        ),
    ):
        _ = gallery.model


def test_the_model_s_name_alone_finds_its_space_in_another_precision(photos: Path) -> None:
    with Gallery(photos, precision="int8") as gallery:
        gallery.index()
    picture = sorted(photos.rglob("*.png"))[0]
    with Gallery(photos, model="vitseek-tiny") as gallery:
        assert gallery.search(picture, k=1)[0].score == pytest.approx(1, abs=1e-5)
        assert gallery.space(None).key.precision == "int8"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"precision": "int4"}, "precision must be one of float32, bfloat16, int8, int8-static, not 'int4'"),
        ({"precision": "int8", "engine": "numpy"}, "engine 'numpy' computes in float32, not in 'int8': take .*'onnx'"),
        ({"precision": STATIC, "engine": "onnx"}, "needs a calibration"),
    ],
)
def test_what_does_not_go_together_is_refused_with_what_does(options: dict[str, str], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        load(**options)  # type: ignore[arg-type]


def test_fewer_tokens_and_smaller_pictures_are_remembered_by_the_space(indexed: Path) -> None:
    with Gallery(indexed, reduction="merge-8", size_px=128) as gallery:
        gallery.index()
        assert [space.name for space in gallery.status().spaces] == ["vitseek-tiny", "vitseek-tiny/merge-8"]
        gallery.use_space("vitseek-tiny/merge-8")
    picture = indexed / "red" / "red-1.png"
    with Gallery(indexed) as gallery:
        model = gallery.model
        assert (model.reduction, model.preprocessing.size_px) == ("merge-8", 128)  # type: ignore[attr-defined]
        feature = load(reduction="merge-8", size_px=128).embed([picture])[0]
        assert gallery.search(feature, k=1)[0].score == pytest.approx(1, abs=1e-6)


def test_a_speed_is_what_is_installed_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Shortcuts.of(None) == Shortcuts()
    assert Shortcuts.of("exact") == Shortcuts(precision="float32", reduction="none")
    monkeypatch.setattr(shortcuts, "is_installed", lambda engine: engine == "openvino")
    assert Shortcuts.of("fast") == Shortcuts(precision="bfloat16")
    assert Shortcuts.of("faster", engine="onnx") == Shortcuts(precision="int8-static", engine="onnx")
    monkeypatch.setattr(shortcuts, "is_installed", lambda engine: False)
    assert Shortcuts.of("fast") == Shortcuts(reduction=shortcuts.MERGED_FAST)
    assert Shortcuts.of("faster", size_px=192).words() == f"--reduction {shortcuts.MERGED_FASTER} --size 192"
    with pytest.raises(UsageError, match="exact, fast, faster, not 'ludicrous'"):
        Shortcuts.of("ludicrous")


def test_names_of_spaces_that_are_not_exact_say_so() -> None:
    key = SpaceKey("vit", "ab", "official", "cls", 5, "int8-static-0123456789ab", "merge-8")
    assert free_name(key, []) == "vit/int8-static/merge-8"
    assert free_name(key._replace(precision="float32", reduction="none"), []) == "vit"
