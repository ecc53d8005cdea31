"""Every family against outputs of transformers that tests/golden/make.py stored; torch is not needed."""

import json
from pathlib import Path

import numpy as np
import pytest

from vitseek.engines.numpy_engine import NumpyEngine
from vitseek.models.config import ViTConfig, parameter_shapes
from vitseek.models.tokens import usual_pooling
from vitseek.models.vit import classify, forward_features, image_embedding

NAMES = (
    "clip", "deit", "deit_distilled", "dino", "dinov2", "dinov2_registers", "dinov2_swiglu", "dinov3", "dinov3_swiglu",
    "ijepa", "mae", "siglip", "siglip2_naflex", "vit", "vit_no_qkv_bias",
)  # fmt: skip
FILES = [Path(__file__).parent / f"{name}.npz" for name in NAMES]
STORED = 1e-6  # float64 against values stored in float32 (half a unit in the last place of 8: 2.4e-7), and, for DINOv2
# resized and NaFlex, positions that transformers rounds to float32; for DINOv3, angles that it rounds so
FLOAT32 = 1e-5


def read(file: Path) -> tuple[ViTConfig, dict[str, np.ndarray], dict[str, np.ndarray]]:
    arrays = dict(np.load(file))
    config = ViTConfig.from_dict(json.loads(arrays.pop("config").tobytes()))
    params = {name.removeprefix("params/"): value for name, value in arrays.items() if name.startswith("params/")}
    return config, params, arrays


def test_the_files_stay_small() -> None:
    assert max(file.stat().st_size for file in FILES) < 45_000


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_parameters_are_those_of_the_config(file: Path) -> None:
    config, params, _ = read(file)
    assert {name: value.shape for name, value in params.items()} == parameter_shapes(config)
    assert all(value.std() > 0 for value in params.values()), "a constant parameter hides mistakes"


@pytest.mark.parametrize("resolution", ["trained", "resized"])
@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_plain_pass_in_float64_gives_the_stored_tokens_and_logits(file: Path, resolution: str) -> None:
    config, params, arrays = read(file)
    params = {name: value.astype(np.float64) for name, value in params.items()}
    tokens = forward_features(params, config, arrays[f"{resolution}/pixels"].astype(np.float64))
    np.testing.assert_allclose(tokens.all, arrays[f"{resolution}/tokens"], rtol=0, atol=STORED)
    if config.num_classes:
        logits = classify(params, config, tokens)
        np.testing.assert_allclose(logits, arrays[f"{resolution}/logits"], rtol=0, atol=STORED)
    if f"{resolution}/embedding" in arrays:
        embedding = image_embedding(params, config, tokens)
        np.testing.assert_allclose(embedding, arrays[f"{resolution}/embedding"], rtol=0, atol=STORED)


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("resolution", ["trained", "resized"])
@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_engine_in_float32_gives_the_stored_tokens_and_logits(file: Path, resolution: str, threads: int) -> None:
    config, params, arrays = read(file)
    pixels = arrays[f"{resolution}/pixels"].astype(np.float32)
    engine = NumpyEngine(params, config, usual_pooling(config), threads=threads)
    wanted = arrays[f"{resolution}/tokens"]
    np.testing.assert_allclose(engine.forward(pixels), wanted, rtol=0, atol=FLOAT32)
    pooled = arrays.get(f"{resolution}/embedding", wanted[:, 0] if config.class_token else wanted.mean(axis=1))
    np.testing.assert_allclose(engine.embed_pixels(pixels), pooled, rtol=0, atol=FLOAT32)
    if config.num_classes:
        np.testing.assert_allclose(engine.classify(pixels), arrays[f"{resolution}/logits"], rtol=0, atol=FLOAT32)
