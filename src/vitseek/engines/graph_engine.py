"""A Vision Transformer computed from ONNX graphs, written from the folded weights of the NumPy engine beside it."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from vitseek.engines.beside_numpy import BesideNumpy, grid_of
from vitseek.engines.calibration import Calibration, calibrate
from vitseek.engines.checked import Run
from vitseek.engines.numpy_engine import NumpyEngine
from vitseek.engines.onnx_graph import VERSION, build_graph, save_graph, weights_bytes
from vitseek.engines.reduction import NONE, Reduction
from vitseek.errors import ConfigError
from vitseek.models.config import ViTConfig

Array = NDArray[np.floating]

GRAPHS_KEPT = 4  # each holds a copy of the weights; another grid or output is another graph


IN_MEMORY_BYTES = 64 * 2**20  # of a graph's weights


class Runtime(Protocol):
    """What computes graphs: :class:`~vitseek.engines.onnx_engine.OnnxRuntime` and its like."""

    @property
    def name(self) -> str:
        """As in ``vitseek.load(engine=...)``."""
        ...

    @property
    def version(self) -> str:
        """Name and version for people."""
        ...

    @property
    def fused_attention(self) -> bool:
        """Whether it wants ONNX Runtime's own operator for attention."""
        ...

    def compile(self, graph: bytes | Path, precision: str = "float32") -> Run:
        """Return what computes a graph, given as its bytes or as a file; safe from several threads.

        A graph of bytes has them in it; what is left is computed as ``precision`` allows.
        """
        ...


class GraphEngine(BesideNumpy):
    """Features and tokens computed by ``runtime`` from graphs, one for each size of pictures and each output.

    Parameters
    ----------
    precision, calibration, reduction
        See :func:`vitseek.engines.build.build_engine`.
    weights_sha256, report
        See :class:`BesideNumpy`.
    """

    runs_kept = GRAPHS_KEPT

    def __init__(
        self,
        params: Mapping[str, Array],
        config: ViTConfig,
        pooling: str,
        runtime: Runtime,
        threads: int | None = None,
        *,
        precision: str = "float32",
        calibration: Calibration | None = None,
        reduction: Reduction = NONE,
        weights_sha256: str | None = None,
        report: Callable[[str], None] | None = None,
    ) -> None:
        if calibration is not None:
            calibration.check(config)
        elif precision == "int8-static":
            raise ConfigError("precision 'int8-static' needs a calibration: see vitseek.load(calibration=...)")
        super().__init__(
            params, config, pooling, threads, precision=precision, reduction=reduction, weights_sha256=weights_sha256,
            report=report,
        )  # fmt: skip
        self.runtime = runtime
        self._calibration = calibration

    @property
    def name(self) -> str:
        """As in ``vitseek.load(engine=...)``."""
        return self.runtime.name

    @property
    def version(self) -> str:
        """Name and version of the runtime, for people."""
        return self.runtime.version

    def _compile(self, size_px: tuple[int, int], pooling: str | None) -> Run:
        calibration = self._calibration
        if self._asked == "int8":
            calibration = calibrate(self.numpy, size_px)
        graph = graph_of(
            self.numpy, size_px, pooling=pooling, fused_attention=self.runtime.fused_attention, calibration=calibration,
            dynamic=self._asked == "int8", reduction=NONE if pooling is None else self.numpy.reduction,
        )  # fmt: skip
        if weights_bytes(graph) <= IN_MEMORY_BYTES:
            return self.runtime.compile(graph.SerializeToString(), self._asked)
        # Through a file a large graph needs no copies of its weights: as a message it would take three more at once.
        with tempfile.TemporaryDirectory(prefix="vitseek-", ignore_cleanup_errors=True) as folder:
            file, *_ = save_graph(graph, Path(folder) / "graph.onnx", largest_message_bytes=IN_MEMORY_BYTES)
            del graph
            return self.runtime.compile(file, self._asked)

    def _made_with(self) -> dict[str, Any]:
        return {
            "graph": VERSION,
            "calibration": None if self._calibration is None else self._calibration.digest(),
        }


def graph_of(
    engine: NumpyEngine,
    size_px: tuple[int, int],
    *,
    pooling: str | None,
    fused_attention: bool = False,
    calibration: Calibration | None = None,
    dynamic: bool = False,
    reduction: Reduction = NONE,
) -> Any:
    """Return the graph of an engine for pictures of (height, width) pixels; see :func:`build_graph`."""
    rows, columns = grid_of(engine.config, size_px)
    positions, rotation = engine.places(rows, columns)
    return build_graph(
        engine.weights, engine.config, (rows, columns), positions, rotation,
        pooling=pooling, fused_attention=fused_attention, calibration=calibration, dynamic=dynamic,
        reduction=reduction,
    )  # fmt: skip
