"""Files that are there whole or not at all, and a full disk that is told as such."""

import errno
import os
from collections.abc import Callable
from pathlib import Path

from vitseek.errors import TrainingError

FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Let ``write`` fill a file beside ``path``, then put it in the place of ``path`` in one step.

    Raises
    ------
    TrainingError
        If the file cannot be written; what was at ``path`` before is still there.
    """
    partial = path.with_name(path.name + ".partial")
    try:
        write(partial)
        with partial.open("rb+") as file:
            os.fsync(file.fileno())
        partial.replace(path)
    except (OSError, RuntimeError) as error:  # torch says RuntimeError for a failed write
        cause = why(error, path.parent)
        partial.unlink(missing_ok=True)
        if cause is None:
            raise
        kept = f"The one before it is kept: {path}" if path.exists() else "Nothing was there before"
        raise TrainingError(
            f"cannot write {path}: {cause}. {kept}. Make room or choose another --out, then go on with --resume"
        ) from error


def why(error: Exception, folder: Path) -> str | None:
    """Why a file could not be written, in words, or None if the error is of another kind."""
    if isinstance(error, OSError) and error.errno is not None:
        return f"no disk left in {folder}" if error.errno in FULL else (error.strerror or str(error))
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.errno in FULL:
            return f"no disk left in {folder}"
        cause = cause.__context__
    text = str(error).lower()
    if "write" in text or "file" in text:
        return f"no disk left in {folder}, or it cannot be written" if _is_full(folder) else str(error).split("\n")[0]
    return None


def _is_full(folder: Path) -> bool:
    usage = os.statvfs(folder)
    return usage.f_bavail * usage.f_frsize < 2**20
