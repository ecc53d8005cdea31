"""A match, and the ways to write a list of them: a table, JSON, CSV, bare paths.

A file name may hold anything but NUL and "/": line breaks, quotes, bytes that are not UTF-8. A table shows such bytes
as escapes; JSON, CSV and paths give them back exactly.
"""

import csv
import io
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

DIGITS = 6  # of a probability
LABEL_SEPARATOR = ";"  # between the labels of one CSV cell
CSV_COLUMNS = (
    "query", "rank", "score", "path", "labels", "width", "height", "bytes", "modified", "id", "predictions",
)  # fmt: skip
SHOWN_PREDICTIONS = 2  # of an image, in a table


@dataclass(frozen=True, slots=True)
class Match:
    """One image that was found.

    ``path`` is absolute and may hold undecodable bytes; ``score`` is the cosine to the query, −1 to 1 (in a search of
    two spaces a mean of standard scores or of reciprocal ranks);
    ``width`` and ``height`` are pixels with the EXIF orientation applied; ``modified`` is the file's time.
    ``predictions`` are (label, probability, source) of what models gave, the most probable first.
    """

    id: int
    path: Path
    score: float
    labels: tuple[str, ...] = ()
    width: int | None = None
    height: int | None = None
    bytes: int | None = None
    modified: datetime | None = None
    predictions: Sequence[tuple[str, float, str]] = ()


@dataclass(frozen=True, slots=True)
class Result:
    """What one query found, best first.

    ``parsed`` is the query as it was understood, ``spaces`` where it was searched.
    """

    query: str
    matches: Sequence[Match]
    parsed: str | None = None
    spaces: tuple[str, ...] = ()


def document(
    results: Sequence[Result],
    *,
    gallery: Path,
    model: str,
    where: str | None = None,
    fusion: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The results as one JSON-able document; ``fusion`` says how two spaces were joined.

    Bytes of a path that are not UTF-8 are lone surrogates (``"\\udce9"`` for 0xE9), as everywhere in Python:
    ``os.fsencode(path)`` gives the bytes back.
    """
    return {
        "gallery": str(gallery),
        "model": model,
        "where": where,
        **({"fusion": dict(fusion)} if fusion else {}),
        "results": [
            {
                "query": result.query,
                **({"parsed": result.parsed} if result.parsed else {}),
                **({"spaces": list(result.spaces)} if result.spaces else {}),
                "matches": [_plain(rank, match) for rank, match in enumerate(result.matches, 1)],
            }
            for result in results
        ],
    }


def _plain(rank: int, match: Match) -> dict[str, Any]:
    return {
        "rank": rank,
        "score": _shortest(match.score),
        "path": str(match.path),
        "labels": list(match.labels),
        "width": match.width,
        "height": match.height,
        "bytes": match.bytes,
        "modified": match.modified.isoformat() if match.modified else None,
        "id": match.id,
        "predictions": [
            {"label": label, "probability": round(probability, DIGITS), "source": source}
            for label, probability, source in match.predictions
        ],
    }


def _shortest(score: float) -> float:
    """The same float32 with few digits: 0.8431728, not 0.8431727886199951."""
    import numpy as np

    return float(str(np.float32(score)))


def write_csv(results: Sequence[Result], stream: BinaryIO) -> None:
    """A header and one row per match; text is quoted, the bytes of a path are written as they are."""
    text = io.StringIO()
    # Text is always quoted: Python 3.11 leaves a bare carriage return unquoted otherwise.
    writer = csv.writer(text, lineterminator="\n", quoting=csv.QUOTE_NONNUMERIC)
    writer.writerow(CSV_COLUMNS)
    for result in results:
        for rank, match in enumerate(result.matches, 1):
            guesses = (f"{label} {round(probability, DIGITS)}" for label, probability, _ in match.predictions)
            row = {
                **_plain(rank, match),
                "query": result.query,
                "labels": LABEL_SEPARATOR.join(match.labels),
                "predictions": LABEL_SEPARATOR.join(guesses),
            }
            writer.writerow(["" if row[column] is None else row[column] for column in CSV_COLUMNS])
    stream.write(text.getvalue().encode("utf-8", "surrogateescape"))


def write_paths(results: Sequence[Result], stream: BinaryIO, *, null: bool = False) -> list[Path]:
    """Every path once, in order of appearance, one a line or ended by NUL (``xargs -0``).

    Returns
    -------
    Paths that hold a line break, which a reader of lines would take for two; empty with ``null``.
    """
    paths = list(dict.fromkeys(match.path for result in results for match in result.matches))
    end = b"\0" if null else b"\n"
    stream.write(b"".join(os.fsencode(path) + end for path in paths))
    return [] if null else [path for path in paths if "\n" in str(path)]


def table(matches: Sequence[Match], *, links: bool = False) -> "Table":
    """Rank, score, path, labels and size for a terminal; with ``links``, a click on a path opens the picture."""
    from rich.style import Style
    from rich.table import Table
    from rich.text import Text

    rows = Table(box=None, pad_edge=False, header_style="dim")
    rows.add_column("#", justify="right", style="dim", no_wrap=True)
    rows.add_column("score", justify="right", style="bold", no_wrap=True)
    rows.add_column("path", overflow="fold", ratio=1 if links else None)
    if any(match.labels or match.predictions for match in matches):
        rows.add_column("labels", style="green", overflow="fold")
    has_labels = len(rows.columns) == 4
    rows.add_column("pixels", justify="right", no_wrap=True)
    rows.add_column("file", justify="right", style="dim", no_wrap=True)
    for rank, match in enumerate(matches, 1):
        path = Text(shown_path(match.path))
        if links:
            path.stylize(Style(link=match.path.as_uri()))
        labels = [_shown_labels(match)] if has_labels else []
        pixels = f"{match.width}×{match.height}" if match.width and match.height else "–"
        size = human_bytes(match.bytes) if match.bytes is not None else "–"
        rows.add_row(str(rank), f"{match.score:.4f}", path, *labels, pixels, size)
    return rows


def _shown_labels(match: Match) -> "Text":
    """The labels, then what models think with its probability, paler."""
    from rich.text import Text

    guesses = [f"{label} {probability:.2f}" for label, probability, _ in match.predictions[:SHOWN_PREDICTIONS]]
    text = Text(one_line(", ".join(match.labels)))
    if guesses:
        text.append(one_line((", " if match.labels else "") + ", ".join(guesses)), style="dim")
    return text


def shown_path(path: Path, start: str | None = None) -> str:
    """A path for people, on one line: relative to the working directory (or ``start``) where that is shorter."""
    shown = str(path)
    try:
        relative = os.path.relpath(path, start)
    except (OSError, ValueError):  # the working directory was deleted, or lies on another Windows drive
        return one_line(shown)
    return one_line(min(shown, relative, key=len))


def one_line(text: str) -> str:
    """Text that a terminal shows on one line: other bytes than UTF-8, and control characters, become escapes."""
    decoded = text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in decoded)


def human_bytes(count: int) -> str:
    """A file size in three digits: 840 B, 12.3 kB, 1.2 MB."""
    if count < 1000:
        return f"{count} B"
    size = float(count)
    for unit in ("kB", "MB", "GB", "TB"):
        size /= 1000
        if size < 999.5 or unit == "TB":
            break
    return f"{size:.3g} {unit}" if size < 999.5 else f"{size:.0f} {unit}"
