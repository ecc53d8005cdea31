"""MSN has transformers' ViT's names, another epsilon, and with a classifier a mixture of prefixes."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from tests.weights.checkpoints import SMALL, random_params, save_safetensors, transformers_vit
from vitseek.errors import ConfigError
from vitseek.weights.loader import load_weights

MSN = dataclasses.replace(SMALL, norm_eps=1e-6, pos_resize="bicubic")
SAYS = {"model_type": "vit_msn", "num_attention_heads": MSN.num_heads, "image_size": 35, "patch_size": 5}


def test_the_config_tells_an_msn_from_a_vit_of_the_same_names(tmp_path: Path, rng: np.random.Generator) -> None:
    params = random_params(MSN, rng)
    save_safetensors(tmp_path / "model.safetensors", transformers_vit(params))
    assert load_weights(tmp_path).config.norm_eps == 1e-12  # a ViT's, which is what the names say
    (tmp_path / "config.json").write_text(json.dumps(SAYS))
    loaded = load_weights(tmp_path)
    assert (loaded.config, loaded.naming, loaded.pooling) == (MSN, "transformers-vit", "cls")
    for name, array in params.items():
        np.testing.assert_array_equal(loaded.params[name], array, err_msg=name)


@pytest.mark.parametrize("described", [True, False])
def test_release_5_leaves_the_prefix_off_the_blocks_of_a_classifier(
    described: bool, tmp_path: Path, rng: np.random.Generator
) -> None:
    config = dataclasses.replace(MSN, num_classes=3)
    params = random_params(config, rng)
    names = {name.replace("vit.encoder.", "encoder."): array
             for name, array in transformers_vit(params, prefix="vit.").items()}  # fmt: skip
    save_safetensors(tmp_path / "model.safetensors", names)
    if described:
        labels = {"0": "ant", "1": "bee", "2": "cow"}
        (tmp_path / "config.json").write_text(json.dumps({**SAYS, "id2label": labels}))
    loaded = load_weights(tmp_path)
    assert loaded.naming == "transformers-msn-classes-5"
    assert loaded.labels == (["ant", "bee", "cow"] if described else None)
    assert loaded.config.norm_eps == 1e-6
    assert loaded.config == config or not described  # the heads are a guess without a config
    for name, array in params.items():
        np.testing.assert_array_equal(loaded.params[name], array, err_msg=name)


def test_an_msn_with_another_activation_is_refused(tmp_path: Path, rng: np.random.Generator) -> None:
    save_safetensors(tmp_path / "model.safetensors", transformers_vit(random_params(MSN, rng)))
    (tmp_path / "config.json").write_text(json.dumps({**SAYS, "hidden_act": "relu"}))
    with pytest.raises(ConfigError, match="'relu'"):
        load_weights(tmp_path)
