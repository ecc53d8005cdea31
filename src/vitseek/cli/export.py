"""`vitseek export`: a run's checkpoint as files for the NumPy runtime."""

import dataclasses
from pathlib import Path
from typing import Annotated

import typer

from vitseek.cli.common import JsonOption, note, print_json
from vitseek.errors import MissingExtraError, UsageError

EXTRA = 'export needs PyTorch: pip install "vitseek[train]"'
TOLERANCE = 1e-4


def export(
    checkpoint: Annotated[Path, typer.Argument(metavar="CHECKPOINT", help="A run's folder, or one of its .pt files.")],
    output: Annotated[
        Path, typer.Option("-o", "--output", metavar="FILE", help="NAME.safetensors, or a folder.")
    ] = Path("model.safetensors"),
    name: Annotated[str | None, typer.Option(metavar="NAME", help="The model's name; by default the file's.")] = None,
    licence: Annotated[str | None, typer.Option(metavar="TEXT", help="Written into the description.")] = None,
    dtype: Annotated[str, typer.Option(metavar="float32|float16", help="How weights are stored.")] = "float32",
    tolerance: Annotated[float, typer.Option(help="Largest difference between NumPy and torch.")] = TOLERANCE,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace files that exist.")] = False,
    json: JsonOption = False,
) -> None:
    """Write a trained model for the NumPy runtime, if both give the same features.

    Weights go to NAME.safetensors, architecture, preprocessing and class names to NAME.json beside it; a pair of image
    and text tower adds NAME-tokenizer.json. NumPy and torch compute probes first; if they differ by more than the
    tolerance, nothing is written.

    \b
    Examples:
      vitseek export runs/finetune -o clothes.safetensors
      vitseek export runs/dino/last.pt -o models/dino --dtype float16
      vitseek index photos --model clothes.safetensors
    """
    if dtype not in ("float32", "float16"):
        raise UsageError(f"--dtype must be float32 or float16, not {dtype!r}")
    try:
        from vitseek.train.export import export as write
    except ModuleNotFoundError as error:
        raise MissingExtraError(f"{EXTRA} ({error.name} is missing)") from error

    done = write(
        checkpoint,
        output,
        name=name,
        licence=licence,
        dtype="float16" if dtype == "float16" else "float32",
        tolerance=tolerance,
        overwrite=overwrite,
    )
    if json:
        print_json(
            {
                "files": done.files,
                "recipe": done.recipe,
                "steps": done.steps,
                "parameters": done.parameters,
                "differences": dataclasses.asdict(done.differences),
            }
        )
        return
    apart = done.differences
    scores = "" if apart.scores is None else f", class scores {apart.scores:.2g}"
    texts = "" if apart.texts is None else f", text embeddings {apart.texts:.2g}"
    note(f"NumPy and torch agree: features differ by {apart.features:.2g}{scores}{texts}")
    note(f"(tokens by {apart.tokens:.2g} of the largest one)")
    for file in done.files:
        note(f"wrote {file} ({file.stat().st_size / 1e6:.1f} MB)")
