"""A batch cut into pieces of few sizes, and into smaller ones when memory does not suffice."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

FULL_ENOUGH = 0.75  # of a piece: with fewer images, smaller pieces are less work than rows of nothing


@dataclass(frozen=True, slots=True)
class Chunk:
    """Images ``start`` to ``stop`` of a batch, computed as if there were ``rows`` of them."""

    start: int
    stop: int
    rows: int


def cut(start: int, stop: int, sizes: Sequence[int]) -> list[Chunk]:
    """Return pieces that cover the images ``start`` to ``stop``, each of one of ``sizes`` (ascending, the first is 1).

    The largest size is taken as often as it fits, then one that is filled, or nearly; only the last is not full.
    """
    chunks: list[Chunk] = []
    while start < stop:
        left = stop - start
        rows = next((size for size in sizes if size >= left), sizes[-1])
        if left < rows * FULL_ENOUGH:
            rows = max(size for size in sizes if size <= left)
        chunks.append(Chunk(start, min(start + rows, stop), rows))
        start = chunks[-1].stop
    return chunks


class Ladder:
    """The sizes in use, which shrink when one of them does not fit into memory. For any thread.

    Parameters
    ----------
    sizes
        Ascending; the first is 1.
    out_of_memory
        What a run raises when memory does not suffice.
    on_shrink
        Called after a size was given up: lets go of what was kept for it.
    report
        Told once, in a sentence, that pieces became smaller.
    """

    def __init__(
        self,
        sizes: Sequence[int],
        out_of_memory: type[BaseException],
        *,
        on_shrink: Callable[[int], None] = lambda largest: None,
        report: Callable[[str], None] | None = None,
    ) -> None:
        self._sizes = tuple(sizes)
        self._out_of_memory = out_of_memory
        self._on_shrink = on_shrink
        self._report = report
        self._said = False
        self._shrinking = threading.Lock()

    @property
    def sizes(self) -> tuple[int, ...]:
        """What is in use now."""
        return self._sizes

    def run(self, images: int, compute: Callable[[Chunk], None]) -> None:
        """Call ``compute`` with pieces that cover all images; one that does not fit comes again in smaller ones.

        Raises
        ------
        What ``compute`` raises: also for want of memory, when a single image does not fit.
        """
        done = 0
        while done < images:
            for chunk in cut(done, images, self._sizes):
                try:
                    compute(chunk)
                except self._out_of_memory:
                    if chunk.rows == 1:
                        raise
                    failed = chunk.rows  # and outside of the handler, whose traceback holds what the run had made
                    break
                done = chunk.stop
            else:
                return
            self._shrink(failed)

    def _shrink(self, failed: int) -> None:
        with self._shrinking:
            smaller = tuple(size for size in self._sizes if size <= failed // 2)
            if len(smaller) == len(self._sizes):  # another thread has done it
                return
            first, self._said = not self._said, True
            self._sizes = smaller
            self._on_shrink(smaller[-1])
        if first and self._report is not None:
            self._report(
                f"memory does not suffice for {failed} pictures at a time: {smaller[-1]} or fewer are computed at once"
            )
