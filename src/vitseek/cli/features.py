"""`vitseek features`: take the vectors of a gallery out, or bring others in."""

from pathlib import Path
from typing import Annotated

import typer

from vitseek.cli.common import GalleryOption, JsonOption, ModelOption, note, print_json, warn

app = typer.Typer(help="Export or import the feature vectors of a gallery as .npz.", no_args_is_help=True)

SpaceOption = Annotated[
    str | None, typer.Option("--space", metavar="NAME", help="Which vectors, as `vitseek status` names them.")
]


@app.command("export")
def export_features(
    file: Annotated[Path, typer.Argument(metavar="FILE.npz")],
    gallery: GalleryOption = None,
    space: SpaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write paths and features to an .npz file, as the model gave them (not normalised).

    Arrays: features (n, D) float32, paths (n,), labels (n,), and what identifies the model.

    \b
    Examples:
      vitseek features export gallery_features.npz
      vitseek features export clip.npz --space clip-vit-b32 --gallery photos
    """
    from vitseek.gallery.gallery import Gallery

    with Gallery(Gallery.locate(gallery, report=note), create=False) as opened:
        count = opened.export_features(file, space=space)
        name = opened.space(space).name
    if as_json:
        print_json({"file": str(file), "images": count, "space": name})
    else:
        note(f"{file}: features of {count:,} images ({name})")


@app.command("import")
def import_features(
    file: Annotated[Path, typer.Argument(metavar="FILE.npz")],
    gallery: GalleryOption = None,
    model: ModelOption = None,
    name: Annotated[str | None, typer.Option("--name", metavar="NAME", help="What to call the vectors.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Take features from an .npz file with an array of features (n, D) and one of paths (n,).

    Name the model that made them with --model, and a few images are embedded again to see that it did; then any
    picture can be searched. Without a model, searching works with images of the gallery only.

    \b
    Examples:
      vitseek features import gallery_features.npz --gallery photos --model dinov2-base
      vitseek features import mine.npz --name mine
    """
    from vitseek.gallery.gallery import Gallery

    with Gallery(Gallery.locate(gallery, report=note), create=False) as opened:
        report = opened.import_features(file, space=name, model=model)
    if as_json:
        print_json(vars(report))
    else:
        note(f"read {report.read}")
        if report.checked:
            note(report.checked)
        note(f"{report.imported:,} images have vectors in {report.space!r} now")
        skipped = report.missing + report.outside
        if skipped:
            warn(f"{skipped:,} rows were left out:")
        for problem in report.problems[:5]:
            note(f"  {problem}")
        if skipped > 5:
            note(f"  … and {skipped - 5:,} more")
    if report.imported == 0:
        raise typer.Exit(1)
