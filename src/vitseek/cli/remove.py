"""`vitseek remove`: take images out of a gallery; the files stay where they are."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from vitseek.cli.common import GalleryOption, JsonOption, note, print_json
from vitseek.errors import UsageError

ASK_ABOVE = 20


def remove(
    paths: Annotated[
        list[Path] | None, typer.Argument(metavar="PATH", help="Images, or folders with all below them.")
    ] = None,
    where: Annotated[
        str | None, typer.Option(metavar="FILTER", help="Also what passes, such as 'label:draft'.")
    ] = None,
    gallery: GalleryOption = None,
    yes: Annotated[
        bool, typer.Option("--yes", "-y", help=f"Do not ask, also for more than {ASK_ABOVE} images.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Take images out of the gallery and keep them out. The image files are not touched.

    A folder that was added with `vitseek index FOLDER --gallery DIR` leaves the gallery as a whole. What was removed
    stays out when the gallery is indexed again; `vitseek index PATH --restore-removed` takes it back.

    \b
    Examples:
      vitseek remove photos/blurred.jpg
      vitseek remove --where 'label:draft or bytes<10kB'
      vitseek remove /mnt/old-disk --gallery ~/pictures --yes
    """
    if not paths and not where:
        raise UsageError("nothing to remove: name images or folders, or give a filter with --where")
    from vitseek.gallery.gallery import Gallery

    folder = Gallery.locate(gallery, start=paths[0].parent if paths else None, report=note)
    with Gallery(folder, create=False) as opened:
        count = len(opened.select(paths or (), where=where))
        if count > ASK_ABOVE and not yes and not _agreed(count):
            note("nothing was removed")
            raise typer.Exit(1)
        removed = opened.remove(paths or (), where=where)
    if as_json:
        print_json({"gallery": str(folder), "removed": removed})
    else:
        what = "1 image is" if removed == 1 else f"{removed:,} images are"
        note(f"{what} no longer in the gallery; no file was touched. Take back: vitseek index PATH --restore-removed")
    if not removed and not paths:
        raise typer.Exit(1)


def _agreed(count: int) -> bool:
    if not sys.stdin.isatty():
        raise UsageError(f"this would take {count:,} images out of the gallery; add --yes if that is meant")
    return typer.confirm(f"Take {count:,} images out of the gallery (the files stay)?", err=True)
