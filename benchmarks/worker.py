"""The other end of a contest: a process that makes one contestant, and runs it whenever it is told to.

Started by :mod:`benchmarks.contest` as ``python -m benchmarks.worker FD``. Nothing heavy is imported before the task
has come, since cores and threads are settled first. Between two turns it waits for the next word, and computes nothing.
"""

from __future__ import annotations

import importlib
import math
import os
import resource
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

REASON_CHARS = 240
MAC_UNITS = 1 if sys.platform == "darwin" else 1024  # of ru_maxrss: bytes there, KiB elsewhere


class Unavailable(Exception):
    """A contestant cannot take part here; the message is the reason, as people read it."""


@dataclass(frozen=True)
class Prepared:
    """A contestant, ready to run.

    Parameters
    ----------
    runs
        What can be timed, by name. A run may return an array, which is compared before anything is timed, or a dict of
        figures, which are kept for each round.
    versions
        Of the packages that it uses, by name.
    """

    runs: Mapping[str, Callable[[], Any]]
    versions: dict[str, str] = field(default_factory=dict)


def peak_bytes() -> int:
    """The most memory that this process has ever had, mapped files included while they are mapped.

    The kernel's VmHWM where there is one: ru_maxrss starts at what the parent had when it started this process.
    """
    return _status("VmHWM") or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * MAC_UNITS


def own_bytes() -> int:
    """The memory that this process shares with no file, now; 0 where the kernel does not say."""
    return _status("RssAnon")


def _status(name: str) -> int:
    try:
        lines = Path("/proc/self/status").read_text("ascii").splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:")), 0)


def processor_s() -> float:
    """Processor seconds of all threads of this process, and of its children that have ended."""
    spent = os.times()
    return time.process_time() + spent.children_user + spent.children_system


def reason_of(error: BaseException) -> str:
    """One line that says why; a stack trace goes to the log."""
    said = " ".join(str(error).split())
    if isinstance(error, ModuleNotFoundError) and error.name:
        return f"{error.name} is not installed"
    text = said if isinstance(error, Unavailable) else f"{type(error).__name__}: {said}".removesuffix(": ")
    return text if len(text) <= REASON_CHARS else f"{text[: REASON_CHARS - 1]}…"


def target(name: str) -> Callable[..., Any]:
    """``"module:function"`` as a function."""
    module, _, function = name.partition(":")
    found: Callable[..., Any] = getattr(importlib.import_module(module), function)
    return found


def take_part(connection: Connection, task: Mapping[str, Any]) -> None:
    """Make the contestant, run it to warm up, hand over its output, then run it on demand."""
    import numpy as np

    start = time.perf_counter()
    prepared: Prepared = target(task["make"])(**task["arguments"])
    load_s, outputs, repeats = time.perf_counter() - start, {}, {}
    for key, run in prepared.runs.items():
        for number in range(task["warmups"]):
            start = time.perf_counter()
            output = run()
            repeats[key] = max(1, math.ceil(task["turn_s"] / (time.perf_counter() - start)))
            if number == 0 and isinstance(output, np.ndarray):
                outputs[key] = str(Path(task["folder"]) / f"{len(outputs)}.npy")
                np.save(outputs[key], output)
    connection.send(
        ("ready", {"load_s": load_s, "versions": prepared.versions, "keys": list(prepared.runs), "outputs": outputs})
    )
    rested = processor_s(), time.perf_counter()
    while (key := connection.recv()) is not None:
        idle_s = processor_s() - rested[0], time.perf_counter() - rested[1]
        used, start = processor_s(), time.perf_counter()
        for _ in range(repeats[key]):
            facts = prepared.runs[key]()
        wall_s = (time.perf_counter() - start) / repeats[key]
        used_s = (processor_s() - used) / repeats[key]
        rested = processor_s(), time.perf_counter()
        connection.send(("ran", (wall_s, used_s, idle_s, facts if isinstance(facts, dict) else {})))
    connection.send(("ended", {"peak_bytes": peak_bytes(), "own_bytes": own_bytes()}))


def main() -> None:
    connection = Connection(int(sys.argv[1]))
    task = connection.recv()
    if task["cores"] and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: task["cores"]])
    try:
        if task["kind"] == "call":
            connection.send(("done", target(task["make"])(**task["arguments"])))
        else:
            take_part(connection, task)
    except EOFError:
        return  # the contest is over, or was interrupted
    except Exception as error:
        connection.send(("failed", reason_of(error)))
        raise


if __name__ == "__main__":
    from benchmarks import worker  # under its own name: contestants raise its Unavailable, not that of __main__

    worker.main()
