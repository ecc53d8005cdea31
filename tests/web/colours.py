"""A model that is quick and sees something: the colours of a coarse grid."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vitseek.gallery.spaces import SpaceKey
from vitseek.preprocess.image import ImagePreprocessing, ImageSource, preprocess

GRID = 4
SIZE_PX = 32


class ColourModel:
    """Keeps the contract of a gallery's model without any weights."""

    name = "colours"
    preprocessing = ImagePreprocessing(
        size_px=SIZE_PX, resize="exact", resize_px=SIZE_PX, mean=(0.5,) * 3, std=(0.5,) * 3
    )

    def embed(self, images: Sequence[ImageSource]) -> NDArray[np.float32]:
        return self.embed_pixels(np.stack([preprocess(image, self.preprocessing) for image in images]))

    def embed_pixels(self, pixels: NDArray[np.float32]) -> NDArray[np.float32]:
        side = SIZE_PX // GRID
        cells = pixels.reshape(len(pixels), 3, GRID, side, GRID, side).mean(axis=(3, 5))
        return np.asarray(cells.reshape(len(pixels), -1) + 1e-3, dtype=np.float32)

    def space(self) -> Any:
        return SpaceKey("colours", "0" * 64, self.preprocessing.key(), "mean", 3 * GRID * GRID)
