"""Keep Pillow's warnings to itself while a picture is decoded."""

import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock

# The entry that warnings.filterwarnings("ignore", module=…) would make, kept so that it can be taken out again.
_IGNORE_PILLOW = ("ignore", None, Warning, re.compile(r"PIL\.|pillow_heif\."), 0)
_lock = Lock()
_users = 0


@contextmanager
def quiet_pillow() -> Iterator[None]:
    """Ignore warnings from Pillow's modules, in any number of threads at once.

    Pillow warns of odd EXIF data, palettes and sizes. A reader cannot act on that, and where warnings are errors the
    picture would be lost. ``warnings.catch_warnings`` is of no use here: it saves and restores the filters of the
    whole process, so that two threads undo each other's.
    """
    global _users
    with _lock:
        _users += 1
        if _IGNORE_PILLOW not in warnings.filters:
            warnings.filters.insert(0, _IGNORE_PILLOW)  # type: ignore[attr-defined]
    try:
        yield
    finally:
        with _lock:
            _users -= 1
            if not _users and _IGNORE_PILLOW in warnings.filters:
                warnings.filters.remove(_IGNORE_PILLOW)  # type: ignore[attr-defined]
