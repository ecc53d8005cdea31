"""Every text tower against outputs of transformers that tests/golden/make_text.py stored; torch is not needed."""

import json
from pathlib import Path

import numpy as np
import pytest

from vitseek.engines.text_engine import TextEngine
from vitseek.models.text import TextConfig, encode, text_parameter_shapes

NAMES = ("chinese_clip", "clip", "clip_eos2", "metaclip2", "openclip", "siglip", "siglip2")
FILES = [Path(__file__).parent / "text" / f"{name}.npz" for name in NAMES]
STORED = 5e-7  # float64 against values stored in float32: half a unit in the last place of 8 is 2.4e-7
FLOAT32 = 5e-6

Golden = tuple[TextConfig, dict[str, np.ndarray], dict[str, np.ndarray]]


def read(file: Path) -> Golden:
    arrays = dict(np.load(file))
    config = TextConfig.from_dict(json.loads(arrays.pop("config").tobytes()))
    params = {name.removeprefix("params/"): value for name, value in arrays.items() if name.startswith("params/")}
    return config, params, {**arrays, "ids": arrays["ids"].astype(np.int64), "mask": arrays["mask"].astype(np.int64)}


def test_the_files_stay_small() -> None:
    assert max(file.stat().st_size for file in FILES) < 20_000


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_parameters_are_those_of_the_config(file: Path) -> None:
    config, params, _ = read(file)
    assert {name: value.shape for name, value in params.items()} == text_parameter_shapes(config)
    assert all(value.std() > 0 for value in params.values()), "a constant parameter hides mistakes"


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_the_plain_pass_in_float64_gives_the_stored_tokens_and_embeddings(file: Path) -> None:
    config, params, arrays = read(file)
    stages: dict[str, np.ndarray] = {}
    embedding = encode(
        {name: value.astype(np.float64) for name, value in params.items()},
        config,
        arrays["ids"],
        arrays["mask"],
        stages=lambda name, x: stages.__setitem__(name, x.copy()),
    )
    words = arrays["mask"] == 1
    last = stages[f"block.{config.depth - 1}"]
    np.testing.assert_allclose(last[words], arrays["tokens"][words], rtol=0, atol=STORED)
    np.testing.assert_allclose(embedding, arrays["embedding"], rtol=0, atol=STORED)


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_the_engine_in_float32_gives_the_stored_embeddings(file: Path, threads: int) -> None:
    config, params, arrays = read(file)
    found = TextEngine(params, config, threads=threads).encode(arrays["ids"], arrays["mask"])
    np.testing.assert_allclose(found, arrays["embedding"], rtol=0, atol=FLOAT32)
    assert np.abs(arrays["embedding"]).max() > 0.5


def test_the_two_rules_of_pooling_differ_in_their_configs_only_where_they_should() -> None:
    (first, _, _), (largest, _, _) = (read(file) for file in FILES[1:3])
    assert (first.pooling, largest.pooling) == ("eos", "largest")
    assert first.eos_token_id == largest.eos_token_id == first.vocab_size - 1
