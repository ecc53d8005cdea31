"""Contestants as the harness meets them: fine, wrong, broken, hanging. Made in the worker processes of the tests."""

import itertools
import os
import time
from pathlib import Path

import numpy as np
from benchmarks.worker import Prepared, Unavailable


def doubled(numbers: list[float], seconds: float = 0.0, factor: float = 2.0) -> Prepared:
    def run() -> np.ndarray:
        time.sleep(seconds)
        return np.array(numbers) * factor

    return Prepared({"": run}, {"fakes": "1.3"})


def several() -> Prepared:
    return Prepared({"one": lambda: np.array([1.0]), "facts": lambda: {"images": 7.0}})


def counting() -> Prepared:
    numbers = itertools.count(1)

    def run() -> dict[str, float]:
        time.sleep(0.02)
        return {"runs": next(numbers)}

    return Prepared({"": run})


def raising() -> Prepared:
    raise RuntimeError("no such\n   weights")


def unavailable() -> Prepared:
    raise Unavailable("computes float32 only")


def not_installed() -> Prepared:
    import a_package_that_nobody_has  # noqa: F401

    raise AssertionError


def breaking_later() -> Prepared:
    runs = iter([np.zeros(2), np.zeros(2)])
    return Prepared({"": lambda: next(runs)})


def hanging_at_start() -> Prepared:
    time.sleep(600)
    raise AssertionError


def hanging_later(pid_file: str) -> Prepared:
    turns = iter([0.0, 0.0, 0.0, 600.0])
    Path(pid_file).write_text(str(os.getpid()))
    return Prepared({"": lambda: time.sleep(next(turns))})


def dying() -> Prepared:
    print("out of luck", flush=True)
    os.abort()


def spinning() -> Prepared:
    import threading

    def spin() -> None:
        while True:
            pass

    return Prepared({"": lambda: threading.Thread(target=spin, daemon=True).start()})


def large(mebibytes: int) -> Prepared:
    held = np.ones(mebibytes << 17)
    return Prepared({"": lambda: held[:3]})


def cores_and_threads() -> list[object]:
    return [len(os.sched_getaffinity(0)), os.environ.get("OMP_NUM_THREADS")]


def added(a: int, b: int) -> int:
    return a + b
