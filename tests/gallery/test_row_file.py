"""A matrix in a file that is read, not mapped."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from vitseek.gallery.row_file import RowFile

OFFSET = 13


@pytest.fixture
def matrix(rng: np.random.Generator) -> np.ndarray:
    return rng.standard_normal((23, 7), dtype=np.float32)


@pytest.fixture
def file(tmp_path: Path, matrix: np.ndarray) -> Path:
    path = tmp_path / "rows"
    path.write_bytes(b"x" * OFFSET + matrix.astype("<f4").tobytes() + b"ids")
    return path


def test_slices_and_row_numbers_give_what_an_array_gives(file: Path, matrix: np.ndarray) -> None:
    with RowFile(file, OFFSET, matrix.shape) as rows:
        assert (len(rows), rows.shape) == (23, (23, 7))
        for wanted in (slice(None), slice(3, 11), slice(20, 40), slice(9, 2), np.array([22, 0, 5, 5]), np.arange(0)):
            found = rows[wanted]
            np.testing.assert_array_equal(found, matrix[wanted])
            assert found.dtype == np.float32
        with pytest.raises(ValueError, match="steps of 2"):
            rows[::2]


def test_a_file_that_is_too_short_is_an_error_of_the_disk(file: Path, matrix: np.ndarray) -> None:
    with RowFile(file, OFFSET, (24, 7)) as rows, pytest.raises(OSError, match="ends within the rows from 16 on"):
        rows[16:]


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="only Linux tells the peak since a moment")
def test_memory_for_the_short_rows_does_not_grow_with_the_gallery(tmp_path: Path) -> None:
    program = """
import sys
from pathlib import Path
import numpy as np
from vitseek.gallery.prefixes import write_prefix
from vitseek.gallery.row_file import RowFile

def memory(word):
    [line] = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(word)]
    return int(line.split()[1]) / 1024

rng, count, dim = np.random.default_rng(0), int(sys.argv[1]), 384
spread = (np.arange(1, dim + 1) ** -0.7).astype(np.float32)
with Path("rows").open("wb") as out:
    for _ in range(count // 10_000):
        out.write((rng.standard_normal((10_000, dim), dtype=np.float32) * spread).tobytes())
Path("/proc/self/clear_refs").write_text("5")
before = memory("VmRSS")
with RowFile(Path("rows"), 0, (count, dim)) as rows:
    write_prefix(Path("short"), rows, rows_crc=1)
assert Path("short").stat().st_size > 100 * count, "there is a prefix"
print(memory("VmHWM") - before)
"""
    added = [
        float(
            subprocess.run(
                [sys.executable, "-c", program, str(count)], cwd=tmp_path, capture_output=True, text=True, check=True
            ).stdout
        )
        for count in (60_000, 240_000)
    ]
    assert added[1] < added[0] + 20, "MiB"
    assert added[1] < 150
