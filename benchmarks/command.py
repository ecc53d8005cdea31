"""A command as the shell runs it: how long it takes from start to end, and the most memory that it has."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.worker import Unavailable

# `python -m vitseek …`, and its peak when it has ended.
WITH_PEAK = """
import runpy, sys
from pathlib import Path
from benchmarks.worker import peak_bytes
told = Path(sys.argv[1])
sys.argv[:2] = ["vitseek"]
try:
    runpy.run_module("vitseek", run_name="__main__", alter_sys=True)
finally:
    told.write_text(str(peak_bytes()))
"""


def run(words: Sequence[str], *, program: Sequence[str] = ("-m", "vitseek")) -> tuple[float, str]:
    """Seconds of ``python -m vitseek WORDS``, or of another program, and what it printed.

    Raises
    ------
    Unavailable
        If its exit status is not 0; the message ends as its error output does.
    """
    start = time.perf_counter()
    ran = subprocess.run([sys.executable, *program, *words], capture_output=True, text=True, check=False)
    wall_s = time.perf_counter() - start
    if ran.returncode:
        raise Unavailable(f"vitseek {words[0] if words else ''} failed: {' '.join(ran.stderr.split())[-200:]}")
    return wall_s, ran.stdout


def run_with_peak(words: Sequence[str]) -> tuple[float, str, int]:
    """The same, and the peak of the process in bytes. It starts a little later: what measures is imported first."""
    with tempfile.TemporaryDirectory(prefix="vitseek-peak-") as folder:
        told = Path(folder) / "peak"
        wall_s, printed = run(words, program=("-c", WITH_PEAK, str(told)))
        return wall_s, printed, int(told.read_text("ascii"))
