"""A model for gallery tests: instant, without weights, whose features show the picture's colours."""

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from vitseek.engines.base import SpaceKey
from vitseek.preprocess.image import ImagePreprocessing, preprocess


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

    def space(self) -> SpaceKey:
        return SpaceKey(self.name, self.weights_sha256, self.preprocessing.key(), self.pooling, self.embed_dim)

    def embed_pixels(self, pixels: np.ndarray) -> np.ndarray:
        with self._mutex:
            self.seen += len(pixels)
        return (pixels.reshape(len(pixels), -1) @ self._weights).astype(np.float32)

    def embed(self, images: Sequence[Any], *, batch_size: int = 16) -> np.ndarray:
        return self.embed_pixels(np.stack([preprocess(image, self.preprocessing) for image in images]))


COLOURS = {"red": (2, -1, -1), "green": (-1, 2, -1), "blue": (-1, -1, 2), "dark": (-1, -1, -1)}


@dataclass
class FakeReader(FakeModel):
    """A model that reads too: words of colours lie near pictures of that colour, but with the gap of real models.

    ``texts`` collects what was read. Every text shares a large part that no picture has, so that all cosines of words
    with pictures are small and close together.
    """

    name: str = "fake-reader"
    seed: int = 7
    embed_dim: int = 211  # a random projection keeps angles only in many dimensions
    pooling: str = "embedding"
    has_text: bool = True
    logit_scale: float | None = 100.0
    logit_bias: float | None = None
    texts: list[str] = field(default_factory=list)

    def embed_texts(self, texts: Sequence[str], *, report: Any = None) -> np.ndarray:
        self.texts += texts
        gap = np.random.default_rng(self.seed + 1).normal(size=self.embed_dim)
        return np.stack([0.1 * self._unit(text) + gap / np.linalg.norm(gap) for text in texts]).astype(np.float32)

    def _unit(self, text: str) -> np.ndarray:
        side = self.preprocessing.size_px
        colours = [COLOURS[word] for word in text.split() if word in COLOURS] or [(0, 0, 0)]
        pixels = np.broadcast_to(np.mean(colours, axis=0)[:, None], (3, side * side)).reshape(-1)
        vector = pixels @ self._weights
        return vector / max(1e-9, float(np.linalg.norm(vector)))


@dataclass
class FakeJudge(FakeModel):
    """A model with a head of three classes, by the brightest channel; its features are not what the head sees.

    ``judged`` counts the images that were classified.
    """

    name: str = "fake-judge"
    num_classes: int = 3
    head_pooling: str | None = None
    labels: list[str] = field(default_factory=lambda: ["red", "green", "blue"])
    judged: int = 0

    def preprocess(self, source: Any, *, report: Any = None) -> np.ndarray:
        return preprocess(source, self.preprocessing)

    def classify(self, pixels: np.ndarray) -> np.ndarray:
        with self._mutex:
            self.judged += len(pixels)
        return (5 * pixels.mean(axis=(2, 3))).astype(np.float32)
