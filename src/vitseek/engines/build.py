"""Which engine computes a model: chosen by name and by the type of its config, the same for every caller."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from vitseek.engines.available import ENGINES, engine_for, missing_packages
from vitseek.engines.base import Embedder
from vitseek.engines.numpy_engine import NumpyEngine
from vitseek.engines.reduction import NONE, Reduction
from vitseek.engines.threads import default_threads
from vitseek.errors import ConfigError, MissingExtraError
from vitseek.models.architectures import ModelConfig
from vitseek.models.config import ViTConfig
from vitseek.models.tokens import Tokens

if TYPE_CHECKING:
    from vitseek.engines.calibration import Calibration
    from vitseek.engines.graph_engine import Runtime

Array = NDArray[np.floating]


class ImageEngine(Embedder, Protocol):
    """What :class:`vitseek.engines.model.Model` needs of an engine for images."""

    def tokens(self, pixels: Array, *, attention_blocks: Sequence[int] = ()) -> Tokens:
        """Return the tokens by name, with the attention weights of the blocks asked for."""
        ...

    def pool(self, tokens: Tokens) -> Array:
        """Return what ``embed_pixels`` returns, from the tokens of those pixels."""
        ...

    def classify(self, pixels: Array) -> Array:
        """Return the logits of the checkpoint's own classes, shape (B, num_classes)."""
        ...

    def classify_features(self, features: Array) -> Array:
        """Return the same from what the head sees, shape (B, D)."""
        ...


def check_engine(engine: str, config: ModelConfig | None = None) -> None:
    """Raise unless there is such an engine, its packages are installed, and it computes models of ``config``.

    Nothing is imported: a model that is not needed in the end, or not downloaded yet, costs nothing.

    Raises
    ------
    ConfigError, MissingExtraError
    """
    if engine not in ENGINES:
        raise ConfigError(f"engine must be one of {', '.join(ENGINES)}, not {engine!r}")
    if missing := missing_packages(engine):
        raise MissingExtraError(
            f"engine {engine!r} needs {' and '.join(missing)}: pip install 'vitseek[{engine}]'. "
            "Engine 'numpy' needs nothing else and gives the same features"
        )
    if engine != "numpy" and config is not None and not isinstance(config, ViTConfig):
        raise ConfigError(
            f"engine {engine!r} computes plain Vision Transformers, and this is a {type(config).__name__[:-6]}: "
            "take engine 'numpy'"
        )


def build_engine(
    params: Mapping[str, NDArray[Any]],
    config: ModelConfig,
    pooling: str,
    threads: int | None = None,
    *,
    engine: str = "numpy",
    precision: str = "float32",
    calibration: Calibration | None = None,
    reduction: Reduction = NONE,
    weights_sha256: str | None = None,
    report: Callable[[str], None] | None = None,
) -> ImageEngine:
    """Return the engine of a model's architecture, ready to run.

    Parameters
    ----------
    params
        Exactly the names and shapes of ``parameter_shapes(config)``; not kept.
    pooling
        A rule of :data:`vitseek.models.tokens.POOLINGS` that the model can follow.
    threads
        Cores to use; by default all that this process may run on.
    engine
        One of :data:`ENGINES`.
    precision
        One of those that the engine computes in: :data:`PRECISIONS`.
    calibration
        For ``"int8-static"``: how far the numbers between the layers reach.
    reduction
        Which tokens are left out on the way to features, by plain Vision Transformers.
    weights_sha256
        The identity of ``params``, under which other engines' checks are remembered.
    report
        Told, in one sentence, when NumPy has to take over from another engine.

    Raises
    ------
    ConfigError
        If the model cannot pool so, or the engine does not exist or cannot compute it.
    MissingExtraError
        If the engine's packages are not installed.
    """
    check_engine(engine, config)
    engine_for(precision, engine)
    if not isinstance(config, ViTConfig):
        if reduction:
            raise ConfigError(f"{reduction.key()!r}: only plain Vision Transformers leave out tokens: take 'none'")
        from vitseek.engines.swin_engine import SwinEngine  # no Vision Transformer needs it

        return SwinEngine(params, config, pooling, threads)
    if engine == "numpy":
        return NumpyEngine(params, config, pooling, threads, reduction=reduction)
    if engine == "numba":
        from vitseek.engines.numba_engine import NumbaEngine

        return NumbaEngine(
            params, config, pooling, threads, reduction=reduction, weights_sha256=weights_sha256, report=report
        )
    if engine == "torch":
        if reduction:  # available.ALL_TOKENS
            raise ConfigError(
                f"{reduction.key()!r}: engine 'torch' leaves out no tokens: take 'none', or another engine"
            )
        from vitseek.engines.torch_engine import TorchEngine

        return TorchEngine(
            params, config, pooling, threads, precision=precision, weights_sha256=weights_sha256, report=report
        )
    from vitseek.engines.graph_engine import GraphEngine

    threads = threads or default_threads()
    runtime = _runtime(engine, threads)
    return GraphEngine(
        params, config, pooling, runtime, threads, precision=precision, calibration=calibration, reduction=reduction,
        weights_sha256=weights_sha256, report=report,
    )  # fmt: skip


def _runtime(engine: str, threads: int) -> Runtime:
    if engine == "onnx":
        from vitseek.engines.onnx_engine import OnnxRuntime

        return OnnxRuntime(threads)
    from vitseek.engines.openvino_engine import OpenVino

    return OpenVino(threads)
