"""A model as an ONNX graph in a file, which is written only if it computes what NumPy computes."""

from __future__ import annotations

import dataclasses
import json
import tempfile
from importlib.util import find_spec
from pathlib import Path

from vitseek.engines import checked
from vitseek.engines.model import Model
from vitseek.engines.onnx_graph import FEATURES, TOKENS, save_graph
from vitseek.engines.onnx_nodes import import_onnx
from vitseek.engines.threads import default_threads
from vitseek.errors import ConfigError, UsageError


@dataclasses.dataclass(frozen=True, kw_only=True)
class ExportedGraph:
    """What was written.

    Parameters
    ----------
    files
        The graph, and its weights where they are too large for one file.
    input_shape
        Of ``pixels``; the batch is a name.
    output
        ``"features"`` or ``"tokens"``.
    distance
        From NumPy's numbers, as a share of their length, by ONNX Runtime; ``None`` where that is not installed.
    """

    files: list[Path]
    input_shape: tuple[str, int, int, int]
    output: str
    distance: float | None


def export_graph(
    model: Model, file: Path, *, size_px: int | None = None, tokens: bool = False, overwrite: bool = False
) -> ExportedGraph:
    """Write a model of a plain Vision Transformer as an ONNX graph of standard operators.

    The graph leaves out the tokens that the model does. Its metadata tell the model's name, the weights' sha256, the
    preprocessing, the pooling and the reduction.

    Parameters
    ----------
    size_px
        Side of the square pictures; by default what the model's preprocessing makes.
    tokens
        Give all tokens, (B, N, D), instead of the features of the model's pooling.

    Raises
    ------
    ConfigError
        If the model is none of these, or the graph does not compute what NumPy computes.
    ShapeError
        If pictures of that size do not divide into patches.
    UsageError
        If the file exists, or its folder does not.
    MissingExtraError
        If ``onnx`` is not installed.
    """
    onnx = import_onnx()
    if not file.parent.is_dir():
        raise UsageError(f"the folder {file.parent} does not exist: make it, or write elsewhere")
    if file.exists() and not overwrite:
        raise UsageError(f"{file} exists: name another file, or add --overwrite")
    size = (size_px, size_px) if size_px else model.usual_size_px()
    graph = model.onnx_graph(size, tokens=tokens)
    onnx.helper.set_model_props(
        graph,
        {
            "name": model.name,
            "weights_sha256": model.weights_sha256,
            "preprocessing": json.dumps(model.preprocessing.to_dict()),
            "pooling": "none" if tokens else model.pooling,
            "reduction": "none" if tokens else model.reduction,
        },
    )
    with tempfile.TemporaryDirectory(prefix=".vitseek-", dir=file.parent) as folder:  # beside it: moved in one step
        made = save_graph(graph, Path(folder) / file.name)
        del graph  # a copy of the weights
        apart = _distance(model, made[0], size, tokens=tokens) if find_spec("onnxruntime") else None
        tolerance = checked.tolerance("float32", reduced=not tokens and model.reduction != "none")
        if apart is not None and not apart <= tolerance:
            raise ConfigError(
                f"the graph of {model.name} gives features {apart:.2g} of their length away from NumPy's "
                f"({tolerance:g} is allowed), so {file} was not written: please report it"
            )
        files = [part.replace(file.with_name(part.name)) for part in reversed(made)][::-1]  # the graph last
    return ExportedGraph(
        files=files, input_shape=("batch", 3, *size), output=TOKENS if tokens else FEATURES, distance=apart
    )


def _distance(model: Model, file: Path, size_px: tuple[int, int], *, tokens: bool) -> float:
    from vitseek.engines.onnx_engine import OnnxRuntime

    run = OnnxRuntime(default_threads()).compile(file)
    return checked.measured(run, model.forward if tokens else model.embed_pixels, size_px, None)
