"""Random parameters for any Swin config: none is constant, so that none can be forgotten unseen."""

import numpy as np

from vitseek.models.swin_config import SwinConfig, swin_parameter_shapes

SMALL = SwinConfig(
    embed_dim=14, depths=(2, 3, 2), num_heads=(2, 4, 7), window_size=5, patch_size=3, img_size=(60, 60), mlp_ratio=2.3,
    num_classes=11,
)  # fmt: skip


def random_swin_params(
    config: SwinConfig, rng: np.random.Generator, dtype: type = np.float64
) -> dict[str, np.ndarray]:  # fmt: skip
    params = {}
    for name, shape in swin_parameter_shapes(config).items():
        values = rng.standard_normal(shape) * 0.3
        params[name] = (values + 1 if "norm" in name and name.endswith("weight") else values).astype(dtype)
    return params
