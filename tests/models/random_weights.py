"""Random parameters for any config: none is constant, so that none can be forgotten unseen."""

import numpy as np

from vitseek.models.config import ViTConfig, parameter_shapes

SMALL = ViTConfig(embed_dim=21, depth=3, num_heads=3, patch_size=7, img_size=(35, 49), hidden_dim=31, num_classes=11)

# fmt: off
FAMILIES: dict[str, dict[str, object]] = {
    "vit": {},
    "distilled": {"distilled": True, "qkv_bias": False},
    "registers": {"layer_scale": True, "num_registers": 5, "pos_resize": "bicubic-antialias"},
    "giant": {"layer_scale": True, "mlp_layer": "swiglu", "head_input": "cls+patch-mean"},
    "dino": {"num_classes": 0, "pos_resize": "bicubic-offset"},
    "clip": {
        "num_classes": 0, "patch_bias": False, "pre_norm": True, "mlp_layer": "quick-gelu", "embedding_dim": 13,
    },
    "siglip": {
        "num_classes": 0, "class_token": False, "mlp_layer": "gelu-tanh", "attention_pool": True,
    },
    "siglip2-naflex": {
        "num_classes": 0, "class_token": False, "mlp_layer": "gelu-tanh", "attention_pool": True,
        "pos_resize": "bilinear-antialias",
    },
    "siglip-classifier": {
        "class_token": False, "mlp_layer": "gelu-tanh", "attention_pool": True, "head_input": "patch-mean",
    },
    "dinov3": {
        "embed_dim": 24, "num_classes": 0, "pos_embed": "rope", "rope_theta": 30.0, "layer_scale": True,
        "num_registers": 2,
    },
    "dinov3-swiglu": {
        "embed_dim": 24, "num_classes": 0, "pos_embed": "rope", "layer_scale": True, "mlp_layer": "swiglu",
        "num_registers": 2,
    },
    "aimv2": {
        "num_classes": 0, "class_token": False, "norm_layer": "rmsnorm", "patch_norm": True, "mlp_layer": "swiglu",
        "qkv_bias": False, "proj_bias": False, "mlp_bias": False,
    },
    "ijepa": {"class_token": False, "head_input": "patch-mean"},
    # Nobody trains these; they make switches meet that no family has together.
    "pool beside class token": {
        "distilled": True, "num_registers": 2, "attention_pool": True, "patch_norm": True, "embedding_dim": 13,
    },
    "no positions": {
        "class_token": False, "num_registers": 2, "num_classes": 0, "pos_embed": "none", "pre_norm": True,
        "patch_norm": True, "norm_layer": "rmsnorm", "patch_bias": False, "mlp_layer": "quick-gelu", "mlp_bias": False,
        "attention_pool": True, "embedding_dim": 13,
    },
    "rotary, no prefix": {
        "embed_dim": 24, "num_classes": 0, "class_token": False, "pos_embed": "rope", "attention_pool": True,
        "norm_layer": "rmsnorm", "patch_bias": False,
    },
}
# fmt: on


def rules(config: ViTConfig) -> list[str]:
    """The poolings that a model of ``config`` can follow."""
    with_class_token = ["cls", "cls+patch-mean"] if config.class_token else []
    embedding = ["embedding"] if config.class_token or config.attention_pool else []
    return ["patch-mean", "gem", *with_class_token, *embedding]


def random_params(config: ViTConfig, rng: np.random.Generator, dtype: type = np.float64) -> dict[str, np.ndarray]:
    params = {}
    for name, shape in parameter_shapes(config).items():
        values = rng.standard_normal(shape) * 0.3
        params[name] = (values + 1 if "norm" in name and name.endswith("weight") else values).astype(dtype)
    return params
