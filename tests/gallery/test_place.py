import os
from pathlib import Path

import pytest

from vitseek.errors import GalleryNotFoundError
from vitseek.gallery.gallery import Gallery


def make(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    Gallery(folder).close()
    return folder


def test_the_named_gallery_wins_over_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    named, other = make(tmp_path / "named"), make(tmp_path / "other")
    monkeypatch.setenv("VITSEEK_GALLERY", str(other))
    monkeypatch.chdir(other)
    assert Gallery.locate(named) == named
    assert Gallery.locate(named / ".vitseek") == named


def test_the_environment_comes_next_and_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, other = make(tmp_path / "first"), make(tmp_path / "other")
    monkeypatch.setenv("VITSEEK_GALLERY", str(first))
    said: list[str] = []
    assert Gallery.locate(start=other, report=said.append) == first
    assert "VITSEEK_GALLERY" in said[0]


def test_then_the_nearest_folder_above(tmp_path: Path) -> None:
    make(tmp_path / "outer")
    inner = make(tmp_path / "outer" / "inner")
    (inner / "a" / "b").mkdir(parents=True)
    assert Gallery.locate(start=inner / "a" / "b") == inner
    assert Gallery.locate(start=inner) == inner


def test_then_the_last_used_one_and_that_is_said(
    tmp_path: Path, gallery: Gallery, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    said: list[str] = []
    assert Gallery.locate(report=said.append) == gallery.path
    assert "last used" in said[0]


def test_none_at_all_says_where_was_looked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(GalleryNotFoundError, match=r"no gallery at .* or above it.*vitseek index FOLDER"):
        Gallery.locate()


def test_a_named_folder_without_an_index_hints_at_the_one_above(tmp_path: Path) -> None:
    outer = make(tmp_path / "outer")
    (outer / "sub").mkdir()
    with pytest.raises(GalleryNotFoundError, match=f"the gallery {outer} lies above it"):
        Gallery.locate(outer / "sub")
    with pytest.raises(GalleryNotFoundError, match="Is the disk mounted"):
        Gallery.locate(outer / "nothing")


def test_the_last_used_gallery_may_have_any_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from vitseek.gallery.place import last_used, remember

    odd = tmp_path / os.fsdecode(b"caf\xe9")
    remember(odd)
    assert last_used() == odd


def test_the_index_hides_itself_from_version_control(gallery: Gallery) -> None:
    assert (gallery.path / ".vitseek" / ".gitignore").read_text() == "*\n"
