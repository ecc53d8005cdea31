"""How functions are compiled by Numba: without the interpreter's lock, kept on disk, no wish for speed above truth."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numba import njit


def compiled(*fastmath: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Compile at the first call, and keep the result beside the source or in the user's cache, if one can be written.

    Without such a place, every process compiles again: that takes seconds.

    Parameters
    ----------
    fastmath
        LLVM's permissions to compute otherwise than IEEE says; none assumes that there is no NaN or infinity.
    """

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        options = {"nogil": True, "error_model": "numpy", "fastmath": set(fastmath)}
        try:
            fast: Callable[..., Any] = njit(cache=True, **options)(function)
        except RuntimeError:  # "cannot cache function: no locator available"
            fast = njit(**options)(function)
        return fast

    return decorate
