"""Contestants that take turns, each in a process of its own.

In one process, thread pools of several runtimes disturb each other and memory cannot be told apart. Here each one is a
worker (:mod:`benchmarks.worker`) that loads, warms up and then waits. The contest compares the outputs of all, and lets
them run one after the other, A B C A B C …: only one computes at a time, and a machine that becomes slower becomes so
for all. Before each turn all rest for a moment, since the threads of some runtimes spin for a while after their work;
what a worker computes while others run is counted, and said if it is much.

A worker that fails, hangs or differs becomes an :class:`Outcome` with a reason; the others go on.
"""

from __future__ import annotations

import contextlib
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from multiprocessing.connection import Pipe
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parents[1]
REST_S = 0.15
BUSY_IDLER = 0.05  # of a core: from here on, a waiting worker disturbs the others
BUSY_IDLER_S = 0.25  # in all; less is the cost of waking up
END_S = 20.0
LOG_LINES = 3
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")

Outputs = Mapping[str, Mapping[str, NDArray[Any]]]  # by contestant and run
Check = Callable[[Outputs], Mapping[str, str]]


@dataclass(frozen=True, kw_only=True)
class Contestant:
    """What a worker makes.

    Parameters
    ----------
    make
        ``"module:function"``, called in the worker with ``arguments``; it returns a
        :class:`benchmarks.worker.Prepared`.
    needs
        Modules without which there is no use in starting.
    cores
        How many cores it may run on, and threads of OpenMP and OpenBLAS; all by default.
    needs_bytes
        Memory that must be free; it does not start otherwise.
    skipped
        A reason that is known already: nothing is started.
    """

    name: str
    make: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    needs: Sequence[str] = ()
    cores: int | None = None
    needs_bytes: int = 0
    skipped: str = ""


@dataclass(frozen=True)
class Limits:
    """Seconds after which a worker is given up: making and warming up, and a single run."""

    start_s: float = 600.0
    run_s: float = 120.0


@dataclass
class Outcome:
    """What became of a contestant; either ``skipped`` says why there are no times, or there is one a round."""

    name: str
    skipped: str = ""
    wall_s: dict[str, list[float]] = field(default_factory=dict)
    processor_s: dict[str, list[float]] = field(default_factory=dict)
    facts: dict[str, list[dict[str, float]]] = field(default_factory=dict)
    outputs: dict[str, NDArray[Any]] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    load_s: float = 0.0
    idle_s: float = 0.0  # processor seconds while others ran
    idle_share: float = 0.0
    peak_bytes: int = 0
    own_bytes: int = 0

    def median_s(self, key: str = "") -> float:
        """Seconds of a run, the median of the rounds."""
        return statistics.median(self.wall_s[key])

    def times_faster(self, other: Outcome, key: str = "") -> float:
        """How many times as fast as another one: the median of the rounds' own ratios."""
        return statistics.median(b / a for a, b in zip(self.wall_s[key], other.wall_s[key], strict=True))


class WorkerFailed(Exception):
    """A worker gave no result; the message is the reason."""


class Worker:
    """A process at the other end of a pipe. Close it: what hangs is killed, with its children."""

    def __init__(self, task: Mapping[str, Any], log: Path) -> None:
        self._log = log
        self._ours, theirs = Pipe()
        threads = dict.fromkeys(THREADS, str(task["cores"])) if task["cores"] else {}
        with log.open("wb") as file:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "benchmarks.worker", str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdout=file,
                stderr=file,
                stdin=subprocess.DEVNULL,
                cwd=ROOT,
                env={**os.environ, **threads},
                start_new_session=True,
            )
        theirs.close()
        self._ours.send(task)

    def ask(self, key: str | None, limit_s: float, wanted: str, doing: str) -> Any:
        """Say the name of a run (``None``: the end) and wait for the answer."""
        try:
            self._ours.send(key)
        except OSError:
            raise WorkerFailed(self._last_words(doing)) from None
        return self.answer(limit_s, wanted, doing)

    def answer(self, limit_s: float, wanted: str, doing: str) -> Any:
        """What the worker says next.

        Raises
        ------
        WorkerFailed
            If it says why it cannot, dies, or says nothing for ``limit_s``.
        """
        try:
            if not self._ours.poll(limit_s):
                raise WorkerFailed(f"still {doing} after {limit_s:g} s")
            kind, content = self._ours.recv()
        except (EOFError, OSError):
            raise WorkerFailed(self._last_words(doing)) from None
        if kind != wanted:
            raise WorkerFailed(content if kind == "failed" else f"said {kind!r} instead of {wanted!r}")
        return content

    def _last_words(self, doing: str) -> str:
        try:
            status = self._process.wait(END_S)
        except subprocess.TimeoutExpired:
            return f"closed its pipe while {doing}"
        how = f"killed by {signal.Signals(-status).name}" if status < 0 else f"exit status {status}"
        lines = self._log.read_text("utf-8", "replace").strip().splitlines()[-LOG_LINES:]
        return f"died while {doing} ({how})" + (f": {' / '.join(line.strip() for line in lines)}" if lines else "")

    def close(self) -> None:
        """End the process and whatever it started."""
        self._ours.close()
        if self._process.returncode is None:  # not waited for yet, so that the number is still its own
            with contextlib.suppress(ProcessLookupError, PermissionError):  # macOS says the latter of a zombie
                os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()


def call(make: str, arguments: Mapping[str, Any], *, limit_s: float = 900.0, cores: int | None = None) -> Any:
    """Call ``"module:function"`` in a process of its own and return what it returns.

    Raises
    ------
    WorkerFailed
        If it raises, dies, or takes longer than ``limit_s``.
    """
    with tempfile.TemporaryDirectory(prefix="vitseek-call-") as folder:
        worker = Worker({"kind": "call", "make": make, "arguments": arguments, "cores": cores}, Path(folder) / "log")
        try:
            return worker.answer(limit_s, "done", "working")
        finally:
            worker.close()


def contest(
    contestants: Sequence[Contestant],
    *,
    rounds: int,
    check: Check | None = None,
    limits: Limits | None = None,
    warmups: int = 2,
    rest_s: float = REST_S,
    turn_s: float = 0.0,
    say: Callable[[str], None] = lambda said: print(f"  {said}", flush=True),
) -> dict[str, Outcome]:
    """Start everyone, compare, time in turns.

    Parameters
    ----------
    check
        Given all outputs, returns the reason for each contestant that must not be timed: what computes something else
        is not worth timing.
    warmups
        Runs of each kind before the first round; at least one, whose output is compared.
    rest_s
        Waited before every run.
    turn_s
        A turn repeats what is shorter until about so much time has passed, and counts the mean: a few milliseconds
        measure how a thread wakes up.

    Returns
    -------
    An outcome for each contestant, in their order.
    """
    limits = limits or Limits()
    outcomes = {one.name: Outcome(one.name, skipped=one.skipped) for one in contestants}
    if len(outcomes) != len(contestants):
        raise ValueError(f"contestants want different names, but these are {[one.name for one in contestants]}")
    with _workers() as (workers, folder):
        for number, one in enumerate(contestants):
            with _giving_up(outcomes[one.name], workers, say):
                _start(one, workers, outcomes[one.name], folder / str(number), limits, max(1, warmups), turn_s)
        if check is not None:
            apart = check({name: outcomes[name].outputs for name in workers})
            for name, reason in apart.items():
                with _giving_up(outcomes[name], workers, say):
                    raise WorkerFailed(reason)
        _take_turns(workers, outcomes, rounds, limits, rest_s, say)
        for name in list(workers):
            with _giving_up(outcomes[name], workers, say):
                memory = workers[name].ask(None, END_S, "ended", "ending")
                outcomes[name].peak_bytes, outcomes[name].own_bytes = memory["peak_bytes"], memory["own_bytes"]
    for outcome in outcomes.values():
        if outcome.idle_share > BUSY_IDLER and outcome.idle_s > BUSY_IDLER_S:
            say(f"{outcome.name} computes while it waits: {outcome.idle_share:.0%} of a core, which slows the others")
    return outcomes


def _start(
    one: Contestant,
    workers: dict[str, Worker],
    outcome: Outcome,
    folder: Path,
    limits: Limits,
    warmups: int,
    turn_s: float,
) -> None:
    if one.skipped:
        raise WorkerFailed(one.skipped)
    if reason := missing(one.needs):
        raise WorkerFailed(reason)
    free = available_bytes()
    if free is not None and free < one.needs_bytes:
        raise WorkerFailed(f"{free / 2**30:.1f} GiB of memory are free, and it may take {one.needs_bytes / 2**30:.1f}")
    folder.mkdir()
    task = {
        "kind": "contest", "make": one.make, "arguments": dict(one.arguments), "cores": one.cores, "warmups": warmups,
        "turn_s": turn_s, "folder": str(folder),
    }  # fmt: skip
    workers[one.name] = worker = Worker(task, folder / "log")
    ready = worker.answer(limits.start_s, "ready", "loading and warming up")
    outcome.load_s, outcome.versions = ready["load_s"], ready["versions"]
    outcome.outputs = {key: np.load(file) for key, file in ready["outputs"].items()}
    for times in (outcome.wall_s, outcome.processor_s, outcome.facts):
        times.update({key: [] for key in ready["keys"]})


def _take_turns(
    workers: dict[str, Worker],
    outcomes: dict[str, Outcome],
    rounds: int,
    limits: Limits,
    rest_s: float,
    say: Callable[[str], None],
) -> None:
    idle = {name: [0.0, 0.0] for name in workers}
    for _ in range(rounds):
        for name in list(workers):
            outcome = outcomes[name]
            with _giving_up(outcome, workers, say):
                for key in outcome.wall_s:
                    time.sleep(rest_s)
                    wall_s, used_s, idle_s, facts = workers[name].ask(key, limits.run_s, "ran", "running")
                    outcome.wall_s[key].append(wall_s)
                    outcome.processor_s[key].append(used_s)
                    outcome.facts[key].append(facts)
                    idle[name] = [sum(pair) for pair in zip(idle[name], idle_s, strict=True)]
    for name, (used, waited) in idle.items():
        outcomes[name].idle_s, outcomes[name].idle_share = used, used / waited if waited else 0.0


@contextmanager
def _workers() -> Iterator[tuple[dict[str, Worker], Path]]:
    workers: dict[str, Worker] = {}
    with tempfile.TemporaryDirectory(prefix="vitseek-contest-") as folder:
        try:
            yield workers, Path(folder)
        finally:
            for worker in workers.values():
                worker.close()


@contextmanager
def _giving_up(outcome: Outcome, workers: dict[str, Worker], say: Callable[[str], None]) -> Iterator[None]:
    """A worker that fails in here is closed, and its outcome has the reason and no times."""
    try:
        yield
    except WorkerFailed as failure:
        outcome.skipped = str(failure)
        outcome.wall_s, outcome.processor_s, outcome.facts = {}, {}, {}
        if (worker := workers.pop(outcome.name, None)) is not None:
            worker.close()
        say(f"{outcome.name} skipped: {failure}")


def missing(modules: Sequence[str]) -> str:
    """Which modules are not installed, as a reason; empty if all are."""
    absent = [module for module in modules if find_spec(module) is None]
    return f"{' and '.join(absent)} not installed" if absent else ""


def available_bytes() -> int | None:
    """Memory that new processes could take; ``None`` where the kernel does not say."""
    try:
        lines = Path("/proc/meminfo").read_text("ascii").splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable")), None)
