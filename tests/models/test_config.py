"""The config refuses contradictions, survives JSON, and implies the published parameter counts."""

import dataclasses
import json
import math

import pytest

from vitseek.errors import ConfigError
from vitseek.models.config import VARIANTS, ViTConfig, parameter_shapes

SMALL = ViTConfig(embed_dim=21, depth=2, num_heads=3, patch_size=7, img_size=(35, 49))


def count(config: ViTConfig) -> int:
    return sum(math.prod(shape) for shape in parameter_shapes(config).values())


def test_derived_sizes_follow_from_the_fields() -> None:
    config = dataclasses.replace(SMALL, distilled=True, num_registers=5)
    assert config.grid == (5, 7)
    assert config.head_dim == 7
    assert config.mlp_dim == 84
    assert config.num_prefix_tokens == 7
    assert parameter_shapes(config)["pos_embed"] == (1, 2 + 35, 21)


@pytest.mark.parametrize(
    ("variant", "fields", "parameters"),
    [
        # timm's counts; for DINOv2 those of the published checkpoints less the mask token, which only training uses.
        ("vit_tiny", {"patch_size": 16, "img_size": (224, 224), "num_classes": 1000}, 5_717_416),
        ("vit_small", {"patch_size": 16, "img_size": (224, 224), "num_classes": 1000}, 22_050_664),
        ("vit_base", {"patch_size": 16, "img_size": (224, 224), "num_classes": 1000}, 86_567_656),
        ("vit_large", {"patch_size": 16, "img_size": (224, 224), "num_classes": 1000}, 304_326_632),
        ("vit_base", {"patch_size": 14, "img_size": (518, 518), "layer_scale": True}, 86_580_480 - 768),
        ("vit_giant", {"patch_size": 14, "img_size": (518, 518), "layer_scale": True}, 1_136_480_768 - 1536),
    ],
)
def test_named_variants_have_the_published_number_of_parameters(
    variant: str, fields: dict[str, object], parameters: int
) -> None:
    assert count(ViTConfig(**VARIANTS[variant], **fields)) == parameters  # type: ignore[arg-type]


def test_every_option_adds_exactly_its_parameters() -> None:
    names = set(parameter_shapes(SMALL))
    with_all = dataclasses.replace(SMALL, distilled=True, num_registers=5, layer_scale=True, num_classes=11)
    added = set(parameter_shapes(with_all)) - names
    assert added == {
        "dist_token", "reg_token", "head.weight", "head.bias", "head_dist.weight", "head_dist.bias",
        "blocks.0.ls1.gamma", "blocks.0.ls2.gamma", "blocks.1.ls1.gamma", "blocks.1.ls2.gamma",
    }  # fmt: skip
    without_bias = dataclasses.replace(SMALL, qkv_bias=False)
    assert names - set(parameter_shapes(without_bias)) == {"blocks.0.attn.qkv.bias", "blocks.1.attn.qkv.bias"}


def test_swiglu_replaces_the_two_layers_of_the_feed_forward() -> None:
    shapes = parameter_shapes(dataclasses.replace(SMALL, mlp_layer="swiglu", hidden_dim=13))
    assert shapes["blocks.1.mlp.w12.weight"] == (26, 21)
    assert shapes["blocks.1.mlp.w3.weight"] == (21, 13)
    assert not any(".fc" in name for name in shapes)


def test_head_on_class_token_and_patch_mean_is_twice_as_wide() -> None:
    shapes = parameter_shapes(dataclasses.replace(SMALL, num_classes=11, head_input="cls+patch-mean"))
    assert shapes["head.weight"] == (11, 42)


def test_config_survives_json() -> None:
    config = dataclasses.replace(SMALL, mlp_layer="swiglu", num_registers=5, pos_resize="bicubic-antialias")
    assert ViTConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_unknown_fields_are_refused_by_name() -> None:
    with pytest.raises(ConfigError, match="unknown model config fields: rope"):
        ViTConfig.from_dict({**SMALL.to_dict(), "rope": True})


def test_missing_fields_are_named() -> None:
    values = SMALL.to_dict()
    del values["depth"], values["num_heads"]
    with pytest.raises(ConfigError, match="lacks: depth, num_heads"):
        ViTConfig.from_dict(values)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_heads": 4}, "cannot be split over 4 heads"),
        ({"img_size": (35, 50)}, "not a whole number of 7 px patches"),
        ({"img_size": (35,)}, "must be \\(height, width\\)"),
        ({"depth": 0}, "depth must be a whole number of at least 1"),
        ({"num_classes": -1}, "num_classes must be a whole number of at least 0"),
        ({"embed_dim": 21.0}, "embed_dim must be a whole number"),
        ({"mlp_layer": "relu"}, "mlp_layer must be one of gelu, swiglu"),
        ({"pos_resize": "bilinear"}, "pos_resize must be one of"),
        ({"norm_eps": 0.0}, "norm_eps must be positive"),
    ],
)
def test_contradictions_are_refused_with_the_reason(change: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        dataclasses.replace(SMALL, **change)  # type: ignore[arg-type]
