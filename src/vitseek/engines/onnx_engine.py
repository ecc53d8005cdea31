"""ONNX Runtime for :class:`vitseek.engines.graph_engine.GraphEngine`; the only file that imports onnxruntime."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vitseek.engines.checked import Run
from vitseek.engines.onnx_graph import PIXELS
from vitseek.errors import MissingExtraError

Array = NDArray[np.floating]

WARNINGS_OFF = 3  # ONNX Runtime's log level "error"


class OnnxRuntime:
    """Makes sessions on the processor.

    Parameters
    ----------
    threads
        Cores that one call may use.

    Raises
    ------
    MissingExtraError
        If onnxruntime is not installed, or cannot be loaded.
    """

    name = "onnx"
    fused_attention = True

    def __init__(self, threads: int) -> None:
        try:
            import onnxruntime
        except (ImportError, OSError) as error:  # OSError: a library of it that the system cannot load
            raise MissingExtraError(
                f"engine 'onnx' needs ONNX Runtime: pip install 'vitseek[onnx]' ({error})"
            ) from error
        self._package: Any = onnxruntime
        self._threads = threads
        self.version = f"ONNX Runtime {onnxruntime.__version__}"

    def compile(self, graph: bytes | Path, precision: str = "float32") -> Run:
        """Return what computes a graph, given as its bytes or as a file; may be called from several threads.

        Whatever the ``precision``: what the graph does not have in bytes is computed in float32.
        """
        options = self._package.SessionOptions()
        options.intra_op_num_threads = self._threads
        options.inter_op_num_threads = 1
        # Its threads would wait actively for their next part: time that decoding, or another program, could use.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = WARNINGS_OFF
        session = self._package.InferenceSession(
            graph if isinstance(graph, bytes) else str(graph), options, providers=["CPUExecutionProvider"]
        )

        def run(pixels: Array) -> Array:
            result: Array = session.run(None, {PIXELS: np.ascontiguousarray(pixels)})[0]
            return result

        return run
