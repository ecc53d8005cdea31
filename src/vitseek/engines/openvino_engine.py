"""OpenVINO for :class:`vitseek.engines.graph_engine.GraphEngine`; the only file that imports openvino."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vitseek.engines.checked import Run
from vitseek.errors import MissingExtraError

Array = NDArray[np.floating]


class OpenVino:
    """Compiles graphs for the processor.

    Parameters
    ----------
    threads
        Cores that one call may use.

    Raises
    ------
    MissingExtraError
        If openvino is not installed, or cannot be loaded.
    """

    name = "openvino"
    fused_attention = False  # it finds attention by itself

    def __init__(self, threads: int) -> None:
        try:
            import openvino
        except (ImportError, OSError) as error:  # OSError: a library of it that the system cannot load
            raise MissingExtraError(
                f"engine 'openvino' needs OpenVINO: pip install 'vitseek[openvino]' ({error})"
            ) from error
        self._core: Any = openvino.Core()
        self._threads = threads
        self.version = f"OpenVINO {openvino.__version__}"

    def compile(self, graph: bytes | Path, precision: str = "float32") -> Run:
        """Return what computes a graph, given as its bytes or as a file; may be called from several threads.

        In ``"float32"`` everything is computed in it; otherwise what the graph does not have in bytes is computed in
        bfloat16 where the processor has that, and in float32 elsewhere.
        """
        model = self._core.read_model(graph if isinstance(graph, bytes) else str(graph))
        hint = "f32" if precision == "float32" else "bf16"
        settings = {"INFERENCE_PRECISION_HINT": hint, "INFERENCE_NUM_THREADS": self._threads}
        compiled = self._core.compile_model(model, "CPU", settings)
        spare: list[Any] = []  # a request serves one call at a time
        lock = threading.Lock()

        def run(pixels: Array) -> Array:
            with lock:
                request = spare.pop() if spare else compiled.create_infer_request()
            request.infer({0: np.ascontiguousarray(pixels)})
            result: Array = request.get_output_tensor(0).data.copy()  # the tensor belongs to the request
            with lock:
                spare.append(request)
            return result

        return run
