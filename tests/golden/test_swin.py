"""Swin against outputs of transformers that tests/golden/make_swin.py stored; torch is not needed."""

import json
from pathlib import Path

import numpy as np
import pytest

from vitseek.engines.swin_engine import SwinEngine
from vitseek.models.architectures import config_from_dict
from vitseek.models.swin import SwinConfig, classify, forward_features, swin_parameter_shapes

FILE = Path(__file__).parent / "swin" / "swin.npz"
STORED = 1e-6  # float64 against values stored in float32: half a unit in the last place of 8 is 2.4e-7
FLOAT32 = 1e-5
SIZES = ("whole", "odd", "long")


@pytest.fixture(scope="module")
def arrays() -> dict[str, np.ndarray]:
    return dict(np.load(FILE))


@pytest.fixture(scope="module")
def config(arrays: dict[str, np.ndarray]) -> SwinConfig:
    found = config_from_dict(json.loads(arrays["config"].tobytes()))
    assert isinstance(found, SwinConfig)
    return found


@pytest.fixture(scope="module")
def params(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name.removeprefix("params/"): value for name, value in arrays.items() if name.startswith("params/")}


def test_the_file_stays_small() -> None:
    assert FILE.stat().st_size < 50_000


def test_parameters_are_those_of_the_config(config: SwinConfig, params: dict[str, np.ndarray]) -> None:
    assert {name: value.shape for name, value in params.items()} == swin_parameter_shapes(config)
    assert all(value.std() > 0 for value in params.values()), "a constant parameter hides mistakes"


@pytest.mark.parametrize("size", SIZES)
def test_plain_pass_in_float64_gives_the_stored_tokens_and_logits(size: str, config, params, arrays) -> None:
    params = {name: value.astype(np.float64) for name, value in params.items()}
    tokens = forward_features(params, config, arrays[f"{size}/pixels"].astype(np.float64))
    np.testing.assert_allclose(tokens.all, arrays[f"{size}/tokens"], rtol=0, atol=STORED)
    np.testing.assert_allclose(classify(params, config, tokens), arrays[f"{size}/logits"], rtol=0, atol=STORED)


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("size", SIZES)
def test_engine_in_float32_gives_the_stored_tokens_and_logits(size: str, threads: int, config, params, arrays) -> None:
    pixels = arrays[f"{size}/pixels"].astype(np.float32)
    engine = SwinEngine(params, config, threads=threads)
    wanted = arrays[f"{size}/tokens"]
    np.testing.assert_allclose(engine.forward(pixels), wanted, rtol=0, atol=FLOAT32)
    np.testing.assert_allclose(engine.embed_pixels(pixels), wanted.mean(axis=1), rtol=0, atol=FLOAT32)
    np.testing.assert_allclose(engine.classify(pixels), arrays[f"{size}/logits"], rtol=0, atol=FLOAT32)
