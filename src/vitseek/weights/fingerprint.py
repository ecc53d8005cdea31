"""The sha256 of a weights file, computed once per state of the file."""

import hashlib
import json
import os
import tempfile
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from vitseek.paths import cache_dir


def sha256_of(files: Iterable[Path]) -> str:
    """The sha256 of one file, or of the list of names and sha256 of several.

    The result is remembered in the cache folder under the file's path, size and modification time: hashing
    350 MB would otherwise cost every start.
    """
    digests = [(file.name, file_sha256(file)) for file in files]
    if len(digests) == 1:
        return digests[0][1]
    return hashlib.sha256("".join(f"{name} {digest}\n" for name, digest in digests).encode()).hexdigest()


def file_sha256(file: Path) -> str:
    """The sha256 of one file, from the cache where the file has not changed since."""
    with suppress(OSError, ValueError):
        digest = _place(file).read_text("ascii").strip()
        if len(bytes.fromhex(digest)) == hashlib.sha256().digest_size:
            return digest
    with file.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    remember(file, digest)
    return digest


def remember(file: Path, digest: str) -> None:
    """Keep a sha256 that is known already, for the file as it is now."""
    with suppress(OSError):  # a full or read-only disk costs time, not the answer
        _write(_place(file), digest)


def _place(file: Path) -> Path:
    status = file.stat()
    key = json.dumps([str(file.resolve()), status.st_size, status.st_mtime_ns])
    return cache_dir() / "sha256" / hashlib.sha256(key.encode()).hexdigest()


def _write(place: Path, text: str) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=place.parent)
    try:
        with os.fdopen(handle, "w", encoding="ascii") as stream:
            stream.write(text)
        Path(temporary).replace(place)
    except OSError:
        Path(temporary).unlink(missing_ok=True)
        raise
