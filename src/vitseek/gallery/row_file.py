"""Rows of a large file, read when they are asked for."""

from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray


class RowFile:
    """A matrix of float32, little endian, in a file; slices and row numbers give arrays of their own.

    For going through a matrix once: what is mapped counts as memory of this process, up to the whole file. A context
    manager.

    Parameters
    ----------
    file
        Of at least ``offset_bytes`` and the matrix.
    offset_bytes
        Where the matrix begins.
    shape
        (n, D).
    """

    def __init__(self, file: Path, offset_bytes: int, shape: tuple[int, int]) -> None:
        self.shape = shape
        self._offset_bytes = offset_bytes
        self._row_bytes = 4 * shape[1]
        self._stream = file.open("rb")

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, wanted: slice | NDArray[np.int64]) -> NDArray[np.float32]:
        if isinstance(wanted, slice):
            start, stop, step = wanted.indices(len(self))
            if step != 1:
                raise ValueError(f"rows are read one after the other, not in steps of {step}")
            rows = np.empty((max(0, stop - start), self.shape[1]), "<f4")
            self._read(start, rows)
        else:
            rows = np.empty((len(wanted), self.shape[1]), "<f4")
            for place, number in enumerate(wanted.tolist()):
                self._read(number, rows[place])
        return rows.astype(np.float32, copy=False)

    def _read(self, start: int, rows: NDArray[np.float32]) -> None:
        self._stream.seek(self._offset_bytes + start * self._row_bytes)
        if self._stream.readinto(rows.view(np.uint8).data) < rows.nbytes:
            raise OSError(f"{self._stream.name} ends within the rows from {start} on")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stream.close()
