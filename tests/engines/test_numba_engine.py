"""The engine with compiled steps gives NumPy's features, or gives up and lets NumPy compute."""

import dataclasses
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from tests.models.random_weights import FAMILIES, SMALL, random_params, rules
from vitseek.engines import available, kernels
from vitseek.engines.build import build_engine, check_engine
from vitseek.engines.numba_engine import NumbaEngine
from vitseek.engines.numpy_engine import NumpyEngine
from vitseek.errors import MissingExtraError, ShapeError

Array = np.ndarray

# Largest difference from NumPy in float32 over all families below: 1.4e-6 of tokens, 3.3e-6 of features.
FLOAT32 = 2e-5


def kernels_with(**others: Any) -> Any:
    """NumPy's steps, some of them replaced: no Numba is needed to see what the engine does with them."""
    names = ("multiply", "normalise", "add_branch", "add_bias", "bias_swiglu", "rotate", "attend", "ACTIVATIONS")
    return SimpleNamespace(**{name: getattr(kernels, name) for name in names} | others)


@pytest.fixture
def params(rng: np.random.Generator) -> dict[str, Array]:
    return random_params(SMALL, rng, np.float32)


@pytest.fixture(autouse=True)
def a_version(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vitseek.engines.numba_engine.version", lambda: "Numba 0")


def pixels_of(rng: np.random.Generator, *shape: int) -> Array:
    return rng.standard_normal(shape, dtype=np.float32)


@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_gives_numpy_s_numbers(family: str, threads: int, rng: np.random.Generator) -> None:
    pytest.importorskip("numba", reason="numba is not installed: pip install 'vitseek[numba]'")
    config = dataclasses.replace(SMALL, **FAMILIES[family])
    params = random_params(config, rng, np.float32)
    said: list[str] = []
    engine = build_engine(params, config, rules(config)[-1], threads, engine="numba", report=said.append)
    numpy = NumpyEngine(params, config, rules(config)[-1], threads)
    for shape in ((1, 3, 35, 49), (7, 3, 14, 63)):
        pixels = pixels_of(rng, *shape)
        wanted, found = (one.tokens(pixels, attention_blocks=(0,)) for one in (numpy, engine))
        np.testing.assert_allclose(found.all, wanted.all, atol=FLOAT32)
        np.testing.assert_allclose(found.attention[0], wanted.attention[0], atol=FLOAT32)
        np.testing.assert_allclose(engine.embed_pixels(pixels), numpy.embed_pixels(pixels), atol=FLOAT32)
        np.testing.assert_allclose(engine.pool(found), numpy.embed_pixels(pixels), atol=FLOAT32)
        if config.num_classes:
            np.testing.assert_allclose(engine.classify(pixels), numpy.classify(pixels), atol=FLOAT32)
    assert isinstance(engine, NumbaEngine)
    assert (engine.computes, said) == ("numba", [])


def test_an_empty_batch_gives_an_empty_result_and_compiles_nothing(params: dict[str, Array]) -> None:
    engine = NumbaEngine(params, SMALL, "cls", 1, load=lambda _: pytest.fail("not needed"))
    assert engine.embed_pixels(np.empty((0, 3, 35, 49), np.float32)).shape == (0, 21)


def test_pixels_of_a_wrong_shape_are_refused_before_anything_is_compiled(params: dict[str, Array]) -> None:
    engine = NumbaEngine(params, SMALL, "cls", 1, load=lambda _: pytest.fail("not needed"))
    with pytest.raises(ShapeError, match="does not divide"):
        engine.embed_pixels(np.zeros((1, 3, 35, 50), np.float32))


def twice_the_bias(x: Array, bias: Array) -> None:
    kernels.add_bias(x, 2 * bias)


def no_number(x: Array, *, eps: float, out: Array, centre: bool = True) -> None:
    out[:] = np.nan


@pytest.mark.parametrize("wrong", [{"add_bias": twice_the_bias}, {"normalise": no_number}], ids=["bias", "nan"])
def test_steps_that_give_other_numbers_are_refused_and_numpy_computes(
    wrong: dict[str, Any], params: dict[str, Array], rng: np.random.Generator
) -> None:
    said: list[str] = []
    engine = NumbaEngine(params, SMALL, "cls", 1, report=said.append, load=lambda _: kernels_with(**wrong))
    pixels = pixels_of(rng, 2, 3, 35, 49)
    assert engine.computes == "numba"
    for _ in range(2):
        np.testing.assert_array_equal(engine.embed_pixels(pixels), engine.numpy.embed_pixels(pixels))
    (sentence,) = said
    assert sentence.startswith("Numba 0 is not used, because it gives tokens ")
    assert sentence.endswith("NumPy computes instead")
    assert engine.computes == "numpy"


def test_a_compiler_that_fails_is_refused_with_its_reason(params: dict[str, Array], rng: np.random.Generator) -> None:
    def fail(_: NumpyEngine) -> Any:
        raise OSError("libLLVM is damaged\nand a page of stack")

    said: list[str] = []
    engine = NumbaEngine(params, SMALL, "cls", 1, report=said.append, load=fail)
    pixels = pixels_of(rng, 1, 3, 35, 49)
    np.testing.assert_array_equal(engine.forward(pixels), engine.numpy.forward(pixels))
    assert said == ["Numba 0 is not used, because it failed (OSError: libLLVM is damaged): NumPy computes instead"]


def test_a_check_is_remembered_for_the_same_weights(params: dict[str, Array], rng: np.random.Generator) -> None:
    pixels, counted = pixels_of(rng, 1, 3, 35, 49), []

    def counting(x: Array, bias: Array) -> None:
        counted.append(1)
        kernels.add_bias(x, bias)

    def steps(identity: str | None) -> int:
        counted.clear()
        engine = NumbaEngine(
            params, SMALL, "cls", 1, weights_sha256=identity, load=lambda _: kernels_with(add_bias=counting)
        )
        engine.embed_pixels(pixels)
        return len(counted)

    alone = SMALL.depth - 1 + SMALL.depth  # the class token, for which the last block makes no keys; and the first try
    with_check = alone + SMALL.depth
    assert steps("aa") == with_check
    assert steps("aa") == alone
    assert steps("bb") == with_check
    assert steps(None) == steps(None) == with_check


def test_a_missing_package_is_named_with_the_extra_that_brings_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(available, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"engine 'numba' needs numba: pip install 'vitseek\[numba\]'"):
        check_engine("numba")


def test_nothing_is_lost_but_time_where_no_cache_can_be_written(tmp_path: Path) -> None:
    """A read-only installation and a home that is none: Numba finds no place, and compiles without one."""
    pytest.importorskip("numba", reason="numba is not installed: pip install 'vitseek[numba]'")
    program = """
import numpy as np, numba.core.caching as caching
caching.CacheImpl._locator_classes = []  # what Numba is left with when no place can be written
from vitseek.engines import kernels, numba_kernels
x, out, wanted = np.arange(14, dtype=np.float32).reshape(2, 7), *np.empty((2, 2, 7), np.float32)
numba_kernels.normalise(x, eps=1e-6, out=out)
kernels.normalise(x, eps=1e-6, out=wanted)
print(np.abs(out - wanted).max() < 1e-6)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], env=dict(os.environ), capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "True"
