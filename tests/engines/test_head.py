"""The head gives the same logits from stored features as from pixels, for every rule and architecture."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from tests.models.random_weights import random_params
from vitseek.engines.build import build_engine
from vitseek.engines.model import Model, load
from vitseek.errors import ConfigError
from vitseek.models.architectures import parameter_shapes
from vitseek.models.config import ViTConfig
from vitseek.models.swin_config import SwinConfig

VIT = ViTConfig(embed_dim=22, depth=2, num_heads=2, patch_size=7, img_size=(35, 35), num_classes=5)
CONFIGS = {
    "cls": VIT,
    "cls+patch-mean": dataclasses.replace(VIT, head_input="cls+patch-mean", num_registers=3),
    "patch-mean": dataclasses.replace(VIT, head_input="patch-mean", class_token=False),
}


def made(folder: Path, config: ViTConfig, pooling: str) -> Model:
    params = random_params(config, np.random.default_rng(3), np.float32)
    save_file(params, folder / "model.safetensors")
    facts = {
        "format": "vitseek", "version": 1, "name": "headed", "config": config.to_dict(), "pooling": pooling,
        "preprocessing": {"size_px": 35, "resize_px": 35, "patch_size_px": 7},
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(facts))
    return load(folder)


@pytest.mark.parametrize("pooling", CONFIGS)
def test_stored_features_give_the_logits_of_the_pixels(tmp_path: Path, rng: np.random.Generator, pooling: str) -> None:
    model = made(tmp_path, CONFIGS[pooling], pooling)
    pixels = rng.normal(size=(3, 3, 35, 35)).astype(np.float32)
    assert (model.num_classes, model.head_pooling) == (5, pooling)
    logits = model.classify_features(model.embed_pixels(pixels))
    np.testing.assert_allclose(logits, model.classify(pixels), atol=2e-6)


def test_swins_head_sees_the_mean_of_all_tokens(rng: np.random.Generator) -> None:
    config = SwinConfig(
        embed_dim=14, depths=(2, 2), num_heads=(1, 2), window_size=3, patch_size=2, img_size=(24, 24), num_classes=5
    )
    params = {name: rng.normal(0, 0.2, shape).astype(np.float32) for name, shape in parameter_shapes(config).items()}
    engine = build_engine(params, config, "patch-mean")
    pixels = rng.normal(size=(3, 3, 24, 24)).astype(np.float32)
    np.testing.assert_allclose(
        engine.classify_features(engine.embed_pixels(pixels)), engine.classify(pixels), atol=5e-6
    )


@pytest.mark.parametrize(
    ("changes", "pooling", "problem"),
    [
        ({}, "patch-mean", "sees 'cls', and these features are 'patch-mean'"),
        ({"distilled": True}, "cls", "sees more than one token"),
        ({"num_classes": 0}, "cls", "has no classification head"),
    ],
)
def test_features_that_the_head_does_not_see_are_refused(
    tmp_path: Path, changes: dict, pooling: str, problem: str
) -> None:
    model = made(tmp_path, dataclasses.replace(VIT, **changes), pooling)
    with pytest.raises(ConfigError, match=problem):
        model.classify_features(np.ones((1, 22), np.float32))
