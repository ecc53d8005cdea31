"""Models of random weights for benchmarks that need no checkpoint."""

import numpy as np

from benchmarks.forward import random_weights
from vitseek.engines.model import Model
from vitseek.models.config import VARIANTS, ViTConfig
from vitseek.preprocess.image import ImagePreprocessing
from vitseek.weights.loader import LoadedWeights


def random_config(variant: str, *, patch: int = 14, size_px: int = 224) -> ViTConfig:
    """The shape of a named size, or "micro": two narrow blocks that take no time."""
    if variant == "micro":
        return ViTConfig(embed_dim=32, depth=2, num_heads=2, patch_size=8, img_size=(32, 32))
    return ViTConfig(**VARIANTS[variant], patch_size=patch, img_size=(size_px, size_px))


def random_model(variant: str, *, patch: int = 14, size_px: int = 224) -> Model:
    """A model of a named size, or "micro". The same numbers every time."""
    config = random_config(variant, patch=patch, size_px=size_px)
    size_px = config.img_size[0]
    weights = random_weights(config, np.random.default_rng(3))
    loaded = LoadedWeights(
        params=weights, config=config, preprocessing=None, pooling="cls", naming="timm", sha256="0" * 64, name=variant
    )
    preprocessing = ImagePreprocessing(size_px=size_px, resize_px=size_px * 256 // 224, patch_size_px=config.patch_size)
    return Model(loaded, name=f"random-{variant}", source=variant, preprocessing=preprocessing, pooling="cls")
