"""When two files are the same: by their stamp (a stat) and by their content (a hash)."""

import hashlib
import os
import time
from dataclasses import dataclass
from typing import BinaryIO

# A file written after its content was read, but within the clock's step (2 s on FAT), keeps its stamp.
# Git calls such an entry "racily clean" (its Documentation/technical/racy-git); like git, we read it again.
RACY_NS = 2_000_000_000


@dataclass(frozen=True, slots=True)
class FileStamp:
    """What a stat tells of a file's content.

    ``ctime_ns`` sees what size and mtime do not: two files of equal size and mtime that were swapped by renaming
    (photos unpacked from one archive), and a copy that keeps the date.
    """

    bytes: int
    mtime_ns: int
    ctime_ns: int

    @classmethod
    def of(cls, stat: os.stat_result) -> "FileStamp":
        return cls(stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)


def content_hash(file: BinaryIO) -> bytes:
    """sha256 of a file from its start; the position is back at the start afterwards."""
    file.seek(0)
    digest = hashlib.file_digest(file, "sha256").digest()  # type: ignore[arg-type]  # it needs readinto; all have it
    file.seek(0)
    return digest


def now_ns() -> int:
    """The wall clock that file times are compared with."""
    return time.time_ns()


def display(raw_path: bytes) -> str:
    """A path for people and filters: bytes that are not UTF-8 become visible escapes."""
    return raw_path.decode("utf-8", "backslashreplace")
