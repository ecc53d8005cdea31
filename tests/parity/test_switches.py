"""Switches of ViTConfig that no family with a key table uses, against the models of transformers that have them.

AIMv2 brings RMSNorm, a norm behind the patch projection, gated feed-forwards and no bias anywhere; I-JEPA has no class
token. Parameters are renamed here, by hand.
"""

import re
from typing import Any

import numpy as np
import pytest

from vitseek.engines.numpy_engine import NumpyEngine
from vitseek.models.config import ViTConfig, parameter_shapes
from vitseek.models.vit import forward_features

pytestmark = pytest.mark.parity
families = pytest.importorskip("tests.parity.families", reason="torch and transformers are not installed")
torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

EXACT = 1e-10
FLOAT32 = 1e-5  # measured: 4.1e-6
SIZES = {"hidden_size": 35, "num_hidden_layers": 3, "num_attention_heads": 5, "intermediate_size": 53}
SHAPE: dict[str, Any] = {
    "embed_dim": 35, "depth": 3, "num_heads": 5, "hidden_dim": 53, "class_token": False,
}  # fmt: skip
AIMV2_NAMES = {
    "embeddings.position_embedding.weight": "pos_embed",
    "embeddings.patch_embed": "patch_embed.proj",
    "embeddings.rms_norm": "patch_embed.norm",
    "encoder.layers.": "blocks.",
    "rms_norm": "norm",
    "attention.out_proj": "attn.proj",
    "ffn.down_proj": "mlp.w3",
}
IJEPA_NAMES = {
    "embeddings.position_embeddings": "pos_embed",
    "embeddings.patch_embeddings.projection": "patch_embed.proj",
    "layers.": "blocks.",
    "layernorm_before": "norm1",
    "layernorm_after": "norm2",
    "layernorm": "norm",
    "attention.o_proj": "attn.proj",
}


def renamed(model: Any, names: dict[str, str], config: ViTConfig) -> dict[str, np.ndarray]:
    params = {}
    for name, value in model.state_dict().items():
        for old, new in names.items():
            name = name.replace(old, new)
        params[name] = value.numpy().astype(np.float64)
    for name in list(params):
        first = re.fullmatch(r"(blocks\.\d+)\.(attention\.q_proj|ffn\.gate_proj)\.(weight|bias)", name)
        if first and "q_proj" in name:
            parts = [params.pop(name.replace("q_proj", f"{part}_proj")) for part in "qkv"]
            params[f"{first[1]}.attn.qkv.{first[3]}"] = np.concatenate(parts)
        elif first:
            parts = [params.pop(name), params.pop(name.replace("gate_proj", "up_proj"))]
            params[f"{first[1]}.mlp.w12.{first[3]}"] = np.concatenate(parts)
    shapes = parameter_shapes(config)
    return {name: value.reshape(shapes.get(name, value.shape)) for name, value in params.items()}


def aimv2(monkeypatch: pytest.MonkeyPatch) -> tuple[Any, dict[str, str], ViTConfig, dict[str, Any]]:
    from transformers.models.aimv2.modeling_aimv2 import Aimv2RMSNorm

    def in_own_dtype(self: Any, x: Any) -> Any:  # transformers casts to float32 whatever the model's dtype
        return self.weight * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.variance_epsilon))

    monkeypatch.setattr(Aimv2RMSNorm, "forward", in_own_dtype)
    sizes = {**SIZES, "patch_size": 14, "image_size": 70, "use_head": False}
    config = ViTConfig(
        **SHAPE, patch_size=14, img_size=(70, 70), norm_layer="rmsnorm", norm_eps=1e-5, patch_norm=True,
        mlp_layer="swiglu", qkv_bias=False, proj_bias=False, mlp_bias=False,
    )  # fmt: skip
    return transformers.Aimv2VisionModel(transformers.Aimv2VisionConfig(**sizes)), AIMV2_NAMES, config, {}


def ijepa(monkeypatch: pytest.MonkeyPatch) -> tuple[Any, dict[str, str], ViTConfig, dict[str, Any]]:
    sizes = {**SIZES, "patch_size": 16, "image_size": 80, "layer_norm_eps": 1e-6}
    config = ViTConfig(**SHAPE, patch_size=16, img_size=(80, 80))
    flags = {"interpolate_pos_encoding": True}
    return transformers.IJepaModel(transformers.IJepaConfig(**sizes)), IJEPA_NAMES, config, flags


# transformers' AIMv2 takes pictures of one size only.
@pytest.mark.parametrize(("make", "rows", "columns"), [(aimv2, 5, 5), (ijepa, 5, 5), (ijepa, 3, 7)])
def test_tokens_equal_transformers(make: Any, rows: int, columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    model, names, config, flags = make(monkeypatch)
    families.randomise(model.eval(), seed=11)
    params = renamed(model, names, config)
    assert {name: value.shape for name, value in params.items()} == parameter_shapes(config)
    for dtype, tensor_type, bound in ((np.float64, torch.float64, EXACT), (np.float32, torch.float32, FLOAT32)):
        pixels = families.random_pixels(rows * config.patch_size, columns * config.patch_size, dtype=dtype)
        with torch.inference_mode():
            wanted = model.to(tensor_type)(torch.from_numpy(pixels), **flags).last_hidden_state.numpy()
        own = families.in_dtype(params, dtype)
        plain = forward_features(own, config, pixels).all
        engine = NumpyEngine(own, config, "patch-mean", threads=2, dtype=dtype).forward(pixels)
        np.testing.assert_allclose(plain, wanted, rtol=0, atol=bound)
        np.testing.assert_allclose(engine, wanted, rtol=0, atol=bound)
