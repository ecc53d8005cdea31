"""What goes into each layer of a model, channel by channel, as seen on some pictures: eight bits are laid over it."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vitseek.engines.checked import probes
from vitseek.engines.numpy_engine import NumpyEngine
from vitseek.errors import ConfigError
from vitseek.models.config import ViTConfig

Array = NDArray[np.floating]

PICTURES = 32  # with 64 the top 10 of the clothing photos is the same within 0.002
POINTS = ("qkv", "proj", "up", "down")  # the layers of a block; the last sees what the activation makes
DIGEST_CHARACTERS = 12
LOWS, HIGHS, IMAGES = "lows", "highs", "images"


@dataclass(frozen=True, eq=False)
class Calibration:
    """The least and the largest value of each channel that goes into each layer.

    Parameters
    ----------
    lows, highs
        By the layer's name in :data:`POINTS`: shape (depth, D), or (depth, F) for ``"down"``.
    images
        How many pictures were looked at.
    """

    lows: Mapping[str, Array]
    highs: Mapping[str, Array]
    images: int

    def digest(self) -> str:
        """A short name of exactly these numbers: two calibrations quantise alike only if it is the same."""
        return hashlib.sha256(self.to_bytes()).hexdigest()[:DIGEST_CHARACTERS]

    def to_bytes(self) -> bytes:
        """Return the same as a safetensors file."""
        from safetensors.numpy import save

        named = {f"{side}.{point}": values[point] for side, values in self._sides().items() for point in POINTS}
        return save({name: np.ascontiguousarray(array, np.float32) for name, array in named.items()} | self._count())

    def _sides(self) -> dict[str, Mapping[str, Array]]:
        return {LOWS: self.lows, HIGHS: self.highs}

    def _count(self) -> dict[str, NDArray[np.int64]]:
        return {IMAGES: np.array([self.images], np.int64)}

    @classmethod
    def from_bytes(cls, data: bytes) -> Calibration:
        """Read what :meth:`to_bytes` wrote.

        Raises
        ------
        ConfigError
            If it is something else, or damaged.
        """
        from safetensors import SafetensorError
        from safetensors.numpy import load

        try:
            arrays = load(data)
            lows, highs = ({point: arrays[f"{side}.{point}"] for point in POINTS} for side in (LOWS, HIGHS))
            images = int(arrays[IMAGES][0])
        except (SafetensorError, KeyError, IndexError, ValueError) as error:
            raise ConfigError(f"a calibration cannot be read ({error}): calibrate again") from error
        for point in POINTS:
            low, high = lows[point], highs[point]
            if low.shape != high.shape or low.ndim != 2 or not (np.isfinite(low) & np.isfinite(high)).all():
                raise ConfigError(f"a calibration has no usable numbers for the layers {point!r}: calibrate again")
        return cls(lows, highs, images)

    def check(self, config: ViTConfig) -> None:
        """Raise :class:`ConfigError` unless this belongs to models of the shape ``config``."""
        wanted = {point: (config.depth, config.mlp_dim if point == "down" else config.embed_dim) for point in POINTS}
        found = {point: self.lows[point].shape for point in POINTS}
        if found != wanted:
            raise ConfigError(
                f"the calibration is for layers of {found['qkv']} and {found['down']} channels (blocks, channels), and "
                f"the model has {wanted['qkv']} and {wanted['down']}: calibrate with this model"
            )


def calibrate(engine: NumpyEngine, size_px: tuple[int, int], batches: Iterable[Array] = ()) -> Calibration:
    """Look at what goes into the layers of ``engine``.

    Besides the caller's pictures it looks at :func:`vitseek.engines.checked.probes` of ``size_px`` (height, width).
    They reach further than photos do: fewer of these are cut off (the worst of 960 photos comes nearer to float32),
    and the check of a graph, which uses them, means something. Without pictures they tell which channels are outliers,
    since that is a matter of the weights, but not how far values reach.

    Parameters
    ----------
    batches
        Pixels of pictures, shape (B, 3, height, width) each.

    Raises
    ------
    ConfigError
        If a value is not finite.
    """
    lows: dict[tuple[int, str], Array] = {}
    highs: dict[tuple[int, str], Array] = {}
    lock = threading.Lock()  # packs of images go through the pass in several threads

    def see(block: int, point: str, rows: Array) -> None:
        low, high = rows.min(axis=0), rows.max(axis=0)
        key = (block, point)
        with lock:
            lows[key] = np.minimum(low, lows.get(key, low))
            highs[key] = np.maximum(high, highs.get(key, high))

    images = 0
    for pixels in batches:
        engine.watch(pixels, see)
        images += len(pixels)
    engine.watch(probes(*size_px), see)
    blocks = range(engine.config.depth)
    found = Calibration(
        {point: np.stack([lows[block, point] for block in blocks]) for point in POINTS},
        {point: np.stack([highs[block, point] for block in blocks]) for point in POINTS},
        images,
    )
    if not all(np.isfinite(side[point]).all() for side in (found.lows, found.highs) for point in POINTS):
        raise ConfigError("the model makes numbers that are not finite of these pictures: it cannot be calibrated")
    return found
