"""The nodes and constants of an ONNX graph, appended one after the other."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from vitseek.errors import MissingExtraError

Operand = str | NDArray[Any]  # the name of a value, or a constant
CONTRIB = "com.microsoft"  # the name of ONNX Runtime's own operators


def import_onnx() -> Any:
    """Return the package ``onnx``, or say which extra brings it."""
    try:
        import onnx
    except (ImportError, OSError) as error:
        raise MissingExtraError(
            f"an ONNX graph is written with the package onnx: pip install 'vitseek[onnx]' ({error})"
        ) from error
    return onnx


class Nodes:
    """Appends nodes to a graph; every step takes and gives names of values."""

    def __init__(self) -> None:
        self.onnx = import_onnx()
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def op(self, kind: str, *inputs: Operand, domain: str = "", outputs: int = 1, **attributes: Any) -> str:
        """Append one node and return the name of its output; further ones are called that, with _1, _2 … behind it."""
        names = [operand if isinstance(operand, str) else self.constant(operand) for operand in inputs]
        output = f"{kind}_{len(self.nodes)}"
        others = [f"{output}_{number}" for number in range(1, outputs)]
        node = self.onnx.helper.make_node(kind, names, [output, *others], name=output, domain=domain, **attributes)
        self.nodes.append(node)
        return output

    def constant(self, array: NDArray[Any]) -> str:
        name = f"constant_{len(self.constants)}"
        self.constants.append(self.onnx.numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def reshape(self, x: str, *shape: int) -> str:
        """0 keeps an axis, -1 is worked out."""
        return self.op("Reshape", x, np.array(shape, np.int64))

    def turn(self, x: str, *axes: int) -> str:
        return self.op("Transpose", x, perm=list(axes))

    def rows(self, x: str, start: int, stop: int | None) -> str:
        """Some tokens of each image."""
        end = np.iinfo(np.int64).max if stop is None else stop
        start_, end_, axis = (np.array([number], np.int64) for number in (start, end, 1))
        return self.op("Slice", x, start_, end_, axis)

    def mean(self, x: str, axis: int, *, keep: bool) -> str:
        return self.op("ReduceMean", x, np.array([axis], np.int64), keepdims=int(keep))
