import sqlite3
from pathlib import Path

import pytest

from tests.gallery.fake_model import FakeModel
from vitseek.errors import GalleryNotFoundError
from vitseek.gallery.gallery import Gallery
from vitseek.gallery.recovery import recover


def damage(file: Path, name: str) -> None:
    """Overwrite the first page of a table."""
    connection = sqlite3.connect(file)
    page = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = ?", (name,)).fetchone()[0]
    size = connection.execute("PRAGMA page_size").fetchone()[0]
    connection.close()
    data = bytearray(file.read_bytes())
    data[(page - 1) * size : page * size] = b"\xff" * size
    file.write_bytes(data)


def test_a_rebuilt_index_keeps_ids_labels_and_vectors(gallery: Gallery, model: FakeModel) -> None:
    gallery.add_labels([2, 3], "mine")
    expected = {record.relative_path: (record.id, record.labels) for record in gallery.images()}
    gallery.close()
    saved = recover(gallery.path)
    assert (saved.images, saved.vectors, saved.labels, saved.problems) == (7, 7, 9, [])
    assert saved.aside.is_file()
    with Gallery(gallery.path, model=model) as again:
        report = again.index()
        assert (report.unchanged, report.embedded) == (7, 0)
        assert {record.relative_path: (record.id, record.labels) for record in again.images()} == expected
        assert again.check() == []


@pytest.mark.parametrize("table", ["vectors", "images_by_content", "runs", "contents"])
def test_what_a_damaged_table_lost_is_made_again(gallery: Gallery, model: FakeModel, table: str) -> None:
    gallery.add_labels([2, 3], "mine")
    before = {record.relative_path: record.content_hash for record in gallery.images()}
    gallery.close()
    damage(gallery.path / ".vitseek" / "index.db", table)
    saved = recover(gallery.path)
    assert saved.labels == 9
    with Gallery(gallery.path, model=model) as again:
        report = again.index()
        assert (report.images, report.removed) == (7, 0)
        assert {record.relative_path: record.content_hash for record in again.images()} == before
        assert again.status().labels["mine"] == 2
        assert again.check() == []


def test_a_file_of_rubbish_is_set_aside_and_everything_is_indexed_again(gallery: Gallery, model: FakeModel) -> None:
    gallery.close()
    file = gallery.path / ".vitseek" / "index.db"
    file.write_bytes(b"rubbish" * 4000)
    saved = recover(gallery.path)
    assert saved.problems
    assert saved.aside.read_bytes().startswith(b"rubbish")
    with Gallery(gallery.path, model=model) as again:
        assert again.index().new == 7


def test_nothing_to_rebuild_is_said(tmp_path: Path) -> None:
    with pytest.raises(GalleryNotFoundError, match="no index to rebuild"):
        recover(tmp_path)
