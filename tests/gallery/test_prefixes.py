"""The file with the short rows of a large space."""

from pathlib import Path

import numpy as np
import pytest

from tests.gallery.fake_model import FakeModel
from tests.search.test_prefix import low_rank
from vitseek.gallery import matrix as matrix_module
from vitseek.gallery import prefixes
from vitseek.gallery.gallery import Gallery
from vitseek.gallery.prefixes import read_prefix, write_prefix
from vitseek.search import prefix
from vitseek.search.exact import top_k

CRC = 17


@pytest.fixture
def matrix(rng: np.random.Generator) -> np.ndarray:
    return low_rank(rng, 2003)


@pytest.fixture
def written(tmp_path: Path, matrix: np.ndarray) -> Path:
    file = tmp_path / "space-1.prefix"
    write_prefix(file, matrix, rows_crc=CRC)
    return file


def test_what_was_written_is_mapped_and_finds_what_exact_search_finds(written: Path, matrix: np.ndarray) -> None:
    held = read_prefix(written, matrix, rows_crc=CRC)

    assert held is not None
    assert isinstance(held.rows.base, np.memmap)
    for ours, exact in zip(prefix.search(matrix, matrix[:3], 7, held), top_k(matrix, matrix[:3], 7), strict=True):
        np.testing.assert_array_equal(ours, exact)
    assert not list(written.parent.glob("*.tmp"))


def test_the_prefix_of_another_matrix_is_not_used(written: Path, matrix: np.ndarray) -> None:
    assert read_prefix(written, matrix, rows_crc=CRC + 1) is None
    assert read_prefix(written, matrix[:-1], rows_crc=CRC) is None
    assert read_prefix(written, matrix[::-1], rows_crc=CRC) is None  # the rows themselves disagree


@pytest.mark.parametrize("place", [0, 30, 4096, 5000, -5])
def test_a_damaged_prefix_is_not_used(written: Path, matrix: np.ndarray, place: int) -> None:
    data = bytearray(written.read_bytes())
    data[place] ^= 0x40
    written.write_bytes(data)

    assert read_prefix(written, matrix, rows_crc=CRC) is None


@pytest.mark.parametrize("size", [0, 100, 4096, 9000, -1])
def test_a_cut_off_prefix_is_not_used(written: Path, matrix: np.ndarray, size: int) -> None:
    written.write_bytes(written.read_bytes()[:size])

    assert read_prefix(written, matrix, rows_crc=CRC) is None


def test_a_missing_prefix_is_none(tmp_path: Path, matrix: np.ndarray) -> None:
    assert read_prefix(tmp_path / "none", matrix, rows_crc=CRC) is None


def test_where_no_prefix_is_worthwhile_none_is_kept(tmp_path: Path, rng: np.random.Generator) -> None:
    rows = rng.standard_normal((2003, 97))
    rows = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    file = tmp_path / "space-1.prefix"
    write_prefix(file, rows, rows_crc=CRC)

    assert file.stat().st_size == prefixes.HEADER_BYTES
    assert read_prefix(file, rows, rows_crc=CRC) is None


def test_a_large_gallery_is_searched_by_bounds_with_the_same_results(
    gallery: Gallery, model: FakeModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = gallery.search(1, k=7), gallery.search(2, k=3, where="bytes>1")
    for module in (matrix_module, prefixes):
        monkeypatch.setattr(module, "FROM_ROWS", 1)
    monkeypatch.setattr(prefixes, "choose_width", lambda matrix, axes: 3)
    monkeypatch.setattr(prefix, "NOT_ENOUGH_TO_GAIN", 1)
    file = gallery.path / ".vitseek" / "cache" / "space-1.prefix"
    used: list[int] = []
    usual = prefix.search
    monkeypatch.setattr(prefix, "search", lambda *args, **named: used.append(1) or usual(*args, **named))
    with Gallery(gallery.path, model=model) as other:
        other.rebuild()

        assert file.is_file()
        assert (other.search(1, k=7), other.search(2, k=3, where="bytes>1")) == expected
        assert len(used) == 2

        file.write_bytes(b"spoiled")
    with Gallery(gallery.path, model=model) as other:
        assert other.search(1, k=7) == expected[0]
        assert len(used) == 2
