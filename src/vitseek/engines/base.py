"""What every engine offers."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating]


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
