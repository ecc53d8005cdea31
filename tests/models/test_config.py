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
        # those of transformers' CLIPVisionModelWithProjection (B/32) and SiglipVisionModel (B/16)
        (
            "vit_base",
            {"patch_size": 32, "img_size": (224, 224), "pre_norm": True, "patch_bias": False, "embedding_dim": 512},
            87_849_216,
        ),
        (
            "vit_base",
            {"patch_size": 16, "img_size": (224, 224), "class_token": False, "attention_pool": True},
            92_884_224,
        ),
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


def test_a_model_without_class_token_has_positions_for_patches_only() -> None:
    config = dataclasses.replace(SMALL, class_token=False, attention_pool=True)
    shapes = parameter_shapes(config)
    assert config.num_prefix_tokens == 0
    assert "cls_token" not in shapes
    assert shapes["pos_embed"] == (1, 35, 21)
    assert shapes["attn_pool.kv.weight"] == (42, 21)
    assert shapes["attn_pool.mlp.fc1.weight"] == (84, 21)


def test_rotary_positions_need_no_parameters() -> None:
    shapes = parameter_shapes(dataclasses.replace(SMALL, embed_dim=24, pos_embed="rope"))
    assert "pos_embed" not in shapes


def test_missing_biases_and_rms_norms_leave_weights_alone() -> None:
    plain = parameter_shapes(SMALL)
    bare = parameter_shapes(
        dataclasses.replace(
            SMALL, norm_layer="rmsnorm", patch_bias=False, qkv_bias=False, proj_bias=False, mlp_bias=False
        )
    )
    assert set(plain) - set(bare) == {name for name in plain if name.endswith(".bias")}


def test_clip_adds_its_first_norm_and_the_projection() -> None:
    clip = dataclasses.replace(SMALL, patch_bias=False, pre_norm=True, embedding_dim=13)
    names, added = parameter_shapes(SMALL), parameter_shapes(clip)
    assert set(added) - set(names) == {"norm_pre.weight", "norm_pre.bias", "projection.weight"}
    assert set(names) - set(added) == {"patch_embed.proj.bias"}
    assert added["projection.weight"] == (13, 21)


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
        ({"mlp_layer": "relu"}, "mlp_layer must be one of gelu, quick-gelu, gelu-tanh, swiglu"),
        ({"norm_layer": "batchnorm"}, "norm_layer must be one of layernorm, rmsnorm"),
        ({"layer_scale": 1e-5}, "layer_scale must be true or false"),
        ({"embedding_dim": -1}, "embedding_dim must be a whole number of at least 0"),
        ({"class_token": False, "distilled": True}, "distilled .* needs class_token"),
        ({"class_token": False, "num_classes": 5}, "needs a class token.*use 'patch-mean'"),
        ({"class_token": False, "embedding_dim": 5}, "this model has neither"),
        ({"pos_embed": "rope"}, "heads of 7 channels do not divide by 4"),
        ({"pos_embed": "none", "pos_resize": "bicubic-offset"}, "leave it at 'bicubic'"),
        ({"rope_theta": 10.0}, "no use with pos_embed 'learned'"),
        ({"rope_theta": 0.0}, "rope_theta must be positive"),
        ({"attention_pool": True, "mlp_layer": "swiglu"}, "does not go with it"),
        ({"pos_resize": "bilinear"}, "pos_resize must be one of"),
        ({"norm_eps": 0.0}, "norm_eps must be positive"),
    ],
)
def test_contradictions_are_refused_with_the_reason(change: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        dataclasses.replace(SMALL, **change)  # type: ignore[arg-type]
