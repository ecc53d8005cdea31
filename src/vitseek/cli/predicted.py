"""How a pass that predicts labels shows its progress and its result."""

import csv
import io
import math
import re
import shlex
import sys
from collections.abc import Sequence
from dataclasses import asdict
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import typer

from vitseek.cli.common import note, print_json, progress_bar, stdout, warn
from vitseek.search.results import one_line, shown_path

if TYPE_CHECKING:
    from rich.progress import TaskID

    from vitseek.gallery.gallery import Gallery
    from vitseek.gallery.predicting import LabelCount, PredictionReport

BAR_CELLS = 16
SHOWN_LABELS = 30
SHOWN_PROBLEMS = 5
SHOWN_EXAMPLES = 2
CSV_COLUMNS = ("path", "label", "probability", "source", "id")
_TITLES = {"words": "Reading labels", "images": "Classifying"}


class CsvRows:
    """Writes a line for each image and label as they come; a context manager."""

    def __init__(self, gallery: "Gallery", source: str, *, wanted: bool) -> None:
        self._gallery = gallery
        self._source = source
        self._wanted = wanted

    def __enter__(self) -> Self:
        if self._wanted:
            write_csv([CSV_COLUMNS])
        return self

    def add(self, image_id: int, found: Sequence[tuple[str, float]]) -> None:
        """One image with its labels."""
        if self._wanted and found:
            path = str(self._gallery.image(image_id).path)
            write_csv([(path, label, round(value, 6), self._source, image_id) for label, value in found])

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        sys.stdout.flush()


def write_csv(rows: Sequence[Sequence[Any]]) -> None:
    """Rows on stdout; text is quoted, the bytes of a path are written as they are."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n", quoting=csv.QUOTE_NONNUMERIC).writerows(rows)
    sys.stdout.buffer.write(text.getvalue().encode("utf-8", "surrogateescape"))


class Shown:
    """The progress bar of a pass, and its result; a context manager."""

    def __enter__(self) -> Self:
        self._context = progress_bar()
        self._bar = self._context.__enter__()
        self._tasks: dict[str, TaskID] = {}
        self._open = True
        return self

    def progress(self, what: str, done: int, total: int) -> None:
        """See :data:`vitseek.gallery.predicting.Progress`."""
        if what not in self._tasks:
            self._tasks[what] = self._bar.add_task(_TITLES[what], total=total, rate="")
        self._bar.update(self._tasks[what], completed=done)

    def close(self) -> None:
        """Take the bar away."""
        if self._open:
            self._open = False
            self._context.__exit__(None, None, None)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def result(self, gallery: "Gallery", report: "PredictionReport", *, as_json: bool, as_csv: bool) -> None:
        """Print what a pass did; exit status 1 if no image was judged."""
        if as_json:
            print_json(document(gallery, report))
        elif not as_csv and report.images:
            print_counts(gallery, report)
        say(report)
        if not report.images:
            raise typer.Exit(1)


def document(gallery: "Gallery", report: "PredictionReport") -> dict[str, Any]:
    """The report as one JSON-able document; examples are paths."""
    facts = asdict(report)
    facts["gallery"] = str(report.gallery)
    facts["problems"] = [{"path": str(one.path), "reason": one.reason} for one in report.problems]
    for label in facts["labels"]:
        label["examples"] = [str(gallery.image(number).path) for number in label["examples"]]
    return facts


def print_counts(gallery: "Gallery", report: "PredictionReport") -> None:
    """A line for each label: how many images, a bar, how sure on average, the surest images."""
    from rich.table import Table
    from rich.text import Text

    console = stdout()
    if not console.is_terminal:
        console.width = 10_000  # in a pipe nothing is folded
    rows = Table(box=None, pad_edge=False, header_style="dim")
    rows.add_column("label", overflow="fold")
    rows.add_column("images", justify="right", no_wrap=True)
    rows.add_column("", no_wrap=True, style="green")
    rows.add_column("sure", justify="right", no_wrap=True)
    rows.add_column("surest", overflow="ellipsis", no_wrap=True, style="dim")
    most = max((one.images for one in report.labels), default=0)
    for one in report.labels[:SHOWN_LABELS]:
        sure = f"{one.mean_probability:.2f}" if one.images else "–"
        rows.add_row(Text(one_line(one.label)), f"{one.images:,}", bar(one.images, most), sure, _examples(gallery, one))
    console.print(rows)
    if (rest := len(report.labels) - SHOWN_LABELS) > 0:
        images = sum(one.images for one in report.labels[SHOWN_LABELS:])
        console.print(f"… and {rest:,} more labels with {images:,} images in all", markup=False)


def _examples(gallery: "Gallery", one: "LabelCount") -> str:
    paths = [gallery.image(number).path for number in one.examples[:SHOWN_EXAMPLES]]
    return ", ".join(shown_path(path) for path in paths)


def bar(count: int, most: int) -> str:
    """A bar in eighths of a cell, as long as ``count`` is of ``most``; anything above zero shows."""
    eighths = round(8 * BAR_CELLS * count / most) if most else 0
    if count:
        eighths = max(1, eighths)
    return "█" * (eighths // 8) + ("▏▎▍▌▋▊▉"[eighths % 8 - 1] if eighths % 8 else "")


def say(report: "PredictionReport") -> None:
    """On stderr: what was done, what was left out, and what to do with it."""
    for text in report.notes:
        note(text)
    if not report.images and not report.skipped and not report.without_vector:
        note("no image passes the filter")
        return
    how = "from stored vectors, no image was opened" if report.from_vectors else "by opening them"
    pace = f"{report.seconds:,.1f} s"
    done = "would get" if not report.saved else "got"
    note(
        f"{report.labelled:,} of {report.images:,} images {done} a label by {report.model} ({how}; {pace})"
        + ("; nothing was written" if not report.saved else "")
    )
    if report.without_vector:
        space = f" --model {report.space}" if report.space else ""
        images = "1 image has" if report.without_vector == 1 else f"{report.without_vector:,} images have"
        note(f"{images} no vector there yet: vitseek index{space}")
    for problem in report.problems[:SHOWN_PROBLEMS]:
        warn(f"{one_line(str(problem.path))}: {problem.reason}")
    if report.skipped > SHOWN_PROBLEMS:
        warn(f"… and {report.skipped - SHOWN_PROBLEMS:,} more images that could not be used")
    given = [one for one in report.labels if one.images]
    if report.saved and given:
        test = shlex.quote(written("predicted", given[0].label))
        least = math.floor(10 * given[0].mean_probability) / 10  # not rounded up: 0.97 must find something
        sure = shlex.quote(f"{written('predicted', given[0].label)}>={least}")
        note(f"look:      vitseek label list --where {test}")
        note(f"search:    vitseek search QUERY --where {sure}")
        note(f"take back: vitseek label remove --source {report.source}")


def written(field: str, value: str) -> str:
    """A filter for exactly this label, as short as it goes."""
    if re.fullmatch(r"[\w.-]+", value):
        return f"{field}:{value}"
    escaped = re.sub(r'([\\"*?])', r"\\\1", value)
    return f'{field}:"{escaped}"'
