"""`vitseek classify`: labels without training, by words or by a checkpoint's own classes."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vitseek.cli.common import (
    GalleryOption,
    JsonOption,
    ModelOption,
    OfflineOption,
    note,
    warn,
)
from vitseek.errors import UsageError

if TYPE_CHECKING:
    from vitseek.gallery.gallery import Gallery

app = typer.Typer(
    help="Label images without training: by words, or with the classes of a checkpoint.", no_args_is_help=True
)

WhereOption = Annotated[
    str | None, typer.Option("--where", metavar="FILTER", help="Only images that pass, such as 'path:2024*'.")
]
ThresholdOption = Annotated[
    float | None, typer.Option("--threshold", metavar="P", help="Give no label below this probability, 0 to 1.")
]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Show what would be labelled; write nothing.")]
CsvOption = Annotated[bool, typer.Option("--csv", help="Print a line for each image and label: path, label, …")]


@app.command("zero-shot")
def zero_shot(
    labels: Annotated[
        list[str] | None,
        typer.Option("--labels", metavar="LABELS", help='Separated by commas: "dress, hat, shoes". May come again.'),
    ] = None,
    labels_file: Annotated[
        Path | None, typer.Option("--labels-file", metavar="FILE", help="A text file with one label a line.")
    ] = None,
    template: Annotated[
        list[str] | None,
        typer.Option("--template", metavar="TEXT", help="A prompt with {} for the label. May come several times."),
    ] = None,
    template_file: Annotated[
        Path | None, typer.Option("--template-file", metavar="FILE", help="A text file with one prompt a line.")
    ] = None,
    other: Annotated[
        list[str] | None,
        typer.Option("--other", metavar="TEXT", help="What else an image may show; compared, never written."),
    ] = None,
    where: WhereOption = None,
    threshold: ThresholdOption = None,
    top: Annotated[
        int | None, typer.Option("--top", metavar="N", min=1, help="Labels an image gets at most.", show_default=False)
    ] = None,
    gallery: GalleryOption = None,
    space: Annotated[
        str | None, typer.Option("--space", metavar="NAME", help="Whose vectors, as `vitseek status` names them.")
    ] = None,
    source: Annotated[
        str, typer.Option("--source", metavar="NAME", help="What to call these labels; its earlier ones are replaced.")
    ] = "zero-shot",
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
    as_csv: CsvOption = False,
    offline: OfflineOption = False,
) -> None:
    """Label the images of a gallery by words, with a model that reads text (CLIP, SigLIP and their like).

    Each label becomes a vector: the mean over some prompts, such as "a photo of a dress". An image gets the label whose
    vector is nearest to its own, with a probability. Stored vectors are used; no image is opened. The labels are
    predictions: they stand beside your own, and the next run replaces them.

    CLIP's labels share a probability of 1, so the best of them is given even to an image that shows none: say with
    --other what else there is, or ask for a --threshold. SigLIP judges each label alone, so an image may get several
    or none.

    \b
    Examples:
      vitseek classify zero-shot --labels "dress, hat, shoes"
      vitseek classify zero-shot --labels 'dress, "shirt, blouse"' --other "a landscape" --threshold 0.6
      vitseek classify zero-shot --labels-file kinds.txt --template "a photo of a {}, a kind of clothing"
      vitseek classify zero-shot --labels "day, night" --source light --where 'path:2024*' --dry-run
    """
    _one_output(as_json, as_csv)
    # What the call itself gets wrong is said at once, before a model is loaded.
    from vitseek.heads.labels import checked_templates, clean, read_lines, split

    if not labels and labels_file is None:
        raise UsageError('which labels? Give --labels "dress, hat, shoes" or --labels-file FILE')
    names = [name for text in labels or [] for name in split(text)]
    names += read_lines(labels_file) if labels_file else []
    names = clean(names, report=note)
    templates = [*(template or []), *(read_lines(template_file) if template_file else [])]
    if template is not None or template_file is not None:
        templates = checked_templates(templates, report=note)
    _check(where, threshold)

    from vitseek.cli.predicted import CsvRows, Shown
    from vitseek.gallery.by_words import ZeroShotKeywords

    options: ZeroShotKeywords = {
        "others": other or [], "where": where, "threshold": threshold, "top": top, "space": space, "source": source,
        "dry_run": dry_run, "report": note,
    }  # fmt: skip
    if templates:
        options["templates"] = templates
    with _opened(gallery, None, offline) as opened, Shown() as shown, CsvRows(opened, source, wanted=as_csv) as rows:
        options["each"], options["progress"] = rows.add, shown.progress
        report = opened.classify_zero_shot(names, **options)
        shown.close()
        shown.result(opened, report, as_json=as_json, as_csv=as_csv)


@app.command("head")
def head(
    images: Annotated[
        list[Path] | None, typer.Argument(metavar="[IMAGE...]", help="Print their classes; no gallery is needed.")
    ] = None,
    model: ModelOption = None,
    top: Annotated[int, typer.Option("--top", metavar="N", min=1, help="Labels an image gets at most.")] = 5,
    threshold: ThresholdOption = None,
    names: Annotated[
        Path | None,
        typer.Option("--names", metavar="FILE", help="The names of the classes, one a line, in the head's order."),
    ] = None,
    where: WhereOption = None,
    gallery: GalleryOption = None,
    source: Annotated[
        str, typer.Option("--source", metavar="NAME", help="What to call these labels; its earlier ones are replaced.")
    ] = "head",
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
    as_csv: CsvOption = False,
    offline: OfflineOption = False,
) -> None:
    """Label images with the classes that a checkpoint was trained on, such as ImageNet's thousand.

    With images, their best classes are printed. Without, every image of the gallery is labelled: from its stored vector
    where that is exactly what the head sees, else by opening it again; stopped with Ctrl-C, the same command goes on.
    The labels are predictions: they stand beside your own, and the next run replaces them.

    \b
    Examples:
      vitseek classify head cat.jpg dog.jpg --model vit-tiny
      vitseek classify head --model vit-tiny --threshold 0.3
      vitseek classify head --model my-run/model.safetensors --names classes.txt --where 'not label:*'
    """
    _one_output(as_json, as_csv)
    _check(where, threshold)
    from vitseek.heads.labels import read_lines

    called = [" ".join(line.split()) for line in read_lines(names)] if names else None
    if images:
        if where or gallery or dry_run:
            raise UsageError("--where, --gallery and --dry-run belong to a gallery: leave the images away, or these")
        from vitseek.cli.classify_images import classify_images

        classify_images(
            images, model=model, names=called, top=top, threshold=threshold or 0.0, as_json=as_json, as_csv=as_csv,
            offline=offline,
        )  # fmt: skip
        return
    from vitseek.cli.predicted import CsvRows, Shown

    with _opened(gallery, model, offline) as opened, Shown() as shown, CsvRows(opened, source, wanted=as_csv) as rows:
        try:
            report = opened.classify_head(
                names=called, where=where, threshold=threshold or 0.0, top=top, source=source, dry_run=dry_run,
                report=note, progress=shown.progress, each=rows.add,
            )  # fmt: skip
        except KeyboardInterrupt:
            shown.close()
            note("interrupted; the labels of the last complete run are still there. The same command goes on")
            raise
        shown.close()
        shown.result(opened, report, as_json=as_json, as_csv=as_csv)


def _one_output(as_json: bool, as_csv: bool) -> None:
    if as_json and as_csv:
        raise UsageError("only one of --json and --csv can be printed")


def _check(where: str | None, threshold: float | None) -> None:
    if threshold is not None and not 0 <= threshold <= 1:
        raise UsageError(f"--threshold is a probability from 0 to 1; it is {threshold}")
    if where is not None:
        from vitseek.search.where import parse

        parse(where)


def _opened(gallery: Path | None, model: str | None, offline: bool) -> "Gallery":
    from vitseek.gallery.gallery import Gallery

    folder = Gallery.locate(gallery, report=note)

    def waiting(holder: object) -> None:
        warn(f"waiting for {holder or 'another process'}")

    return Gallery(folder, create=False, model=model, offline=offline or None, waiting=waiting)
