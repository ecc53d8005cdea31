"""`vitseek verify`: prove that features equal those of another implementation."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer
from typer.core import TyperCommand

from vitseek.cli.common import JsonOption, OfflineOption, download_bar, note, print_json, stdout
from vitseek.errors import UsageError

if TYPE_CHECKING:
    from vitseek.engines.model import Model
    from vitseek.weights.arrays import AnyArray
    from vitseek.weights.reference import Difference

TOLERANCE = 1e-4
IMAGES = "--images"
WIDTH_IN_A_PIPE = 10_000


class TakesSeveralImages(TyperCommand):
    """Lets ``--images A B C`` stand for ``--images A --images B --images C``, which click does not know."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        return super().parse_args(ctx, list(_spread(args)))


COMMAND_CLASS = TakesSeveralImages


def _spread(args: Sequence[str]) -> Iterator[str]:
    collecting, fresh = False, False
    for argument in args:
        if argument == IMAGES:
            collecting = fresh = True
            yield argument
        elif argument.startswith("-") and argument != "-":
            collecting = False
            yield argument
        else:
            if collecting and not fresh:
                yield IMAGES
            fresh = False
            yield argument


def verify(
    images: Annotated[
        list[Path], typer.Option(metavar="FILE...", help="The images, in the order of the reference's rows.")
    ],
    reference: Annotated[
        Path, typer.Option(metavar="FILE", help="A .npy or .npz file with one row of features for each image.")
    ],
    model: Annotated[
        str | None, typer.Argument(metavar="MODEL", help="A zoo name, a weights file or a folder; before --images.")
    ] = None,
    weights: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Take the weights from this file instead of MODEL's own.")
    ] = None,
    array: Annotated[
        str | None, typer.Option(metavar="NAME", help="Which array of the reference, if an .npz has several.")
    ] = None,
    preprocess: Annotated[
        str | None, typer.Option(metavar="POLICY", help="official, center-crop or short-side.")
    ] = None,
    pooling: Annotated[
        str | None, typer.Option(metavar="RULE", help="cls, patch-mean, cls+patch-mean, gem or embedding.")
    ] = None,
    pos_resize: Annotated[
        str | None,
        typer.Option(metavar="RULE", help="bicubic, bicubic-offset, bicubic-antialias or bilinear-antialias."),
    ] = None,
    tolerance: Annotated[
        float, typer.Option(min=0.0, metavar="NUMBER", help="Largest absolute difference that passes.")
    ] = TOLERANCE,
    offline: OfflineOption = False,
    as_json: JsonOption = False,
) -> None:
    """Compare the features of images with a reference from another implementation.

    Prints the largest and the mean absolute difference, the mean squared error and the cosine of every image. The
    exit status is 1 when a difference is above the tolerance, or not a number.

    \b
    Examples:
      vitseek verify dinov2-base --images cat.jpg dog.jpg --reference features.npy
      vitseek verify --weights vit-dinov2-base.npz --images cat.jpg dog.jpg \\
          --reference cat_dog_feature.npy --preprocess center-crop
    """
    from vitseek.engines.model import load
    from vitseek.weights.reference import compare, read_reference

    if missing := [str(image) for image in images if not image.is_file()]:
        raise UsageError(
            f"no image at {', '.join(missing)}. Everything up to the next option after {IMAGES} is an image; "
            "MODEL goes before it."
        )
    if model is None and weights is None:
        raise UsageError(
            "which model? Give a zoo name (`vitseek models`), a weights file or a folder, or --weights FILE."
        )
    given: dict[str, Any] = {"model": model, "weights": weights} if model is not None else {"model": weights}
    given["offline"] = offline or None
    with download_bar() as progress:
        loaded = load(**given, preprocess=preprocess, pooling=pooling, pos_resize=pos_resize, progress=progress)
    wanted = read_reference(reference, array=array, images=len(images), width=loaded.embed_dim)
    differences = compare(loaded.embed(images), wanted)
    passed = all(difference.within(tolerance) for difference in differences)

    if as_json:
        print_json(_document(loaded, images, differences, tolerance, passed=passed))
    else:
        for line in loaded.notes:
            note(f"note: {line}")
        _print_table(loaded, images, differences, tolerance, passed=passed)
        if not passed:
            note(_advice(given, loaded, images[0], wanted[:1], tolerance))
    if not passed:
        raise typer.Exit(1)


def _settings(model: "Model") -> dict[str, str]:
    return {
        "model": model.name,
        "preprocess": model.preprocessing.policy,
        "pooling": model.pooling,
        "pos_resize": getattr(model.config, "pos_resize", "none"),  # Swin has no grid of positions
        "engine": model.engine,
    }


def _document(
    model: "Model", images: list[Path], differences: "list[Difference]", tolerance: float, *, passed: bool
) -> dict[str, Any]:
    rows = [
        # JSON has no NaN: null says that a number could not be computed.
        {"image": str(image), **{name: value if value == value else None for name, value in asdict(one).items()}}
        for image, one in zip(images, differences, strict=True)
    ]
    sha256 = {"weights_sha256": model.weights_sha256}
    return {**_settings(model), **sha256, "tolerance": tolerance, "passed": passed, "images": rows}


def _print_table(
    model: "Model", images: list[Path], differences: "list[Difference]", tolerance: float, *, passed: bool
) -> None:
    from rich.table import Table
    from rich.text import Text

    from vitseek.cli.common import printable

    table = Table("image", *("max abs diff", "mean abs error", "MSE", "cosine"), box=None, pad_edge=False)
    table.columns[0].overflow = "fold"
    for column in table.columns[1:]:
        column.justify, column.no_wrap = "right", True
    for image, one in zip(images, differences, strict=True):
        numbers = (f"{one.max_abs:.3g}", f"{one.mean_abs:.3g}", f"{one.mse:.3g}", f"{one.cosine:.9f}")
        table.add_row(Text(printable(image)), *numbers)
    console = stdout()
    if not console.is_terminal:
        console.width = WIDTH_IN_A_PIPE  # nothing is cut off
    console.print(", ".join(f"{name} {value}" for name, value in _settings(model).items()), soft_wrap=True)
    console.print(table)
    worst = max(one.max_abs for one in differences) if all(one.max_abs == one.max_abs for one in differences) else None
    came = "not a number" if worst is None else f"{worst:.3g}"
    console.print(f"{'passed' if passed else 'FAILED'}: largest difference {came}, tolerance {tolerance:g}")


def _advice(given: dict[str, Any], model: "Model", image: Path, wanted: "AnyArray", tolerance: float) -> str:
    """Say which settings would have passed for the first image, if any would."""
    from vitseek.engines.model import load
    from vitseek.models.config import PosResize
    from vitseek.preprocess.image import POLICIES, preprocess
    from vitseek.weights.reference import compare

    learned = getattr(model.config, "pos_embed", None) == "learned"  # else there is no grid of positions to resize
    for pos_resize in get_args(PosResize) if learned else (None,):
        resized = f"--pos-resize {pos_resize} " if pos_resize else ""
        other = load(**given, pooling=model.pooling, pos_resize=pos_resize)
        for policy in POLICIES:
            pixels = preprocess(image, model.preprocessing.with_policy(policy))
            if compare(other.embed_pixels(pixels[None]), wanted)[0].within(tolerance):
                settings = f"--preprocess {policy} {resized}--pooling {model.pooling}"
                return f"With other settings {image.name} passes: {settings}."
    return (
        "No other --preprocess or --pos-resize passes either. Are these the reference's weights, pictures and pooling "
        f"(--pooling {model.pooling})? docs/weights.md says what differs between implementations."
    )
