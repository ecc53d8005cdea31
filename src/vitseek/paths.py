"""Where vitseek keeps what belongs to the user rather than to a gallery."""

import os
import sys
from pathlib import Path


def cache_dir() -> Path:
    """Downloads and derived files; may be deleted at any time. ``VITSEEK_CACHE`` moves it."""
    return _place("VITSEEK_CACHE", "XDG_CACHE_HOME", "~/.cache", "~/Library/Caches")


def state_dir() -> Path:
    """Small facts such as the last used gallery and the web page's secret key. ``VITSEEK_STATE`` moves it."""
    return _place("VITSEEK_STATE", "XDG_STATE_HOME", "~/.local/state", "~/Library/Application Support")


def _place(variable: str, xdg: str, linux: str, macos: str) -> Path:
    if own := os.environ.get(variable):
        return Path(own).expanduser()
    base = os.environ.get(xdg) or (macos if sys.platform == "darwin" else linux)
    return Path(base).expanduser() / "vitseek"
