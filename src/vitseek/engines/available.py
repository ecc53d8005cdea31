"""Which engines there are, what they compute in, and whether they are installed; nothing heavy is imported for that."""

from __future__ import annotations

from importlib.util import find_spec

from vitseek.errors import ConfigError

ENGINES = ("numpy", "numba", "onnx", "openvino", "torch")
# The packages of each; the extra that brings them has the engine's name.
PACKAGES = {
    "numpy": (),
    "numba": ("numba",),
    "onnx": ("onnx", "onnxruntime"),
    "openvino": ("onnx", "openvino"),
    "torch": ("torch",),
}
# What each computes in; docs/engines.md tells what they mean.
PRECISIONS = {
    "numpy": ("float32",),
    "numba": ("float32",),
    "onnx": ("float32", "int8", "int8-static"),
    "openvino": ("float32", "bfloat16", "int8-static"),
    "torch": ("float32", "bfloat16"),
}
ALL_TOKENS = ("torch",)  # the engines that leave out no tokens
# Which engine a precision means where none is named: the first that is installed.
ENGINES_OF = {
    "float32": ("numpy",),
    "bfloat16": ("openvino", "torch"),
    "int8": ("onnx",),
    "int8-static": ("openvino", "onnx"),
}


def engine_for(precision: str, engine: str | None = None) -> str:
    """Return the engine that is meant: the one named, or one that is installed and computes in ``precision``.

    Raises
    ------
    ConfigError
        If there is no such precision, or the named engine does not compute in it.
    """
    if precision not in ENGINES_OF:
        raise ConfigError(f"precision must be one of {', '.join(ENGINES_OF)}, not {precision!r}")
    able = ENGINES_OF[precision]
    if engine is None:
        return next((name for name in able if not missing_packages(name)), able[0])
    if precision not in PRECISIONS.get(engine, (precision,)):  # an engine that does not exist is refused elsewhere
        raise ConfigError(
            f"engine {engine!r} computes in {' or '.join(PRECISIONS[engine])}, not in {precision!r}: "
            f"take engine {' or '.join(map(repr, able))}"
        )
    return engine


def is_installed(engine: str) -> bool:
    """Whether the packages of an engine are there; nothing is imported."""
    return not missing_packages(engine)


def missing_packages(engine: str) -> list[str]:
    """The packages of an engine that are not there."""
    return [package for package in PACKAGES[engine] if find_spec(package) is None]
