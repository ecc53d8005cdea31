"""A door that lets a few in, makes a few wait, and turns the rest away."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from vitseek.errors import BusyError


class Admission:
    """Bounds work that needs much memory or processor time.

    Parameters
    ----------
    slots
        How many may work at the same time.
    waiting
        How many more may wait for a slot; the next one is refused at once.
    timeout_s
        How long one waits before it is refused after all.
    """

    def __init__(self, *, slots: int, waiting: int, timeout_s: float) -> None:
        self._slots = threading.BoundedSemaphore(slots)
        self._places = threading.BoundedSemaphore(slots + waiting)
        self._timeout_s = timeout_s

    @contextmanager
    def enter(self) -> Iterator[None]:
        """Hold a slot for the length of the block.

        Raises
        ------
        BusyError
            If too many wait already, or the wait grew too long.
        """
        if not self._places.acquire(blocking=False):
            raise BusyError("too many requests at the same time; try again in a few seconds")
        try:
            if not self._slots.acquire(timeout=self._timeout_s):
                raise BusyError(f"no free slot within {self._timeout_s:g} s; try again in a few seconds")
            try:
                yield
            finally:
                self._slots.release()
        finally:
            self._places.release()
