"""A large checkpoint is gone through without holding it."""

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from vitseek.weights.formats import read_arrays

SMAPS = Path("/proc/self/smaps")
COUNT, ROWS, COLUMNS = 7, 613, 1031  # 2.5 MB each


def resident_bytes(file: Path) -> int:
    """What this process holds of a mapped file."""
    of_the_file, total = False, 0
    for line in SMAPS.read_text("ascii", "replace").splitlines():
        if "-" in line.split()[0] and not line.split()[0].endswith(":"):
            of_the_file = line.endswith(str(file))
        elif of_the_file and line.startswith("Rss:"):
            total += int(line.split()[1]) * 1024
    return total


@pytest.fixture
def arrays(rng: np.random.Generator) -> dict[str, np.ndarray]:
    return {f"{place}": rng.normal(size=(ROWS, COLUMNS)).astype(np.float32) for place in range(COUNT)}


@pytest.mark.skipif(not SMAPS.exists(), reason="only Linux tells what is resident")
def test_arrays_that_were_looked_at_leave_memory(tmp_path: Path, arrays: dict[str, np.ndarray]) -> None:
    file = tmp_path / "model.safetensors"
    save_file(arrays, file)
    stored = read_arrays(file)
    resident = []
    for name in arrays:
        assert stored[name].sum() == arrays[name].sum()
        resident.append(resident_bytes(file))
    each = ROWS * COLUMNS * 4
    assert min(resident) >= each * 0.9  # or the record is not what it seems
    assert max(resident) < 2 * each


def test_an_array_that_left_memory_comes_back_when_it_is_used(tmp_path: Path, arrays: dict[str, np.ndarray]) -> None:
    save_file(arrays, tmp_path / "model.safetensors")
    stored = read_arrays(tmp_path / "model.safetensors")
    held = {name: stored[name] for name in arrays}
    for name, array in arrays.items():
        np.testing.assert_array_equal(held[name], array)
