"""What a Swin config accepts, refuses and writes."""

import dataclasses
import json
import math

import pytest

from vitseek.errors import ConfigError
from vitseek.models.swin_config import VARIANTS, SwinConfig, swin_parameter_shapes

SMALL = {"embed_dim": 15, "depths": (2, 3), "num_heads": (3, 5), "window_size": 5, "patch_size": 3}


def test_a_config_survives_json() -> None:
    config = SwinConfig(**SMALL, img_size=(35, 49), mlp_ratio=2.2, qkv_bias=False, num_classes=7, norm_eps=1e-3)
    values = json.loads(json.dumps(config.to_dict()))
    assert values["architecture"] == "swin"
    assert SwinConfig.from_dict(values) == config
    del values["architecture"]
    assert SwinConfig.from_dict(values) == config


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"embed_dim": 0}, "embed_dim must be a whole number of at least 1"),
        ({"window_size": 1}, "window_size must be a whole number of at least 2"),
        ({"depths": (2, 0)}, "depths must be a whole number of at least 1, not 0"),
        ({"depths": (2, 10**9)}, "asks for 1000000002 blocks, more than 1000"),
        ({"depths": (2, 3, 5)}, "depths has 3 stages and num_heads 2"),
        ({"depths": (), "num_heads": ()}, "lists 0 stages, wanted 1 to 8"),
        ({"num_heads": (3, 7)}, "stage 1 is 30 wide, which 7 heads cannot split"),
        ({"img_size": (3,)}, "img_size must be"),
        ({"mlp_ratio": 0}, "mlp_ratio must be a positive number"),
        ({"mlp_ratio": 0.01}, "leaves no channel"),
        ({"norm_eps": -1.0}, "norm_eps must be a positive number"),
        ({"norm_eps": "small"}, "norm_eps must be a positive number, not 'small'"),
        ({"qkv_bias": 1}, "qkv_bias must be true or false"),
        ({"num_classes": True}, "num_classes must be a whole number"),
    ],
)
def test_contradictions_are_refused(change: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        SwinConfig(**{**SMALL, **change})


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({**SMALL, "colour": 3}, "unknown Swin config fields: colour"),
        ({"embed_dim": 15, "depths": [2]}, "Swin config lacks: num_heads"),
        ({**SMALL, "depths": 2}, "depths must be a list of numbers, not 2"),
        ({**SMALL, "architecture": "vit"}, "architecture 'vit' is not 'swin'"),
    ],
)
def test_a_description_is_understood_wholly_or_refused(values: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        SwinConfig.from_dict(values)


def test_a_config_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        SwinConfig(**SMALL).embed_dim = 7  # type: ignore[misc]


# The paper gives 29, 50, 88 and 197 million parameters with 1,000 classes (table 1 and table 8).
@pytest.mark.parametrize(
    ("name", "millions"), [("swin_tiny", 28.3), ("swin_small", 49.6), ("swin_base", 87.8), ("swin_large", 196.5)]
)
def test_named_sizes_have_the_parameters_of_the_paper(name: str, millions: float) -> None:
    config = SwinConfig(**VARIANTS[name], num_classes=1000)
    count = sum(math.prod(shape) for shape in swin_parameter_shapes(config).values())
    assert round(count / 1e6, 1) == millions


def test_widths_double_from_stage_to_stage() -> None:
    config = SwinConfig(**SMALL, mlp_ratio=2.2)
    assert [config.width(stage) for stage in range(2)] == [15, 30]
    assert [config.mlp_width(stage) for stage in range(2)] == [33, 66]
    assert (config.num_features, config.depth) == (30, 5)
    assert config.blocks() == [(0, 0), (0, 1), (1, 0), (1, 1), (1, 2)]


def test_parameters_are_named_as_in_timm() -> None:
    shapes = swin_parameter_shapes(SwinConfig(**SMALL, mlp_ratio=2.2, qkv_bias=False, num_classes=7))
    assert shapes["patch_embed.proj.weight"] == (15, 3, 3, 3)
    assert shapes["layers.1.downsample.reduction.weight"] == (30, 60)
    assert shapes["layers.1.downsample.norm.bias"] == (60,)
    assert shapes["layers.1.blocks.2.attn.relative_position_bias_table"] == (81, 5)
    assert shapes["layers.0.blocks.1.attn.qkv.weight"] == (45, 15)
    assert shapes["layers.0.blocks.1.mlp.fc2.weight"] == (15, 33)
    assert shapes["head.fc.weight"] == (7, 30)
    left_out = (
        "layers.0.downsample.norm.weight",
        "layers.1.downsample.reduction.bias",
        "layers.0.blocks.0.attn.qkv.bias",
    )
    assert not set(left_out) & set(shapes)
