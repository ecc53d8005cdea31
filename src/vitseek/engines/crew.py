"""Threads that share the images of a batch, whatever the architecture.

The images go in packs to one thread each; when fewer images than threads are left, several threads form a team and
share the work on one image. Nobody waits for anybody but the members of his own team.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from itertools import pairwise
from typing import Generic, Protocol, TypeVar

from vitseek.engines.threads import BLAS, run_together

Space = TypeVar("Space")
Space_contra = TypeVar("Space_contra", contravariant=True)


class Team:
    """Threads that share the rows of one image; they meet where one needs what another has made."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._barrier = threading.Barrier(size)

    def rows_of(self, member: int, rows: int) -> slice:
        """The part of ``rows`` that a member works on."""
        return slice(rows * member // self.size, rows * (member + 1) // self.size)

    def meet(self) -> None:
        """Wait for all members."""
        if self.size > 1:
            self._barrier.wait()

    def give_up(self) -> None:
        """Wake members that wait, after one has failed."""
        self._barrier.abort()


class Task(Protocol[Space_contra]):
    """What a crew does: one pass over a batch."""

    def prepare(self, space: Space_contra, images: int, members: int) -> None:
        """Make room in ``space`` for so many images, and threads that share them."""
        ...

    def run(self, images: range, space: Space_contra, member: int, team: Team) -> None:
        """Do ``member``'s share of the pass over ``images``."""
        ...


class Crew(Generic[Space]):
    """Runs tasks; working memory is kept between them, because fresh memory costs a page fault every 4 KiB.

    May be called from several threads.

    Parameters
    ----------
    threads
        How many work on one task.
    new_space
        Makes working memory, which one pack or team uses at a time.
    """

    def __init__(self, threads: int, new_space: Callable[[], Space]) -> None:
        self._threads = threads
        self._new_space = new_space
        self._spare: list[Space] = []
        self._lock = threading.Lock()

    def run(self, task: Task[Space], images: int, *, largest_pack: int, together: bool = False) -> None:
        """Do a task for ``images`` images.

        Parameters
        ----------
        largest_pack
            Images that go through the pass side by side.
        together
            All of them in one pack, in the calling thread.
        """
        with BLAS.single_threaded():
            if together or self._threads == 1:
                step = max(images, 1) if together else largest_pack
                self._run_packs(task, _cut(images, step), threads=1)
                return
            alone = images - images % self._threads
            rounds = -(-alone // (self._threads * largest_pack))
            # As many packs in each round as threads, all alike: otherwise some wait while others do one pack more.
            self._run_packs(task, _shared(alone, rounds * self._threads), threads=self._threads)
            if alone < images:
                self._run_teams(task, range(alone, images))

    def _run_packs(self, task: Task[Space], packs: list[range], *, threads: int) -> None:
        """Work the packs off, each in one thread."""
        lock = threading.Lock()
        waiting = iter(packs)
        stop = threading.Event()

        def work() -> None:
            with self._workspace() as space:
                while not stop.is_set():
                    with lock:
                        pack = next(waiting, None)
                    if pack is None:
                        return
                    task.prepare(space, len(pack), 1)
                    task.run(pack, space, 0, Team(1))

        if packs:
            run_together([work] * min(threads, len(packs)), on_failure=stop.set)

    def _run_teams(self, task: Task[Space], images: range) -> None:
        """Give each image to a team, the teams as alike as it goes."""
        with ExitStack() as stack:
            jobs: list[Callable[[], None]] = []
            teams: list[Team] = []
            for place, image in enumerate(images):
                first, last = (self._threads * edge // len(images) for edge in (place, place + 1))
                team, space = Team(last - first), stack.enter_context(self._workspace())
                task.prepare(space, 1, team.size)
                teams.append(team)
                pack = range(image, image + 1)
                jobs.extend(partial(task.run, pack, space, member, team) for member in range(team.size))

            def wake_all() -> None:
                for team in teams:
                    team.give_up()

            run_together(jobs, on_failure=wake_all)

    @contextmanager
    def _workspace(self) -> Iterator[Space]:
        with self._lock:
            space = self._spare.pop() if self._spare else None
        space = self._new_space() if space is None else space
        try:
            yield space
        finally:
            with self._lock:
                if len(self._spare) < self._threads:
                    self._spare.append(space)


def _cut(images: int, step: int) -> list[range]:
    return [range(first, min(first + step, images)) for first in range(0, images, step)]


def _shared(images: int, packs: int) -> list[range]:
    edges = [images * edge // packs for edge in range(packs + 1)] if packs else []
    return [range(first, last) for first, last in pairwise(edges)]
