"""Random parameters for any config: none is constant, so that none can be forgotten unseen."""

import numpy as np

from vitseek.models.config import ViTConfig, parameter_shapes

SMALL = ViTConfig(embed_dim=21, depth=3, num_heads=3, patch_size=7, img_size=(35, 49), hidden_dim=31, num_classes=11)

FAMILIES: dict[str, dict[str, object]] = {
    "vit": {},
    "distilled": {"distilled": True, "qkv_bias": False},
    "registers": {"layer_scale": True, "num_registers": 5, "pos_resize": "bicubic-antialias"},
    "giant": {"layer_scale": True, "mlp_layer": "swiglu", "head_input": "cls+patch-mean"},
    "dino": {"num_classes": 0, "pos_resize": "bicubic-offset"},
}


def random_params(config: ViTConfig, rng: np.random.Generator, dtype: type = np.float64) -> dict[str, np.ndarray]:
    params = {}
    for name, shape in parameter_shapes(config).items():
        values = rng.standard_normal(shape) * 0.3
        params[name] = (values + 1 if "norm" in name and name.endswith("weight") else values).astype(dtype)
    return params
