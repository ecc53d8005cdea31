"""How many pixels are decoded at once: memory depends neither on the number of cores nor on the size of the photos."""

import threading
from types import TracebackType
from typing import Self

DECODED_AT_ONCE_PIXELS = 40_000_000
"""Three 12-megapixel photos. Pillow holds four bytes a pixel, and twice that while it turns a picture upright."""


class PixelBudget:
    """Lets threads decode together up to a number of pixels; a larger picture waits until it is alone."""

    def __init__(self, limit_pixels: int = DECODED_AT_ONCE_PIXELS) -> None:
        self._limit = limit_pixels
        self._used = 0
        self._changed = threading.Condition()

    def share(self) -> "Share":
        """A place for one picture: ``with budget.share() as share: decode(file, before_loading=share.take)``."""
        return Share(self)

    def take(self, pixels: int) -> None:
        """Wait until there is room."""
        with self._changed:
            self._changed.wait_for(lambda: not self._used or self._used + pixels <= self._limit)
            self._used += pixels

    def give_back(self, pixels: int) -> None:
        with self._changed:
            self._used -= pixels
            self._changed.notify_all()


class Share:
    """What one thread holds of a `PixelBudget`; given back at the end, whatever happens."""

    def __init__(self, budget: PixelBudget) -> None:
        self._budget = budget
        self._held = 0

    def take(self, pixels: int) -> None:
        """Wait for room for a picture; what a decoder before it took, and then failed, is given back first."""
        self._release()
        self._budget.take(pixels)
        self._held = pixels

    def _release(self) -> None:
        held, self._held = self._held, 0
        if held:
            self._budget.give_back(held)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._release()
