"""The unit vectors of a space as one memory-mapped matrix: a cache of what SQLite holds.

File: a header (JSON, padded to 4096 bytes), the matrix (n, D) float32, the image ids (n) int64; little endian.
It is written beside and renamed, so that a reader maps the old one or the new one, never half of one; its
generation is compared with the index before every search. Whatever is wrong with it, it is made again.
"""

import contextlib
import os
import threading
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from vitseek.gallery.lock import writer
from vitseek.gallery.place import Layout
from vitseek.gallery.prefixes import FROM_ROWS, read_prefix, write_prefix
from vitseek.gallery.row_file import RowFile
from vitseek.gallery.sealed import HEADER_BYTES, seal, unseal
from vitseek.gallery.spaces import Space
from vitseek.gallery.stores.catalog import Catalog
from vitseek.search import prefix as bounds
from vitseek.search.exact import top_k

MAGIC = "vitseek matrix 1"
CHECK_ALL_BELOW_BYTES = 32 << 20  # reading this much again costs about 10 ms; above it, rows are sampled
SAMPLED_ROWS = 64
UNIT_TOLERANCE = 1e-4
DELTA_SHARE = 0.25  # with more new rows than this, streaming everything is as fast

CacheState = Literal["current", "stale", "missing", "damaged"]


@dataclass(frozen=True, slots=True)
class Matrix:
    """Unit rows and the image each belongs to, ids ascending: equal scores come in the order of ids."""

    ids: NDArray[np.int64]
    rows: NDArray[np.float32]
    generation: int
    epoch: int
    prefix: bounds.Prefix | None = None

    def nearest(
        self, vectors: NDArray[np.float32], k: int, *, rows: NDArray[np.int64] | None = None
    ) -> tuple[NDArray[np.floating], NDArray[np.int64]]:
        """What :func:`vitseek.search.exact.top_k` finds, with the same arguments; by bounds where there are some."""
        if self.prefix is None:
            return top_k(self.rows, vectors, k, rows=rows)
        return bounds.search(self.rows, vectors, k, self.prefix, rows=rows)

    def rows_of(self, ids: NDArray[np.int64]) -> NDArray[np.int64]:
        """Row numbers of those ``ids`` that have a vector here."""
        if len(self.ids) == 0:
            return np.empty(0, np.int64)
        places = np.minimum(np.searchsorted(self.ids, ids), len(self.ids) - 1)
        found: NDArray[np.int64] = places[self.ids[places] == ids]
        return found


class DamagedCacheError(Exception):
    """The cache file does not hold together; nobody outside this module sees it."""


class MatrixCache:
    """The current matrix of each space, for every thread of this process."""

    def __init__(self, catalog: Catalog, layout: Layout) -> None:
        self._catalog = catalog
        self._layout = layout
        self._held: dict[int, Matrix] = {}
        self._mutex = threading.Lock()
        self._identity = catalog.meta("gallery_id") or ""

    def get(self, space: Space) -> Matrix:
        """The matrix of a space as the index is now."""
        with self._mutex:
            held = self._held.get(space.id)
            if held and self._is_current(held, space):
                return held
            try:
                found = self._read(space)
            except (OSError, DamagedCacheError):
                found = None
            if found is None or (held and held.generation > found.generation):
                found = held
            if found is None or not self._is_current(found, space):
                found = self._refreshed(found, space)
            self._held[space.id] = found
            return found

    def _is_current(self, matrix: Matrix, space: Space) -> bool:
        return matrix.generation == self._catalog.generation and matrix.epoch == self._epoch(space)

    def _epoch(self, space: Space) -> int:
        return int(self._catalog.database.value("SELECT epoch FROM spaces WHERE id = ?", (space.id,)) or 0)

    def _refreshed(self, old: Matrix | None, space: Space) -> Matrix:
        # Another process may be writing for hours: its new rows are added in memory, and it writes the file at the end.
        alone = writer(self._layout.lock) is None
        if old is not None and old.epoch == self._epoch(space):
            matrix = self._with_changes(old, space)
            if matrix is not None:
                if alone and len(matrix.ids) - len(old.ids) > 1000:
                    self._write_quietly(space)
                return matrix
        if alone and self._write_quietly(space):
            try:
                return self._read(space)
            except (OSError, DamagedCacheError):
                pass
        return self._in_memory(space)

    def _with_changes(self, old: Matrix, space: Space) -> Matrix | None:
        catalog = self._catalog
        with catalog.database.reading():
            generation, epoch = catalog.generation, self._epoch(space)
            ids = catalog.ids_in_space(space.id)
            new = np.setdiff1d(ids, old.ids, assume_unique=True)
            if epoch != old.epoch or len(new) > DELTA_SHARE * max(1, len(ids)):
                return None
            fresh = catalog.vectors(space, new.tolist())
        rows = np.empty((len(ids), space.key.dim), np.float32)
        is_new = np.isin(ids, new, assume_unique=True)
        rows[~is_new] = old.rows[np.isin(old.ids, ids, assume_unique=True)]
        if len(new):
            rows[is_new] = unit_rows(np.stack([fresh[number] for number in ids[is_new].tolist()]))
        return Matrix(ids, rows, generation, epoch)

    def _in_memory(self, space: Space) -> Matrix:
        catalog = self._catalog
        with catalog.database.reading():
            generation, epoch = catalog.generation, self._epoch(space)
            pieces = [(ids, unit_rows(vectors)) for ids, vectors in catalog.stream_vectors(space)]
        ids = np.concatenate([np.empty(0, np.int64), *(piece[0] for piece in pieces)])
        rows = np.concatenate([np.empty((0, space.key.dim), np.float32), *(piece[1] for piece in pieces)])
        return Matrix(ids, rows, generation, epoch)

    # -- the file

    def file(self, space: Space) -> Path:
        return self._layout.cache / f"space-{space.id}.matrix"

    def write(self, space: Space) -> None:
        """Make the cache file of a space anew from the index; memory does not grow with the gallery."""
        self._layout.cache.mkdir(parents=True, exist_ok=True)
        target = self.file(space)
        temporary = target.with_name(f"{target.name}.{os.getpid()}-{threading.get_ident()}.tmp")
        try:
            with temporary.open("wb") as out, self._catalog.database.reading():
                header: dict[str, Any] = {
                    "magic": MAGIC,
                    "gallery": self._identity,
                    "space": space.id,
                    "generation": self._catalog.generation,
                    "epoch": self._epoch(space),
                    "dim": space.key.dim,
                }
                out.write(b"\0" * HEADER_BYTES)
                all_ids, crc = [np.empty(0, np.int64)], 0
                for ids, vectors in self._catalog.stream_vectors(space):
                    data = unit_rows(vectors).astype("<f4", copy=False).tobytes()
                    crc = zlib.crc32(data, crc)
                    out.write(data)
                    all_ids.append(ids)
                ids_data = np.concatenate(all_ids).astype("<i8").tobytes()
                out.write(ids_data)
                header |= {"count": len(ids_data) // 8, "rows_crc": crc, "ids_crc": zlib.crc32(ids_data)}
                out.seek(0)
                out.write(seal(header))
                out.flush()
                os.fsync(out.fileno())
            temporary.replace(target)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        self._write_prefix(space, header)

    def _write_prefix(self, space: Space, header: dict[str, Any]) -> None:
        if header["count"] < FROM_ROWS:
            self._prefix_file(space).unlink(missing_ok=True)
            return
        shape = header["count"], header["dim"]
        # Without it the search reads everything and finds the same; the next run tries again.
        with contextlib.suppress(OSError), RowFile(self.file(space), HEADER_BYTES, shape) as rows:
            write_prefix(self._prefix_file(space), rows, rows_crc=header["rows_crc"])

    def _prefix_file(self, space: Space) -> Path:
        return self.file(space).with_suffix(".prefix")

    def _write_quietly(self, space: Space) -> bool:
        if self._catalog.database.read_only:
            return False
        try:
            self.write(space)
        except OSError:  # a full disk, no right to write: the matrix is kept in memory instead
            return False
        return True

    def _read(self, space: Space) -> Matrix:
        file = self.file(space)
        header = self._header(file, space)
        count, dim = header["count"], header["dim"]
        if file.stat().st_size != HEADER_BYTES + count * (dim * 4 + 8):
            raise DamagedCacheError("wrong size")
        ids = np.fromfile(file, "<i8", count, offset=HEADER_BYTES + count * dim * 4).astype(np.int64, copy=False)
        if zlib.crc32(ids.astype("<i8", copy=False).tobytes()) != header["ids_crc"]:
            raise DamagedCacheError("ids")
        if count == 0:
            rows: NDArray[np.float32] = np.empty((0, dim), np.float32)
        else:
            rows = np.memmap(file, "<f4", "r", HEADER_BYTES, (count, dim)).view(np.ndarray)
        self._check_rows(rows, header)
        short = None
        if count >= FROM_ROWS:
            short = read_prefix(self._prefix_file(space), rows, rows_crc=header["rows_crc"])
        return Matrix(ids, rows, header["generation"], header["epoch"], short)

    def _header(self, file: Path, space: Space) -> dict[str, Any]:
        with file.open("rb") as stream:
            sealed = stream.read(HEADER_BYTES)
        try:
            header = unseal(sealed, magic=MAGIC)
        except ValueError as error:
            raise DamagedCacheError("header") from error
        if (header.get("gallery"), header.get("space"), header.get("dim")) != (
            self._identity,
            space.id,
            space.key.dim,
        ):
            raise DamagedCacheError("of another space")
        return header

    @staticmethod
    def _check_rows(rows: NDArray[np.float32], header: dict[str, Any], *, all_of_them: bool = False) -> None:
        if all_of_them or rows.nbytes <= CHECK_ALL_BELOW_BYTES:
            if zlib.crc32(np.ascontiguousarray(rows).data) != header["rows_crc"]:
                raise DamagedCacheError("rows")
            return
        sample = rows[np.linspace(0, len(rows) - 1, SAMPLED_ROWS).astype(np.int64)].astype(np.float64)
        lengths = np.sqrt((sample**2).sum(axis=1))
        if not np.all((np.abs(lengths - 1) < UNIT_TOLERANCE) | (lengths == 0)) or not lengths.any():
            raise DamagedCacheError("rows")

    def state(self, space: Space, *, thorough: bool = False) -> CacheState:
        """How the cache file stands to the index."""
        file = self.file(space)
        if not file.is_file():
            return "missing"
        try:
            matrix = self._read(space)
            if thorough:
                self._check_rows(matrix.rows, self._header(file, space), all_of_them=True)
        except (OSError, DamagedCacheError):
            return "damaged"
        return "current" if self._is_current(matrix, space) else "stale"

    def remove(self, space: Space) -> None:
        """Let go of a space that is gone, and of its file."""
        with self._mutex:
            self._held.pop(space.id, None)
        self.file(space).unlink(missing_ok=True)
        self._prefix_file(space).unlink(missing_ok=True)

    def forget(self) -> None:
        """Let go of the mapped files."""
        with self._mutex:
            self._held.clear()


def unit_rows(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Each row scaled to length one (lengths in float64); a zero row stays zero and matches nothing."""
    wide = vectors.astype(np.float64)
    lengths = np.sqrt((wide**2).sum(axis=1, keepdims=True))
    lengths[lengths == 0] = 1
    unit: NDArray[np.float32] = (wide / lengths).astype(np.float32)
    return unit
