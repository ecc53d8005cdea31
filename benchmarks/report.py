"""What every benchmark prints and keeps: the machine it ran on, plain tables, and one CSV a question.

The CSV is named by what its figures depend on, ``results/amd-epyc-2c-numpy2.4.6-py3.11-engines.csv``, and every row
says it again, so that files of several machines can be put together. Cells lose their unit to the column's name.
"""

import argparse
import csv
import os
import platform
import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np

from vitseek.version import __version__

RESULTS = Path(__file__).parent / "results"
SKIPPED = "skipped"  # the column of the reason
NAMES = ("engine", "search", "asked for", "precision")  # the columns that say who was skipped
NUMBER = re.compile(r"([-+−]?\d[\d,]*(?:\.\d+)?(?:e[-+]?\d+)?)\s*(\D{0,12})")


def cores() -> int:
    """Cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def machine() -> str:
    """One line: processor, cores, memory, load, versions; a figure without them says little."""
    parts = [f"{_processor()}, {cores()} cores"]
    if memory := _memory_gib():
        parts.append(f"{memory:.0f} GiB")
    if hasattr(os, "getloadavg"):
        parts.append(f"load {os.getloadavg()[0]:.1f}")
    parts.append(
        f"Python {platform.python_version()}, NumPy {np.__version__}, {platform.system()} {platform.machine()}"
    )
    return "; ".join(parts)


def _memory_gib() -> float | None:
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    return None


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
    right = {column for column in columns if _is_number(next((row[column] for row in rows if row[column]), ""))}

    def line(cells: dict[str, str]) -> str:
        return "  ".join(
            cells[column].rjust(widths[column]) if column in right else cells[column].ljust(widths[column])
            for column in columns
        ).rstrip()

    print(line({column: column for column in columns}))
    for row in rows:
        print(line(row))


def _is_number(cell: str) -> bool:
    return cell[:1].isdigit() or cell[:1] in "-−–"


def add_csv_option(parser: argparse.ArgumentParser) -> None:
    """Where the CSV goes: the same option for every benchmark."""
    parser.add_argument(
        "--csv-dir", type=Path, default=RESULTS, metavar="DIR", help="where the CSV goes; benchmarks/results by default"
    )


def installed(packages: Sequence[str]) -> dict[str, str]:
    """The versions of those packages that are installed."""
    found = {}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


class Report:
    """The tables of one question: printed as they come, and written to its CSV each time.

    Parameters
    ----------
    question
        Names the file, with the processor and the versions.
    folder
        Where the file goes; made if it is not there.
    quick
        Goes into the name: a quick run does not write over a whole one.
    """

    def __init__(self, question: str, folder: Path, *, quick: bool = False) -> None:
        self.file = csv_file(question, folder, quick=quick)
        self._tables: list[tuple[str, list[dict[str, str]], dict[str, str]]] = []

    @classmethod
    def of(cls, question: str, options: argparse.Namespace) -> "Report":
        """Begin: print the machine; the options say where the file goes (:func:`add_csv_option`)."""
        print(machine(), flush=True)
        return cls(question, options.csv_dir, quick=getattr(options, "quick", False))

    def table(self, title: str, rows: Sequence[dict[str, str]], *, versions: Mapping[str, str] | None = None) -> None:
        """Print a table and keep it."""
        print_table(title, rows)
        self.keep(title, rows, versions=versions)

    def keep(self, title: str, rows: Sequence[dict[str, str]], *, versions: Mapping[str, str] | None = None) -> None:
        """Write a table, and those before it, to the file.

        Parameters
        ----------
        rows
            Cells by column. One called "skipped" holds the reason why there are no figures.
        versions
            Of the packages that took part, by name; columns of their own.
        """
        self._tables.append((title, list(rows), dict(versions or {})))
        self._write()

    def _write(self) -> None:
        lines = []
        for title, rows, versions in self._tables:
            lines += [{"table": title, **row, **surroundings(), **versions} for row in without_units(rows)]
        columns = list(dict.fromkeys(column for line in lines for column in line))
        self.file.parent.mkdir(parents=True, exist_ok=True)
        part = self.file.with_suffix(".part")
        with part.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, fieldnames=columns, restval="")
            writer.writeheader()
            writer.writerows(lines)
        part.replace(self.file)


def csv_file(question: str, folder: Path, *, quick: bool = False) -> Path:
    """The file of a question on this machine: processor, cores and versions make its name."""
    cpu = re.sub(r"[^a-z0-9]+", "-", _processor().partition(" (AVX")[0].lower()).strip("-")
    python = ".".join(platform.python_version_tuple()[:2])
    kind = f"{question}-quick" if quick else question
    return folder / f"{cpu}-{cores()}c-numpy{np.__version__}-py{python}-{kind}.csv"


def skipped_in(file: Path) -> list[tuple[str, str]]:
    """Who has no figures in a file, and why; each once, however many tables say so."""
    with file.open(newline="", encoding="utf-8") as opened:
        rows = [row for row in csv.DictReader(opened) if row.get(SKIPPED)]
    named = [(", ".join(row[name] for name in NAMES if row.get(name)), row[SKIPPED]) for row in rows]
    return list(dict.fromkeys(named))


def surroundings() -> dict[str, str]:
    """What a figure depends on, besides what is measured."""
    memory = _memory_gib()
    return {
        "date": datetime.now().astimezone().isoformat(timespec="seconds"),
        "cpu": _processor(),
        "cores": str(cores()),
        "memory [GiB]": f"{memory:.0f}" if memory else "",
        "load": f"{os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else "",
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "numpy": np.__version__,
        "vitseek": __version__,
    }


def without_units(rows: Sequence[dict[str, str]]) -> list[dict[str, str]]:
    """Cells such as "1,024.5 ms" become 1024.5 below "… [ms]" where a column has one unit; "–" becomes empty."""
    plain: list[dict[str, str]] = [{} for _ in rows]
    for column in dict.fromkeys(column for row in rows for column in row):
        cells = ["" if row.get(column, "") in "–" else row[column] for row in rows]
        found = [NUMBER.fullmatch(cell) for cell in cells]
        units = {match[2] for match in found if match}
        if len(units) == 1 and all(match or not cell for match, cell in zip(found, cells, strict=True)):
            unit = units.pop()
            cells = [match[1].replace(",", "").replace("−", "-") if match else "" for match in found]
            column = f"{column} [{unit}]".strip() if unit else column
        for line, cell in zip(plain, cells, strict=True):
            line[column] = cell
    return plain
