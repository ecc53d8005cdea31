"""Which engine computes a model: chosen by the type of its config, the same for every caller."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from vitseek.engines.base import Embedder
from vitseek.engines.numpy_engine import NumpyEngine
from vitseek.engines.swin_engine import SwinEngine
from vitseek.models.architectures import ModelConfig
from vitseek.models.config import ViTConfig
from vitseek.models.tokens import Tokens

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


def build_engine(
    params: Mapping[str, NDArray[Any]], config: ModelConfig, pooling: str, threads: int | None = None
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

    Raises
    ------
    ConfigError
        If the model cannot pool so.
    """
    if isinstance(config, ViTConfig):
        return NumpyEngine(params, config, pooling, threads)
    return SwinEngine(params, config, pooling, threads)
