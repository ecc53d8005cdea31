"""Small copies of the gallery's images: made once, kept on disk by content."""

import os
import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from vitseek.gallery.records import ImageRecord
from vitseek.web.admission import Admission
from vitseek.web.pictures import small_copy

SIDES_PX = {"thumbnail": 480, "preview": 1600}
DEFAULT_LIMIT_BYTES = 2**30
KEEP = 0.8  # share of the limit that is kept when the cache is full: tidying is rare then
STALE_DRAFT_S = 3600
TOUCH_S = 86_400  # a copy that is used is marked so once a day at most


class Thumbnails:
    """A folder of WebP files named by content hash and size.

    Copies are written to a draft and renamed, so that another process never reads half a file. When the folder
    outgrows its limit, the copies that were not used for the longest time go first.

    Parameters
    ----------
    folder
        Where the copies lie; made when the first one is written.
    admission
        Bounds how many are made at the same time, and how many requests wait.
    limit_pixels
        Pictures with more pixels are not decoded.
    limit_bytes
        Size of the folder.
    """

    def __init__(
        self, folder: Path, *, admission: Admission, limit_pixels: int, limit_bytes: int = DEFAULT_LIMIT_BYTES
    ) -> None:
        self._folder = folder
        self._admission = admission
        self._limit_pixels = limit_pixels
        self._limit_bytes = limit_bytes
        self._used_bytes: int | None = None
        self._lock = threading.Lock()
        self._in_work: dict[str, tuple[threading.Lock, int]] = {}

    def get(self, record: ImageRecord, kind: str) -> tuple[bytes, bool]:
        """Return the WebP data of one image, and whether it shows the content that the index knows.

        A file that changed since it was indexed is shown as it is now, but not kept: its hash is not known.

        Raises
        ------
        BusyError
            If too many copies are being made.
        UnreadableImageError, ImageTooLargeError
            If the file cannot be decoded any more.
        """
        if record.content_hash is None or _changed(record):
            with self._admission.enter():
                return self._make(record, kind), False
        name = f"{record.content_hash}-{SIDES_PX[kind]}.webp"
        path = self._folder / name[:2] / name
        if (data := _read(path)) is not None:
            return data, True
        with self._one_at_a_time(name):
            with self._admission.enter():
                if (data := _read(path)) is not None:  # another request made it meanwhile
                    return data, True
                data = self._make(record, kind)
            with suppress(OSError):  # a full or read-only disk: the page works, only slower
                self._keep(path, data)  # before the next one looks
        return data, True

    def _make(self, record: ImageRecord, kind: str) -> bytes:
        return small_copy(record.path, SIDES_PX[kind], limit_pixels=self._limit_pixels)

    @contextmanager
    def _one_at_a_time(self, name: str) -> Iterator[None]:
        with self._lock:
            lock, users = self._in_work.get(name, (threading.Lock(), 0))
            self._in_work[name] = lock, users + 1
        try:
            with lock:
                yield
        finally:
            with self._lock:
                lock, users = self._in_work[name]
                if users == 1:
                    del self._in_work[name]
                else:
                    self._in_work[name] = lock, users - 1

    def _keep(self, path: Path, data: bytes) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_name(f"{path.name}.{secrets.token_hex(4)}.draft")
        try:
            draft.write_bytes(data)
            draft.replace(path)
        finally:
            draft.unlink(missing_ok=True)
        with self._lock:
            if self._used_bytes is None:
                self._used_bytes = sum(size for _, size, _ in self._files())
            else:
                self._used_bytes += len(data)
            if self._used_bytes > self._limit_bytes:
                self._used_bytes = self._tidy()

    def _tidy(self) -> int:
        """Delete the longest unused copies; returns the bytes that stay."""
        files = sorted(self._files())
        used = sum(size for _, size, _ in files)
        for used_at, size, path in files:
            draft = path.suffix == ".draft"
            if draft and time.time() - used_at < STALE_DRAFT_S:
                continue
            if used <= self._limit_bytes * KEEP and not draft:
                break
            path.unlink(missing_ok=True)
            used -= size
        return used

    def _files(self) -> Iterator[tuple[float, int, Path]]:
        for folder in self._folder.iterdir() if self._folder.is_dir() else ():
            for entry in os.scandir(folder) if folder.is_dir() else ():
                with suppress(FileNotFoundError):
                    stat = entry.stat()
                    yield stat.st_mtime, stat.st_size, Path(entry.path)


def _read(path: Path) -> bytes | None:
    try:
        data = path.read_bytes()
        if time.time() - path.stat().st_mtime > TOUCH_S:
            os.utime(path)
    except FileNotFoundError:
        return None
    except OSError:  # a disk that cannot be read, or not be marked: make the copy anew
        return None
    return data


def _changed(record: ImageRecord) -> bool:
    try:
        stat = record.path.stat()
    except OSError:
        return False  # gone or offline: a copy may still be there to show
    return stat.st_size != record.bytes
