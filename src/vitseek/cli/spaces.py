"""`vitseek spaces`: the sets of vectors of a gallery, one for each model that looked at its images."""

import shlex
import sys
from typing import Annotated

import typer

from vitseek.cli.common import GalleryOption, JsonOption, note, print_json, printable, stdout
from vitseek.errors import UsageError

app = typer.Typer(
    help="List the sets of vectors of a gallery, one for each model; choose the default one; remove one.\n\n"
    "A space belongs to one model, its weights and its preprocessing. Words are searched in the default space if its "
    "model understands them, else in the first that does. Add a space with: vitseek index --model NAME\n\n"
    "\b\nExamples:\n  vitseek spaces\n  vitseek spaces use clip-vit-b32\n  vitseek spaces remove dinov2-small",
    invoke_without_command=True,
)

SpaceName = Annotated[str, typer.Argument(metavar="NAME", help="As `vitseek spaces` prints it.")]


@app.callback()
def spaces(context: typer.Context, gallery: GalleryOption = None, as_json: JsonOption = False) -> None:
    if context.invoked_subcommand is not None:
        if gallery is not None or as_json:
            given = "--gallery" if gallery is not None else "--json"
            raise UsageError(f"write {given} after '{context.invoked_subcommand}'")
        return
    _list(gallery, as_json)


@app.command("list")
def list_spaces(gallery: GalleryOption = None, as_json: JsonOption = False) -> None:
    """List them: how many images have a vector, and whether words can be searched.

    \b
    Examples:
      vitseek spaces list --gallery photos --json
    """
    _list(gallery, as_json)


def _list(gallery: GalleryOption, as_json: bool) -> None:
    from rich.table import Table

    from vitseek.gallery.gallery import Gallery

    with Gallery(Gallery.locate(gallery, report=note), create=False) as opened:
        status = opened.status()
    facts = [
        {
            "name": space.name,
            "model": space.model,
            "dim": space.dim,
            "images": space.images,
            "words": space.words,
            "default": space.default,
            "source": space.source,
        }
        for space in status.spaces
    ]
    if as_json:
        print_json({"gallery": str(status.path), "images": status.images, "spaces": facts})
        return
    console = stdout()
    if not console.is_terminal:
        console.width = 10_000  # in a pipe nothing is folded
    table = Table(box=None, pad_edge=False, header_style="dim")
    for column in ("", "space", "words", "images", "length"):
        table.add_column(column, justify="right" if column in ("images", "length") else "left", no_wrap=True)
    for space in status.spaces:
        images = f"{space.images:,} of {status.images:,}"
        words = "yes" if space.words else "no"
        table.add_row("*" if space.default else "", printable(space.name), words, images, str(space.dim))
    if status.spaces:
        console.print(table)
        note("* is searched by default")
    else:
        note(f"{status.path} has no vectors yet. Make them with: vitseek index {shlex.quote(str(status.path))}")
    for space in status.spaces:
        if space.images < status.images and space.source is not None:
            lacking = f"{status.images - space.images:,}"
            note(f"{space.name} lacks {lacking} images: vitseek index --model {shlex.quote(str(space.source))}")
    if status.spaces and not any(space.words for space in status.spaces):
        note("no model here understands words; `vitseek models` lists those that do: vitseek index --model NAME")


@app.command("use")
def use(name: SpaceName, gallery: GalleryOption = None, as_json: JsonOption = False) -> None:
    """Search another space by default, and index new images into it.

    \b
    Examples:
      vitseek spaces use clip-vit-b32
    """
    from vitseek.gallery.gallery import Gallery

    with Gallery(Gallery.locate(gallery, report=note), create=False) as opened:
        opened.use_space(name)
        status = opened.status()
    chosen = next(space for space in status.spaces if space.default)
    if as_json:
        print_json({"gallery": str(status.path), "default": chosen.name})
        return
    note(f"{chosen.name} is searched by default now")
    if chosen.images < status.images and chosen.source is not None:
        lacking = status.images - chosen.images
        note(f"it lacks {lacking:,} of {status.images:,} images; fill it with: vitseek index")


@app.command("remove")
def remove(
    name: SpaceName,
    gallery: GalleryOption = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Delete the vectors of one model. Images, labels and other spaces stay; the model can be indexed again.

    \b
    Examples:
      vitseek spaces remove dinov2-small
      vitseek spaces remove clip-vit-b32 --gallery photos --yes
    """
    from vitseek.gallery.gallery import Gallery

    with Gallery(Gallery.locate(gallery, report=note), create=False) as opened:
        space = opened.space(name)
        if not yes:
            held = next(one.images for one in opened.status().spaces if one.id == space.id)
            if not sys.stdin.isatty():
                raise UsageError(f"this would delete {held:,} vectors of {space.name}; add --yes if that is meant")
            if not typer.confirm(f"Delete the {held:,} vectors of {space.name} (images and labels stay)?", err=True):
                note("nothing was removed")
                raise typer.Exit(1)
        removed = opened.remove_space(name)
        default = next(one.name for one in opened.status().spaces if one.default)
    if as_json:
        print_json({"gallery": str(opened.path), "removed": space.name, "vectors": removed, "default": default})
    else:
        note(f"the {removed:,} vectors of {space.name} are deleted; {default} is searched by default")
