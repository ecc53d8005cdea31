"""What every command shares: the two consoles, JSON output, common options, progress."""

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress

GalleryOption = Annotated[
    Path | None,
    typer.Option("--gallery", metavar="DIR", help="Folder whose .vitseek/ holds the index."),
]
ModelOption = Annotated[
    str | None,
    typer.Option("--model", metavar="NAME|FILE", help="A zoo name (see `vitseek models`), a weights file or a folder."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout and nothing else.")]
OfflineOption = Annotated[bool, typer.Option("--offline", help="Never touch the network.")]


def stderr() -> "Console":
    """The console for progress, warnings and summaries."""
    from rich.console import Console

    return Console(stderr=True, highlight=False)


def stdout() -> "Console":
    """The console for results; plain text when it is not a terminal."""
    from rich.console import Console

    return Console(highlight=False)


def print_json(document: Any) -> None:
    """Write one JSON document to stdout (ASCII, so that any file name survives any terminal)."""
    json.dump(document, sys.stdout, indent=2, default=str)
    sys.stdout.write("\n")


def warn(message: str) -> None:
    """One line of warning on stderr."""
    sys.stderr.write(f"warning: {printable(message)}\n")


def note(message: str) -> None:
    """One line of information on stderr."""
    sys.stderr.write(f"{printable(message)}\n")


def printable(text: object) -> str:
    """Text that any terminal takes: undecodable bytes and control characters become visible escapes."""
    raw = str(text).encode("utf-8", "backslashreplace").decode("utf-8")
    return "".join(c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in raw)


@contextmanager
def progress_bar() -> Iterator["Progress"]:
    """A progress bar on stderr with count, rate and time left; silent when stderr is no terminal."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
    )
    console = stderr()
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        yield bar


@contextmanager
def download_bar() -> "Iterator[Callable[[str, int, int | None], None]]":
    """A bar on stderr with bytes, rate and time left; silent when stderr is no terminal.

    It is made when something is downloaded: a search hardly ever does, and need not wait for the bar's imports.
    """
    with ExitStack() as stack:
        bars: list[Progress] = []

        def show(name: str, done: int, total: int | None) -> None:
            if not bars:
                bars.append(stack.enter_context(_bytes_bar()))
            [bar] = bars
            bar.update(bar.task_ids[0], description=name, completed=done, total=total)

        yield show


def _bytes_bar() -> "Progress":
    from rich.progress import BarColumn, DownloadColumn, TextColumn, TimeRemainingColumn, TransferSpeedColumn
    from rich.progress import Progress as Bar

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    console = stderr()
    bar = Bar(*columns, console=console, transient=True, disable=not console.is_terminal)
    bar.add_task("")
    return bar
