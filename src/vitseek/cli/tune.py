"""`vitseek tune`: what speed costs on the user's own pictures."""

import shlex
from typing import TYPE_CHECKING, Annotated

import typer

from vitseek.cli.common import (
    GalleryOption,
    JsonOption,
    ModelOption,
    OfflineOption,
    note,
    print_json,
    printable,
    progress_bar,
    stdout,
)

if TYPE_CHECKING:
    from vitseek.gallery.tuning import Measured, Tuning


def tune(
    gallery: GalleryOption = None,
    model: ModelOption = None,
    images: Annotated[
        int, typer.Option(min=1, metavar="N", help="Pictures to measure with, evenly taken from the gallery.")
    ] = 128,
    agreement: Annotated[
        float, typer.Option(metavar="SHARE", help="What the recommended one must keep of the exact top 10.")
    ] = 0.95,
    offline: OfflineOption = False,
    as_json: JsonOption = False,
) -> None:
    """Measure on the gallery what other engines, lower precision and fewer tokens gain, and what they cost.

    Every picture of the sample asks for the ten nearest others; "top 10" is the share of them that is the same as with
    exact features. With labels, the mean average precision is printed, too. Nothing is changed: the command to index
    with is printed at the end.

    \b
    Examples:
      vitseek tune
      vitseek tune --gallery photos --model dinov2-small --images 300
      vitseek tune --agreement 0.9 --json
    """
    from vitseek.gallery.gallery import Gallery

    with (
        Gallery(Gallery.locate(gallery, report=note), create=False, model=model, offline=offline or None) as opened,
        progress_bar() as bar,
    ):
        task = bar.add_task("Measuring", total=None, rate="")

        def show(what: str, number: int, total: int) -> None:
            bar.update(task, completed=number, total=total, rate=what)
            if not bar.console.is_terminal:
                note(f"measuring {number + 1} of {total}: {what}")

        found = opened.tune(images=images, agreement=agreement, progress=show)
    if as_json:
        print_json(found.to_dict())
        return
    _print(found)
    command = f"vitseek index {shlex.quote(str(opened.path))}"
    if model is not None:
        command += f" --model {shlex.quote(str(model))}"
    if found.recommended:
        note(f"recommended, with at least {agreement:.0%} of the top 10: {command} {found.recommended}")
    else:
        note(f"nothing faster keeps {agreement:.0%} of the top 10 here: exact it is")


def _print(found: "Tuning") -> None:
    from rich.table import Table

    console = stdout()
    if not console.is_terminal:
        console.width = 10_000  # in a pipe nothing is folded
    labelled = any(row.mean_average_precision is not None for row in found.rows)
    console.print(printable(f"{found.model}, {found.images} pictures"), markup=False)
    table = Table(box=None, pad_edge=False, header_style="dim")
    for column in ("", "options", "images/s", "faster", "top 10", *(["mAP"] if labelled else [])):
        table.add_column(column, justify="left" if column in ("", "options") else "right", no_wrap=True)
    for row in found.rows:
        if row.problem is None:
            table.add_row("*" if row.options == found.recommended else "", *_cells(row, labelled))
    console.print(table)
    for row in found.rows:
        if row.problem is not None:
            note(f"{row.options}: {row.problem}")


def _cells(row: "Measured", labelled: bool) -> list[str]:
    precision = "–" if row.mean_average_precision is None else f"{row.mean_average_precision:.3f}"
    return [
        row.options or "exact (numpy)",
        f"{row.images_per_s:.1f}",
        f"{row.faster:.2f} ×",
        f"{row.agreement:.3f}",
        *([precision] if labelled else []),
    ]
