"""What every engine offers."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating]


class SpaceKey(NamedTuple):
    """What makes vectors comparable: models whose keys are equal give the same vector for the same picture.

    ``precision`` is what they are computed in: "float32", "bfloat16", "int8", or "int8-static-" and the digest of its
    calibration. ``reduction`` says which tokens are left out on the way; see :mod:`vitseek.engines.reduction`.
    """

    model: str
    weights_sha256: str
    preprocessing: str
    pooling: str
    dim: int
    precision: str = "float32"
    reduction: str = "none"


class Embedder(Protocol):
    """Turns normalised pixels, shape (B, 3, height, width), into features. May be called from several threads."""

    @property
    def embed_dim(self) -> int:
        """Length of a pooled feature vector."""
        ...

    def embed_pixels(self, pixels: Array) -> Array:
        """Return the pooled features, shape (B, embed_dim), not normalised; may skip what they do not need."""
        ...

    def forward(self, pixels: Array) -> Array:
        """Return all tokens after the final norm, shape (B, N, D)."""
        ...
