import json
from pathlib import Path

import numpy as np
import pytest

from tests.gallery.conftest import Draw
from tests.gallery.fake_model import FakeModel
from vitseek.gallery import matrix as module
from vitseek.gallery.gallery import Gallery
from vitseek.gallery.matrix import unit_rows


def cache_of(gallery: Gallery) -> Path:
    return gallery.path / ".vitseek" / "cache" / "space-1.matrix"


def reopened(gallery: Gallery, model: FakeModel) -> Gallery:
    return Gallery(gallery.path, model=model)


def state(gallery: Gallery) -> str:
    return gallery.status().spaces[0].cache


def test_indexing_writes_the_cache_and_a_new_process_maps_it(gallery: Gallery, model: FakeModel) -> None:
    assert state(gallery) == "current"
    with reopened(gallery, model) as other:
        _, rows = other.vectors()
        assert isinstance(rows.base, np.memmap)
        assert not rows.flags.writeable


@pytest.mark.parametrize(
    "size", [0, 100, 4096, 4200, -1], ids=["empty", "header cut", "no rows", "rows cut", "one byte"]
)
def test_a_cut_off_cache_is_made_again(gallery: Gallery, model: FakeModel, size: int) -> None:
    expected = gallery.search(1, k=7)
    file = cache_of(gallery)
    file.write_bytes(file.read_bytes()[:size])
    with reopened(gallery, model) as other:
        assert state(other) == "damaged"
        assert other.search(1, k=7) == expected
        assert state(other) == "current"


@pytest.mark.parametrize("place", [3, 50, 4096, 4500, -3])
def test_a_changed_byte_anywhere_is_noticed(gallery: Gallery, model: FakeModel, place: int) -> None:
    expected = gallery.search(1, k=7)
    data = bytearray(cache_of(gallery).read_bytes())
    data[place] ^= 0x10
    cache_of(gallery).write_bytes(data)
    with reopened(gallery, model) as other:
        assert state(other) == "damaged"
        assert other.search(1, k=7) == expected


def test_zeroed_rows_of_a_large_cache_are_noticed(
    gallery: Gallery, model: FakeModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CHECK_ALL_BELOW_BYTES", 0)  # as if it were too large to be read whole
    data = bytearray(cache_of(gallery).read_bytes())
    with reopened(gallery, model) as other:
        assert state(other) == "current"
    data[4096 : 4096 + 7 * 13 * 4] = bytes(7 * 13 * 4)
    cache_of(gallery).write_bytes(data)
    with reopened(gallery, model) as other:
        assert state(other) == "damaged"


def test_a_deleted_cache_is_made_again(gallery: Gallery, model: FakeModel) -> None:
    expected = gallery.search(1, k=7)
    cache_of(gallery).unlink()
    with reopened(gallery, model) as other:
        assert state(other) == "missing"
        assert other.search(1, k=7) == expected
        assert state(other) == "current"


def test_the_cache_of_another_gallery_is_not_taken(
    gallery: Gallery, tmp_path: Path, draw: Draw, model: FakeModel
) -> None:
    for seed in range(7):
        draw(tmp_path / "other" / f"{seed}.png", seed)
    with Gallery(tmp_path / "other", model=model) as other:
        other.index()
        data = cache_of(other).read_bytes()
    cache_of(gallery).write_bytes(data)
    with reopened(gallery, model) as again:
        assert state(again) == "damaged"
        assert again.search(1)[0].score == pytest.approx(1)


def test_readers_notice_what_another_process_indexed(
    gallery: Gallery, photos: Path, draw: Draw, model: FakeModel
) -> None:
    with reopened(gallery, model) as reader:
        assert len(reader.search(1, k=100)) == 7
        new = draw(photos / "new.png", 8)
        gallery.index()
        assert reader.search(new)[0].path == new
        new.unlink()
        gallery.index()
        assert len(reader.search(1, k=100)) == 7


def test_a_reader_adds_the_new_rows_while_another_writes(
    gallery: Gallery, photos: Path, draw: Draw, model: FakeModel
) -> None:
    with reopened(gallery, model) as reader:
        before_ids, before_rows = reader.vectors()
        stamp = cache_of(gallery).stat().st_mtime_ns
        draw(photos / "new.png", 8)
        (photos / "red" / "red-0.png").unlink()
        gallery._matrices.write = lambda space: None  # type: ignore[method-assign]  # as if it were still at work
        gallery.index()
        with gallery._lock("indexing"):
            ids, rows = reader.vectors()
        assert cache_of(gallery).stat().st_mtime_ns == stamp
        assert len(ids) == 7
        assert set(before_ids.tolist()) - set(ids.tolist()) == {5}
        for number, row in zip(ids.tolist(), rows, strict=True):
            if number in before_ids:
                np.testing.assert_array_equal(row, before_rows[before_ids.tolist().index(number)])
    with reopened(gallery, model) as fresh:
        np.testing.assert_array_equal(fresh.vectors()[1], rows)


def test_the_stored_vectors_are_the_models_own(gallery: Gallery, model: FakeModel, photos: Path) -> None:
    path = photos / "red" / "red-0.png"
    space = gallery.space()
    stored = gallery._catalog.vectors(space, [gallery.image_id(path)])
    np.testing.assert_array_equal(next(iter(stored.values())), model.embed([path])[0])


def test_unit_rows_have_length_one_and_zero_stays_zero(rng: np.random.Generator) -> None:
    vectors = rng.normal(size=(5, 17)).astype(np.float32) * np.float32(1e-18)
    vectors[2] = 0
    rows = unit_rows(vectors)
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), [1, 1, 0, 1, 1], atol=1e-6)
    assert rows.dtype == np.float32


def test_a_cache_that_cannot_be_written_only_costs_time(
    gallery: Gallery, model: FakeModel, photos: Path, draw: Draw, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module.MatrixCache, "write", full)
    draw(photos / "new.png", 8)
    report = gallery.index()
    assert "No space left on device" in report.notes[0]
    with reopened(gallery, model) as other:
        assert len(other.search(1, k=100)) == 8


def test_the_header_says_what_it_is(gallery: Gallery) -> None:
    header = json.loads(cache_of(gallery).read_bytes()[9:4096])
    assert (header["magic"], header["count"], header["dim"], header["space"]) == ("vitseek matrix 1", 7, 13, 1)


def test_rebuild_and_check(gallery: Gallery) -> None:
    data = bytearray(cache_of(gallery).read_bytes())
    data[4100] ^= 1
    cache_of(gallery).write_bytes(data)
    assert ["cache file is damaged" in problem for problem in gallery.check()] == [True]
    gallery.rebuild()
    assert gallery.check() == []
