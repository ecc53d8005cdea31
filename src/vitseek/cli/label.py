"""`vitseek label`: give labels to images, take them, and see them."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vitseek.cli.common import GalleryOption, JsonOption, note, print_json, stdout
from vitseek.errors import UsageError

if TYPE_CHECKING:
    from vitseek.gallery.gallery import Gallery
    from vitseek.gallery.records import ImageRecord

app = typer.Typer(help="Give labels to images, take them, and see who gave which.", no_args_is_help=True)

ASK_ABOVE = 20
OWN = ("user", "folder")

LabelsArgument = Annotated[str, typer.Argument(metavar="LABEL", help='One label, or several: "dress, red".')]
ImagesArgument = Annotated[
    list[Path] | None, typer.Argument(metavar="[IMAGE...]", help="Images, or folders with all below them.")
]
WhereOption = Annotated[
    str | None, typer.Option("--where", metavar="FILTER", help="Also what passes, such as 'predicted:dress>=0.9'.")
]


@app.command("add")
def add(
    labels: LabelsArgument,
    images: ImagesArgument = None,
    where: WhereOption = None,
    gallery: GalleryOption = None,
    as_json: JsonOption = False,
) -> None:
    """Give labels to images. They are yours: they stay through re-indexing, renaming and editing of the files.

    \b
    Examples:
      vitseek label add dress photos/a.jpg photos/b.jpg
      vitseek label add "dress, red" photos/catalogue
      vitseek label add dress --where 'predicted:dress>=0.9'      what a model is sure of becomes yours
    """
    if not images and not where:
        raise UsageError("which images? Name some, or folders, or give a filter with --where")
    names = _names(labels)
    with _opened(gallery, images) as opened:
        ids = opened.select(images or (), where=where)
        opened.add_labels(ids, names)
    _done("now have", names, len(ids), as_json)


@app.command("remove")
def remove(
    labels: Annotated[
        str | None, typer.Argument(metavar="[LABEL]", help='One label, or several: "dress, red".')
    ] = None,
    images: ImagesArgument = None,
    where: WhereOption = None,
    source: Annotated[
        str | None,
        typer.Option("--source", metavar="NAME", help="Labels that this source gave, such as zero-shot; all of them."),
    ] = None,
    gallery: GalleryOption = None,
    yes: Annotated[
        bool, typer.Option("--yes", "-y", help=f"Do not ask, also for more than {ASK_ABOVE} images.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Take labels from images: yours and those of folders, or with --source those that a model predicted.

    Without images and filter, from all of the gallery.

    \b
    Examples:
      vitseek label remove dress photos/a.jpg
      vitseek label remove draft --yes                              everywhere
      vitseek label remove --source zero-shot                       all that it predicted
      vitseek label remove dress --source zero-shot --where 'predicted:dress<0.5'
    """
    if labels is None and (source is None or source in OWN):
        raise UsageError("which label? Name it, or the source of predictions to take back: --source zero-shot")
    names = _names(labels) if labels is not None else []
    with _opened(gallery, images) as opened:
        chosen = opened.select(images or (), where=where) if images or where else None
        if not names:
            assert source is not None
            count = _remove_source(opened, source, chosen, as_json)
        else:
            ids = [record.id for record in _records(opened, chosen) if _has(record, names, source)]
            if len(ids) > ASK_ABOVE and not yes and (source is None or source in OWN) and not _agreed(len(ids)):
                note("nothing was changed")
                raise typer.Exit(1)
            opened.remove_labels(ids, names, source=source)
            count = len(ids)
            _done("no longer have", names, count, as_json)
            if any(_comes_back(opened, record, names) for record in _records(opened, ids)):
                note("labels of folders come back at the next run unless you index with --no-labels-from-folders")
    if not count:
        raise typer.Exit(1)


@app.command("list")
def list_labels(
    images: ImagesArgument = None,
    where: WhereOption = None,
    gallery: GalleryOption = None,
    as_json: JsonOption = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print comma-separated values with a header.")] = False,
) -> None:
    """Show every label with its number of images and who gave it; or, of some images, the labels of each.

    \b
    Examples:
      vitseek label list
      vitseek label list photos/a.jpg
      vitseek label list --where 'predicted:dress>=0.5 not source:user'
    """
    if as_json and as_csv:
        raise UsageError("only one of --json and --csv can be printed")
    with _opened(gallery, images) as opened:
        if images or where:
            found = _records(opened, opened.select(images or (), where=where))
            _list_images(found, as_json=as_json, as_csv=as_csv)
            if not found:
                note("no image was found")
                raise typer.Exit(1)
        else:
            _list_counts(opened.status().labels_by_source, as_json=as_json, as_csv=as_csv)


def _names(text: str) -> list[str]:
    from vitseek.heads.labels import clean, split

    return clean(split(text), report=note)


def _opened(gallery: Path | None, images: list[Path] | None) -> "Gallery":
    from vitseek.gallery.gallery import Gallery

    start = images[0].parent if images else None
    return Gallery(Gallery.locate(gallery, start=start, report=note), create=False)


def _records(opened: "Gallery", ids: Sequence[int] | None) -> "list[ImageRecord]":
    return list(opened.images()) if ids is None else [opened.image(number) for number in ids]


def _has(record: "ImageRecord", names: Sequence[str], source: str | None) -> bool:
    if source is None or source in OWN:
        return any(name in record.labels for name in names)
    return any(one.label in names and one.source == source for one in record.predictions)


def _comes_back(opened: "Gallery", record: "ImageRecord", names: Sequence[str]) -> bool:
    """Whether indexing gives an image one of the labels again, as the name of its folder."""
    folder, inside, _ = record.relative_path.partition("/")
    return opened.labels_from_folders and bool(inside) and folder in names


def _remove_source(opened: "Gallery", source: str, chosen: Sequence[int] | None, as_json: bool) -> int:
    if chosen is None:
        count = opened.remove_predictions(source)
    else:
        count = 0
        for record in _records(opened, chosen):
            mine = [one.label for one in record.predictions if one.source == source]
            opened.remove_labels([record.id], mine, source=source)
            count += len(mine)
    known = ", ".join(one for one in opened.status().labels_by_source if one not in OWN)
    if as_json:
        print_json({"source": source, "removed": count})
    elif count:
        note(f"{count:,} predictions of {source!r} are gone")
    else:
        note(f"there was no prediction of {source!r}" + (f"; there are some of: {known}" if known else ""))
    return count


def _done(verb: str, names: Sequence[str], count: int, as_json: bool) -> None:
    if as_json:
        print_json({"labels": list(names), "images": count})
    elif not count:
        note("no image was found")
    else:
        images = "1 image" if count == 1 else f"{count:,} images"
        note(f"{images} {verb.replace('have', 'has') if count == 1 else verb} {', '.join(map(repr, names))}")
    if not count:
        raise typer.Exit(1)


def _agreed(count: int) -> bool:
    if not sys.stdin.isatty():
        raise UsageError(f"this would take a label of yours from {count:,} images; add --yes if that is meant")
    return typer.confirm(f"Take the label from {count:,} images?", err=True)


def _list_counts(counts: dict[str, dict[str, int]], *, as_json: bool, as_csv: bool) -> None:
    if as_json:
        print_json(counts)
        return
    rows = [(label, source, images) for source, labels in counts.items() for label, images in labels.items()]
    if as_csv:
        from vitseek.cli.predicted import write_csv

        write_csv([("label", "source", "images"), *rows])
        return
    from rich.table import Table
    from rich.text import Text

    from vitseek.search.results import one_line

    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("label", overflow="fold")
    table.add_column("given by", style="green")
    table.add_column("images", justify="right")
    for label, source, images in rows:
        table.add_row(Text(one_line(label)), source, f"{images:,}")
    if rows:
        stdout().print(table)
    else:
        note("no image has a label. Give some: vitseek label add, or vitseek classify zero-shot --labels …")


def _list_images(records: "Sequence[ImageRecord]", *, as_json: bool, as_csv: bool) -> None:
    if as_json:
        print_json({"images": [_plain(record) for record in records]})
        return
    if as_csv:
        from vitseek.cli.predicted import CSV_COLUMNS, write_csv

        write_csv([CSV_COLUMNS])
        for record in records:
            path = str(record.path)
            write_csv([(path, label, "", "user or folder", record.id) for label in record.labels])
            write_csv([(path, p.label, round(p.probability, 6), p.source, record.id) for p in record.predictions])
        return
    from rich.text import Text

    from vitseek.search.results import one_line, shown_path

    console = stdout()
    for record in records:
        line = Text(f"{shown_path(record.path)}: ")
        parts = [Text(one_line(label), style="bold") for label in record.labels]
        parts += [Text(one_line(f"{p.label} {p.probability:.2f} ({p.source})")) for p in record.predictions]
        console.print(line + Text(", ").join(parts) if parts else line + Text("no label", style="dim"), soft_wrap=True)


def _plain(record: "ImageRecord") -> dict[str, Any]:
    return {
        "id": record.id,
        "path": str(record.path),
        "labels": list(record.labels),
        "predictions": [one._asdict() for one in record.predictions],
    }
