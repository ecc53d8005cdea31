"""A model of a few thousand random weights on disk, which `vitseek` loads like any other."""

import json
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from vitseek.models.config import ViTConfig, parameter_shapes
from vitseek.preprocess.image import ImagePreprocessing


def write_tiny_model(folder: Path, *, embed_dim: int = 22, name: str = "tiny-random") -> Path:
    """Write weights and config.json into ``folder`` and return it; the same numbers every time."""
    rng = np.random.default_rng(5)
    config = ViTConfig(embed_dim=embed_dim, depth=2, num_heads=2, patch_size=8, img_size=(32, 32), hidden_dim=37)
    weights = {
        key: rng.normal(0, 0.3, shape).astype(np.float32) for key, shape in sorted(parameter_shapes(config).items())
    }
    preprocessing = ImagePreprocessing(
        size_px=32, resize_px=32, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5), patch_size_px=8
    )
    folder.mkdir(parents=True, exist_ok=True)
    save_file(weights, folder / "model.safetensors")
    description = {
        "format": "vitseek",
        "version": 1,
        "name": name,
        "config": config.to_dict(),
        "preprocessing": preprocessing.to_dict(),
        "pooling": "cls",
        "licence": "Apache-2.0",
    }
    (folder / "config.json").write_text(json.dumps(description))
    return folder
