"""Find the image files below a folder, with one stat each."""

# Paths are bytes here, so that any file name is kept as it is; pathlib takes text only.
# ruff: noqa: PTH116, PTH118

import os
import stat
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from vitseek.gallery.identity import FileStamp, display

INDEX_FOLDER = ".vitseek"


class Found(NamedTuple):
    """An image file: its path relative to the root, and its stamp."""

    raw_path: bytes
    stamp: FileStamp


@dataclass
class Walk:
    """A walk below ``root``; iterate over :meth:`files`, then read what was noticed on the way.

    Hidden files and folders are left out, so ``.vitseek`` is too; so are the folders in ``leave_out`` (other roots).
    A linked folder is followed after all real ones, and every real folder is visited once: a loop of links ends,
    and a picture that is reachable twice is listed under its real path.

    Attributes
    ----------
    unseen
        Folders (relative, ending in "/") and their reason: what lies there is unknown, not deleted.
    mounts
        Folders (relative, ending in "/") on another device than their parent.
    other_files
        How many files were left out because their suffix is not that of an image.
    """

    root: bytes
    suffixes: Collection[str]
    leave_out: Collection[bytes] = ()
    unseen: list[tuple[bytes, str]] = field(default_factory=list)
    mounts: list[bytes] = field(default_factory=list)
    other_files: int = 0

    def __post_init__(self) -> None:
        self._suffixes = tuple(suffix.encode() for suffix in self.suffixes)
        self._visited: set[tuple[int, int]] = set()
        self._links: list[bytes] = []

    def files(self, below: bytes = b"") -> Iterator[Found]:
        """Every image file below ``root/below``, folder by folder in byte order."""
        yield from self._descend(below if not below or below.endswith(b"/") else below + b"/")
        while self._links:
            yield from self._descend(self._links.pop(0))

    def _descend(self, start: bytes) -> Iterator[Found]:
        pending = [start]
        while pending:
            relative = pending.pop()
            folders: list[bytes] = []
            try:
                here = os.stat(os.path.join(self.root, relative))
                if self._seen(here):
                    continue
                with os.scandir(os.path.join(self.root, relative)) as scan:
                    entries = sorted(scan, key=lambda entry: entry.name, reverse=True)
            except OSError as error:
                self.unseen.append((relative, reason_of(error)))
                continue
            while entries:  # each is let go: it keeps what stat said, 0.7 KB, and a folder may hold a million
                entry = entries.pop()
                if entry.name.startswith(b"."):
                    continue
                path = relative + entry.name
                try:
                    if entry.is_dir(follow_symlinks=False):
                        if os.path.join(self.root, path) not in self.leave_out:
                            folders.append(path + b"/")
                            if entry.stat(follow_symlinks=False).st_dev != here.st_dev:
                                self.mounts.append(path + b"/")
                    elif entry.is_symlink() and entry.is_dir():
                        self._links.append(path + b"/")
                    elif self._is_image_name(entry.name):
                        found = entry.stat()  # a link to a picture is a picture
                        if stat.S_ISREG(found.st_mode):
                            yield Found(path, FileStamp.of(found))
                    elif entry.is_symlink() and not os.path.lexists(os.path.realpath(entry.path)):
                        # It may lead to a folder on a disk that is not mounted: its pictures are not deleted.
                        self.unseen.append((path + b"/", "a link to a place that is not there"))
                    else:
                        self.other_files += 1
                except OSError as error:
                    self._broken(path, error)
            pending.extend(reversed(folders))

    def _broken(self, path: bytes, error: OSError) -> None:
        # A link in a circle, a link to nothing, a file that vanished between listing and stat.
        self.unseen.append((path, reason_of(error)))

    def _seen(self, folder: os.stat_result) -> bool:
        key = (folder.st_dev, folder.st_ino)
        if key in self._visited:
            return True
        self._visited.add(key)
        return False

    def _is_image_name(self, name: bytes) -> bool:
        return name.lower().endswith(self._suffixes)


def reason_of(error: OSError) -> str:
    """An operating system error in a few words, without the path (it is shown beside)."""
    return error.strerror or display(str(error).encode("utf-8", "surrogateescape"))
