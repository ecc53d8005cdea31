"""Cores: how many to use, and keeping BLAS to one thread while the engine splits the work itself.

A BLAS call with several threads waits for the slowest at its end, and element-wise work between calls runs on one core.
With whole images (or halves of one) on a core each, all steps run in parallel and hardly ever wait.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from vitseek.engines.cores import usable_cores


class BlasGuard:
    """Limits BLAS to one thread while at least one user is inside; the limit is one for the whole process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._users = 0
        self._controller: Any = None
        self._limiter: Any = None
        self._usual_threads: int | None = None

    @contextmanager
    def single_threaded(self) -> Iterator[None]:
        """Enter with BLAS at one thread; the last to leave restores what was before the first came."""
        with self._lock:
            if self._users == 0:
                self._read()
                self._limiter = self._controller.limit(limits=1, user_api="blas")
            self._users += 1
        try:
            yield
        finally:
            with self._lock:
                self._users -= 1
                if self._users == 0:
                    self._limiter.restore_original_limits()
                    self._limiter = None

    def usual_threads(self) -> int | None:
        """Threads that BLAS uses when nobody is inside; ``None`` if it cannot be asked (Apple's Accelerate)."""
        with self._lock:
            if self._users == 0:
                self._read()
            return self._usual_threads

    def _read(self) -> None:
        if self._controller is None:
            from threadpoolctl import ThreadpoolController

            self._controller = ThreadpoolController().select(user_api="blas")
        counts = [library["num_threads"] for library in self._controller.info()]
        self._usual_threads = min(counts) if counts else None


BLAS = BlasGuard()


def default_threads() -> int:
    """Return the cores this process may use, or fewer if OMP_NUM_THREADS or OPENBLAS_NUM_THREADS says so."""
    cores = usable_cores()
    return max(1, min(cores, BLAS.usual_threads() or cores, _outer_threads() or cores))


def _outer_threads() -> int | None:
    """The first number of an OMP_NUM_THREADS for nested levels, such as "4,2", which OpenBLAS does not understand."""
    outer, comma, _ = os.environ.get("OMP_NUM_THREADS", "").partition(",")
    return int(outer) if comma and outer.strip().isdecimal() else None


def run_together(jobs: Sequence[Callable[[], None]], *, on_failure: Callable[[], None] | None = None) -> None:
    """Run all jobs at once, the first in the calling thread, and wait for every one.

    Threads are made for the call: that takes 0.1 ms, and no other caller can hold one that a job waits for.

    Parameters
    ----------
    on_failure
        Called as soon as a job fails, to wake those that wait for it.

    Raises
    ------
    The first exception of any job, after all have ended.
    """
    failures: list[BaseException] = []

    def guarded(job: Callable[[], None]) -> None:
        try:
            job()
        except BaseException as error:  # KeyboardInterrupt too: it must not leave the others waiting
            failures.append(error)
            if on_failure is not None:
                on_failure()

    threads = [threading.Thread(target=guarded, args=(job,), name="vitseek-forward") for job in jobs[1:]]
    for thread in threads:
        thread.start()
    guarded(jobs[0])
    try:
        for thread in threads:
            thread.join()
    except BaseException:  # Ctrl-C while waiting
        if on_failure is not None:
            on_failure()
        for thread in threads:
            thread.join()
        raise
    if failures:
        raise failures[0]
