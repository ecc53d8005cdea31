"""A list of labels or templates as people write it, made clean; what was changed is said."""

import csv
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from vitseek.errors import UsageError

Report = Callable[[str], None]
PLACE = "{}"  # where a template takes the label
SHOWN = 5  # duplicates that a message names


def split(text: str) -> list[str]:
    """The labels of one line: ``dress, hat, "shoes, boots"``. Quotes hold a label with a comma together.

    Raises
    ------
    UsageError
        If a quote is never closed.
    """
    try:
        rows = list(csv.reader([text], skipinitialspace=True, strict=True))
    except csv.Error as error:
        raise UsageError(
            f"the labels cannot be read ({error}): separate them by commas, and put one that holds a comma in "
            f"double quotes: --labels 'dress, \"shirt, blouse\"'; they were {text[:100]!r}"
        ) from error
    return rows[0] if rows else []


def read_lines(file: Path) -> list[str]:
    """One entry a line; empty lines and those that begin with # are left out.

    Raises
    ------
    UsageError
        If the file cannot be read as UTF-8 text.
    """
    try:
        text = file.read_text("utf-8-sig")
    except OSError as error:
        raise UsageError(f"{file} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{file} is not UTF-8 text (byte {error.start}): one entry a line is wanted") from error
    return [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]


def clean(labels: Iterable[str], *, report: Report | None = None) -> list[str]:
    """Labels with single spaces, each once: those that differ only by case or spaces are one, as first written.

    Raises
    ------
    UsageError
        If none is left, or one holds what cannot be printed.
    """
    say = report or (lambda _: None)
    kept: dict[str, str] = {}
    again: list[str] = []
    empty = 0
    for raw in labels:
        label = " ".join(raw.split())
        if not label:
            empty += 1
        elif not label.isprintable():
            raise UsageError(f"a label is printable text; this one is {raw!r}")
        elif label.casefold() in kept:
            again.append(label)
        else:
            kept[label.casefold()] = label
    if not kept:
        raise UsageError('there is no label: give some, such as --labels "dress, hat, shoes"')
    if empty:
        say("1 empty label was left out" if empty == 1 else f"{empty:,} empty labels were left out")
    if again:
        names = ", ".join(again[:SHOWN]) + (", …" if len(again) > SHOWN else "")
        count = "1 label was" if len(again) == 1 else f"{len(again):,} labels were"
        say(f"{count} there already (case and spaces do not count) and left out: {names}")
    return list(kept.values())


def checked_templates(templates: Sequence[str], *, report: Report | None = None) -> list[str]:
    """Templates, each once.

    Raises
    ------
    UsageError
        If one has no ``{}``, or there is none.
    """
    for template in templates:
        if PLACE not in template:
            raise UsageError(f"the template {template!r} has no {PLACE}, where the label goes: 'a photo of a {PLACE}'")
    unique = list(dict.fromkeys(templates))
    if not unique:
        raise UsageError(f"there is no template: give at least one, such as 'a photo of a {PLACE}'")
    if report and len(unique) < len(templates):
        report(f"{len(templates) - len(unique):,} of the templates came more than once and count once")
    return unique
