"""The secret key of this installation: made once, readable by its owner only."""

import os
import secrets
import stat
from pathlib import Path

from vitseek.errors import StorageError
from vitseek.paths import state_dir

FILE_NAME = "web-secret-key"
KEY_BYTES = 50
OTHERS = stat.S_IRWXG | stat.S_IRWXO


def secret_key(folder: Path | None = None) -> str:
    """Return the key, making it on the first call.

    A key file that others could read, or that is too short to be one, is replaced: tokens signed with the old key
    stop being valid, and the page asks for a reload.
    """
    path = (folder or state_dir()) / FILE_NAME
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists():
            if not path.stat().st_mode & OTHERS and len(key := path.read_text("ascii").strip()) >= KEY_BYTES:
                return key
            path.unlink(missing_ok=True)
        return _make(path)
    except (OSError, UnicodeDecodeError) as error:
        raise StorageError(
            f"the secret key of the web page cannot be kept in {path}: {error}. "
            "Make the folder writable, or name another one in VITSEEK_STATE."
        ) from error


def _make(path: Path) -> str:
    key = secrets.token_urlsafe(KEY_BYTES)
    draft = path.with_name(f"{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(key)
        try:
            os.link(draft, path)  # fails, instead of replacing, where two servers start at once
        except FileExistsError:
            return path.read_text("ascii").strip()
    finally:
        draft.unlink(missing_ok=True)
    return key
