"""Every architecture is entered once, and its configs find their way back from JSON."""

import dataclasses
import json

import numpy as np
import pytest

from tests.models.random_weights import FAMILIES, SMALL
from vitseek.errors import ConfigError
from vitseek.models.architectures import ARCHITECTURES, architecture_of, config_from_dict, parameter_shapes
from vitseek.models.config import ViTConfig
from vitseek.models.swin_config import SwinConfig
from vitseek.models.tokens import usual_pooling

SWIN = SwinConfig(embed_dim=22, depths=(2, 1), num_heads=(2, 4), window_size=3, patch_size=2, img_size=(24, 36))
CONFIGS = [dataclasses.replace(SMALL, **fields) for fields in FAMILIES.values()] + [SWIN]


@pytest.mark.parametrize("config", CONFIGS, ids=[*FAMILIES, "swin"])
def test_every_config_survives_json(config: ViTConfig | SwinConfig) -> None:
    again = config_from_dict(json.loads(json.dumps(config.to_dict())))
    assert again == config
    assert type(again) is type(config)


def test_a_description_without_architecture_is_a_plain_vision_transformer() -> None:
    assert "architecture" not in SMALL.to_dict()
    assert config_from_dict({**SMALL.to_dict(), "architecture": "vit"}) == SMALL


@pytest.mark.parametrize("name", ["convnext", 5, None, ["vit"]])
def test_an_unknown_architecture_is_refused_with_the_known_ones(name: object) -> None:
    with pytest.raises(ConfigError, match=r"unknown architecture .*known: vit, swin\).*upgrade"):
        config_from_dict({**SMALL.to_dict(), "architecture": name})


def test_fields_of_another_architecture_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"unknown model config fields: depths"):
        config_from_dict({**SWIN.to_dict(), "architecture": "vit"})


@pytest.mark.parametrize("config", CONFIGS, ids=[*FAMILIES, "swin"])
def test_the_registered_pass_takes_the_registered_parameters(
    config: ViTConfig | SwinConfig, rng: np.random.Generator
) -> None:
    params = {name: rng.standard_normal(shape) * 0.1 for name, shape in parameter_shapes(config).items()}
    tokens = architecture_of(config).forward_features(params, config, rng.standard_normal((2, 3, *config.img_size)))
    assert tokens.all.shape[0] == 2
    assert tokens.all.shape[2] == config.num_features
    assert tokens.num_prefix_tokens == config.num_prefix_tokens
    assert tokens.patches.shape[1] == tokens.grid[0] * tokens.grid[1]


def test_something_else_is_no_model_config() -> None:
    with pytest.raises(TypeError, match="dict is no model config: vit, swin are known"):
        parameter_shapes({})  # type: ignore[arg-type]


def test_names_are_those_of_the_registry() -> None:
    assert [(name, one.name) for name, one in ARCHITECTURES.items()] == [("vit", "vit"), ("swin", "swin")]


@pytest.mark.parametrize(
    ("family", "rule"), [("vit", "cls"), ("clip", "embedding"), ("siglip", "embedding"), ("aimv2", "patch-mean")]
)
def test_what_a_model_has_decides_how_it_is_pooled(family: str, rule: str) -> None:
    assert usual_pooling(dataclasses.replace(SMALL, **FAMILIES[family])) == rule
    assert usual_pooling(SWIN) == "patch-mean"
