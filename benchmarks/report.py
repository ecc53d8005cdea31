"""What every benchmark prints: the machine it ran on, and a plain table."""

import os
import platform
from collections.abc import Sequence
from pathlib import Path

import numpy as np


def machine() -> str:
    """One line: processor, cores, memory, load, versions; a figure without them says little."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    parts = [f"{_processor()}, {cores} cores"]
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        parts.append(f"{os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE') / 2**30:.0f} GiB")
    if hasattr(os, "getloadavg"):
        parts.append(f"load {os.getloadavg()[0]:.1f}")
    parts.append(
        f"Python {platform.python_version()}, NumPy {np.__version__}, {platform.system()} {platform.machine()}"
    )
    return "; ".join(parts)


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        return platform.processor() or "unknown processor"
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    wide = next((f" ({flag.upper()})" for flag in ("avx512f", "avx2") if any(flag in line for line in lines)), "")
    return (names[0] if names else platform.machine()) + wide


def print_table(title: str, rows: Sequence[dict[str, str]]) -> None:
    """A title and aligned columns; numbers to the right, also in a log."""
    print(f"\n{title}")
    if not rows:
        return
    columns = list(rows[0])
    widths = {column: max(len(column), *(len(row[column]) for row in rows)) for column in columns}

    def line(cells: dict[str, str]) -> str:
        return "  ".join(
            cells[column].rjust(widths[column]) if _is_number(rows[0][column]) else cells[column].ljust(widths[column])
            for column in columns
        ).rstrip()

    print(line({column: column for column in columns}))
    for row in rows:
        print(line(row))


def _is_number(cell: str) -> bool:
    return cell[:1].isdigit() or cell[:1] in "-−–"
