"""Random two-tower models in memory: an image tower with each kind of text tower and its tokenizer."""

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np

from tests.models.random_text import random_text_params
from tests.models.random_weights import random_params
from tests.preprocess.tokenizer_files import bert_file, clip_file, gemma_file, siglip_file
from vitseek.engines.model import Model
from vitseek.models.config import ViTConfig
from vitseek.models.text import TextConfig
from vitseek.preprocess.image import ImagePreprocessing
from vitseek.weights.loaded import LoadedText, LoadedWeights

TWO_TOWERS: dict[str, Callable[[Path], TextConfig]] = {
    "clip": clip_file, "siglip": siglip_file, "siglip2": gemma_file, "chinese-clip": bert_file,
}  # fmt: skip


def loaded_towers(name: str, folder: Path, *, seed: int = 20260) -> LoadedWeights:
    """Return a model of random weights, as the loader would."""
    rng = np.random.default_rng(seed)
    tokenizer = folder / f"{name}-tokenizer.json"
    text = TWO_TOWERS[name](tokenizer)
    config = ViTConfig(
        embed_dim=22, depth=2, num_heads=2, patch_size=8, img_size=(16, 16), embedding_dim=text.output_dim
    )
    sigmoid = text.projection_bias
    return LoadedWeights(
        params=random_params(config, rng, np.float32),
        config=config,
        preprocessing=None,
        pooling="embedding",
        naming="timm",
        sha256="0" * 64,
        text=LoadedText(
            config=text,
            params=random_text_params(text, rng, np.float32),
            tokenizer=tokenizer,
            logit_scale=2.5 if sigmoid else math.log(100),
            logit_bias=-11.5 if sigmoid else None,
        ),
    )


def model_of(loaded: LoadedWeights) -> Model:
    preprocessing = ImagePreprocessing(size_px=16, resize_px=16, patch_size_px=8)
    return Model(loaded, name="towers", source="towers", preprocessing=preprocessing, pooling="embedding")
