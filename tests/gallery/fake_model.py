"""A model for gallery tests: instant, without weights, whose features show the picture's colours."""

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from vitseek.preprocess.image import ImagePreprocessing, preprocess


class Key(NamedTuple):
    model: str
    weights_sha256: str
    preprocessing: str
    pooling: str
    dim: int


@dataclass
class FakeModel:
    """Features are a fixed random projection of the pixels, 13-d; ``seen`` counts the images embedded."""

    name: str = "fake-small"
    seed: int = 5
    embed_dim: int = 13
    pooling: str = "cls"
    preprocessing: ImagePreprocessing = field(
        default_factory=lambda: ImagePreprocessing(policy="official", size_px=11, resize_px=11)
    )
    seen: int = 0

    def __post_init__(self) -> None:
        side = self.preprocessing.size_px
        self._weights = np.random.default_rng(self.seed).normal(size=(3 * side * side, self.embed_dim))
        self._mutex = threading.Lock()

    @property
    def weights_sha256(self) -> str:
        return f"{self.seed:064x}"

    def space(self) -> Key:
        return Key(self.name, self.weights_sha256, self.preprocessing.key(), self.pooling, self.embed_dim)

    def embed_pixels(self, pixels: np.ndarray) -> np.ndarray:
        with self._mutex:
            self.seen += len(pixels)
        return (pixels.reshape(len(pixels), -1) @ self._weights).astype(np.float32)

    def embed(self, images: Sequence[Any], *, batch_size: int = 16) -> np.ndarray:
        return self.embed_pixels(np.stack([preprocess(image, self.preprocessing) for image in images]))
