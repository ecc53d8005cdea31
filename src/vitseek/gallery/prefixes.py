"""The file with the short rows that bound scores, beside the matrix of a large space (:mod:`vitseek.search.prefix`).

A cache of a cache: it is written after the matrix, belongs to exactly that one (by the checksum of its rows), and
whatever is wrong with it, it is not used. File: a header (JSON, padded to 4096 bytes), the axes (D, p) and the rows
(n, p + 1), float32, little endian. A header with width 0 says that no prefix is worthwhile.
"""

import os
import threading
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vitseek.gallery.sealed import HEADER_BYTES, seal, unseal
from vitseek.search.prefix import BUILD_ROWS, Prefix, RowSource, build, choose_width, principal_axes

MAGIC = "vitseek prefix 1"
FROM_ROWS = 100_000  # below, exact search takes no more than 6 ms
CHECKED_ROWS = 64
TOLERANCE = 1e-4

Rows = NDArray[np.float32]


def write_prefix(file: Path, matrix: RowSource, *, rows_crc: int) -> None:
    """Write the prefix of a matrix whose rows have that checksum; a part of them is in memory at a time.

    Raises
    ------
    OSError
        If the disk is full, or there is no right to write.
    """
    axes = principal_axes(matrix)
    width = choose_width(matrix, axes) or 0
    header = {"magic": MAGIC, "rows_crc": rows_crc, "count": len(matrix), "dim": matrix.shape[1], "width": width}
    temporary = file.with_name(f"{file.name}.{os.getpid()}-{threading.get_ident()}.tmp")
    try:
        with temporary.open("wb") as out:
            front = np.ascontiguousarray(axes[:, :width], "<f4").tobytes()
            out.write(seal(header | {"axes_crc": zlib.crc32(front)}))
            out.write(front)
            for start in range(0, len(matrix) if width else 0, BUILD_ROWS):
                short = build(matrix[start : start + BUILD_ROWS], axes, width)
                out.write(short.rows.astype("<f4", copy=False).tobytes())
        temporary.replace(file)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def read_prefix(file: Path, matrix: Rows, *, rows_crc: int) -> Prefix | None:
    """Map the prefix of a matrix; None if there is none, or none that belongs to it."""
    try:
        with file.open("rb") as stream:
            header = unseal(stream.read(HEADER_BYTES), magic=MAGIC)
            if (header["rows_crc"], header["count"], header["dim"]) != (rows_crc, *matrix.shape):
                return None
            width = int(header["width"])
            front = stream.read(4 * matrix.shape[1] * width)
        size = HEADER_BYTES + len(front) + 4 * len(matrix) * (width + 1)
        if not width or file.stat().st_size != size or zlib.crc32(front) != header["axes_crc"]:
            return None
        axes = np.frombuffer(front, "<f4").reshape(matrix.shape[1], width)
        rows = np.memmap(file, "<f4", "r", HEADER_BYTES + len(front), (len(matrix), width + 1)).view(np.ndarray)
    except (OSError, ValueError, KeyError, TypeError):
        return None
    prefix = Prefix(axes.astype(np.float32, copy=False), rows)
    return prefix if _agrees(prefix, matrix) else None


def _agrees(prefix: Prefix, matrix: Rows) -> bool:
    """Whether some rows are what they should be; reading all would take as long as a search without a prefix."""
    chosen = np.linspace(0, len(matrix) - 1, CHECKED_ROWS).astype(np.int64)
    fresh = build(matrix[chosen], prefix.axes, prefix.axes.shape[1])
    return bool(np.allclose(prefix.rows[chosen], fresh.rows, atol=TOLERANCE))
