"""`vitseek export`: a run's checkpoint as files for the NumPy runtime, or any model as an ONNX graph."""

import dataclasses
from pathlib import Path
from typing import Annotated

import typer

from vitseek.cli.common import JsonOption, download_bar, note, print_json
from vitseek.errors import MissingExtraError, UsageError

EXTRA = 'export needs PyTorch: pip install "vitseek[train]"'
TOLERANCE = 1e-4


def export(
    checkpoint: Annotated[
        Path,
        typer.Argument(
            metavar="CHECKPOINT|MODEL",
            help="A run's folder, or one of its .pt files; with --onnx a model's name or file.",
        ),
    ],
    output: Annotated[
        Path, typer.Option("-o", "--output", metavar="FILE", help="NAME.safetensors, or a folder.")
    ] = Path("model.safetensors"),
    name: Annotated[str | None, typer.Option(metavar="NAME", help="The model's name; by default the file's.")] = None,
    licence: Annotated[str | None, typer.Option(metavar="TEXT", help="Written into the description.")] = None,
    dtype: Annotated[str, typer.Option(metavar="float32|float16", help="How weights are stored.")] = "float32",
    tolerance: Annotated[float, typer.Option(help="Largest difference between NumPy and torch.")] = TOLERANCE,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace files that exist.")] = False,
    onnx: Annotated[
        Path | None, typer.Option("--onnx", metavar="FILE", help="Write an ONNX graph of MODEL's features instead.")
    ] = None,
    size_px: Annotated[
        int | None, typer.Option("--size", min=1, metavar="PX", help="With --onnx: the side of its pictures.")
    ] = None,
    tokens: Annotated[
        bool, typer.Option("--tokens", help="With --onnx: all tokens after the final norm, not one vector a picture.")
    ] = False,
    reduction: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="With --onnx: leave tokens out on the way, as merge-16 or prune-0.7."),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Write a trained model for the NumPy runtime, if both give the same features.

    Weights go to NAME.safetensors, architecture, preprocessing and class names to NAME.json beside it; a pair of image
    and text tower adds NAME-tokenizer.json. NumPy and torch compute probes first; if they differ by more than the
    tolerance, nothing is written.

    With --onnx: a graph from normalised pixels (batch, 3, PX, PX) to features, for any runtime; it needs no PyTorch.

    \b
    Examples:
      vitseek export runs/finetune -o clothes.safetensors
      vitseek export runs/dino/last.pt -o models/dino --dtype float16
      vitseek index photos --model clothes.safetensors
      vitseek export dinov2-small --onnx dinov2-small.onnx
      vitseek export dinov2-small --onnx faster.onnx --reduction merge-24
    """
    if onnx is not None:
        if tokens and reduction:
            raise UsageError("--tokens gives all tokens, and --reduction leaves some out: take one of them")
        _export_onnx(
            str(checkpoint), onnx, size_px, tokens=tokens, reduction=reduction, overwrite=overwrite, as_json=json
        )
        return
    if size_px is not None or tokens or reduction:
        raise UsageError("--size, --tokens and --reduction belong to --onnx FILE")
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


def _export_onnx(
    model: str, file: Path, size_px: int | None, *, tokens: bool, reduction: str | None, overwrite: bool, as_json: bool
) -> None:
    from vitseek.engines.model import load
    from vitseek.engines.onnx_export import export_graph

    if model.endswith(".pt") or any(Path(model).glob("*.pt")):
        raise UsageError(f"{model} is a run's checkpoint: export it as it is first, then the file with --onnx {file}")
    with download_bar() as progress:
        loaded = load(model, reduction=reduction or "none", progress=progress)
    done = export_graph(loaded, file, size_px=size_px, tokens=tokens, overwrite=overwrite)
    if as_json:
        print_json({"files": done.files, "input": done.input_shape, "output": done.output, "distance": done.distance})
        return
    if done.distance is None:
        note("ONNX Runtime is not installed, so the graph was not compared with NumPy: pip install 'vitseek[onnx]'")
    else:
        note(f"ONNX Runtime and NumPy agree: features differ by {done.distance:.2g} of their length")
    for written in done.files:
        note(f"wrote {written} ({written.stat().st_size / 1e6:.1f} MB)")
    batch, channels, height, width = done.input_shape
    note(f"input pixels ({batch}, {channels}, {height}, {width}), float32, normalised; output {done.output}")
