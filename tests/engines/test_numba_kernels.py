"""Every compiled step gives what the step of the same name in kernels.py gives, for any numbers."""

import math
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from vitseek.engines import kernels

pytest.importorskip("numba", reason="numba is not installed: pip install 'vitseek[numba]'")

from vitseek.engines import numba_kernels

Array = np.ndarray

SHAPES = ((1, 1), (1, 7), (13, 31), (5, 127), (3, 769), (101, 257))
# Largest differences from float64, as a share of the largest number of a row or of 1, measured over all shapes and
# spreads below with five seeds: exponentials 8.9e-8, sums 2.7e-7, norms 7.0e-7, activations 2.1e-7 (NumPy's own: norms
# 3.3e-7, activations 2.4e-7). Attention is at most 3.6e-7 from NumPy's.
ROUNDING = 1e-6
EXTREMES = np.array(
    [0, -0.0, 1e-45, -1e-45, 1e-30, 1e5, -1e5, 1e20, -1e20, 3e38, -3e38, np.inf, -np.inf, np.nan, 88.7, 88.8, -87.4,
     -103.9, -104.1, 3.5, -3.5, 12.0, -12.0],
    np.float32,
)  # fmt: skip


def normal(rng: np.random.Generator, *shape: int, spread: float = 1.0) -> Array:
    return (rng.standard_normal(shape) * spread).astype(np.float32)


def close(found: Array, wanted: Array, bound: float = ROUNDING) -> None:
    size = np.maximum(1, np.abs(wanted).max(axis=-1, keepdims=True))
    assert found.dtype == np.float32
    assert np.abs(found - wanted).max() <= (bound * size).max()
    np.testing.assert_array_less(np.abs(found - wanted), np.broadcast_to(bound * size, found.shape))


@pytest.mark.parametrize("spread", [0.01, 1.0, 20.0])
@pytest.mark.parametrize("shape", SHAPES)
def test_norms(shape: tuple[int, int], spread: float, rng: np.random.Generator) -> None:
    x = normal(rng, *shape, spread=spread) + np.float32(spread * 3)
    for centre in (True, False):
        out = np.full_like(x, np.nan)
        numba_kernels.normalise(x, eps=1e-6, out=out, centre=centre)
        wide = np.empty(shape)
        kernels.normalise(x.astype(np.float64), eps=1e-6, out=wide, centre=centre)
        close(out, wide, 3e-6)  # a mean three spreads away costs two bits
        numba_kernels.normalise(x, eps=1e-6, out=(own := x.copy()), centre=centre)
        np.testing.assert_array_equal(own, out)
        numba_kernels.normalise(own := x.copy(), eps=1e-6, out=own, centre=centre)
        np.testing.assert_array_equal(own, out)


@pytest.mark.parametrize("shape", SHAPES)
def test_residuals_and_biases(shape: tuple[int, int], rng: np.random.Generator) -> None:
    x, branch, bias = normal(rng, *shape), normal(rng, *shape), normal(rng, shape[1])
    wanted = x + (branch + bias)
    numba_kernels.add_branch(x, branch, bias)
    np.testing.assert_array_equal(x, wanted)
    short = bias[: max(1, len(bias) // 2)]
    wanted[:, : len(short)] += short
    numba_kernels.add_bias(x, short)
    np.testing.assert_array_equal(x, wanted)


@pytest.mark.parametrize("spread", [0.1, 1.0, 5.0, 50.0])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", kernels.ACTIVATIONS)
def test_activations(name: str, shape: tuple[int, int], spread: float, rng: np.random.Generator) -> None:
    hidden, bias = normal(rng, *shape, spread=spread), normal(rng, shape[1])
    wide = (hidden + bias).astype(np.float64)
    scratch = np.empty(2 * max(kernels.BLOCK_NUMBERS, shape[1]))
    kernels.ACTIVATIONS[name](wide, np.zeros(shape[1]), scratch=scratch)
    numba_kernels.ACTIVATIONS[name](hidden, bias, scratch=scratch)
    close(hidden, wide)


@pytest.mark.parametrize("shape", SHAPES)
def test_swiglu(shape: tuple[int, int], rng: np.random.Generator) -> None:
    both, bias = normal(rng, shape[0], 2 * shape[1], spread=3), normal(rng, 2 * shape[1])
    wide, out = np.empty(shape), np.empty(shape, np.float32)
    kernels.bias_swiglu((both + bias).astype(np.float64), np.zeros(2 * shape[1]), out=wide)
    numba_kernels.bias_swiglu(both, bias, out=out)
    close(out, wide)


@pytest.mark.parametrize("name", [*kernels.ACTIVATIONS, "swiglu"])
def test_activations_of_huge_numbers_nan_and_infinity_are_numpy_s(name: str) -> None:
    hidden = np.tile(EXTREMES, (3, 2))
    ours, theirs, bias = hidden.copy(), hidden.copy(), np.zeros(hidden.shape[1], np.float32)
    scratch = np.empty(2 * kernels.BLOCK_NUMBERS, np.float32)
    with np.errstate(all="ignore"):
        if name == "swiglu":
            ours, theirs = np.empty((2, 3, len(EXTREMES)), np.float32)
            numba_kernels.bias_swiglu(hidden.copy(), bias, out=ours)
            kernels.bias_swiglu(hidden.copy(), bias, out=theirs)
        else:
            numba_kernels.ACTIVATIONS[name](ours, bias, scratch=scratch)
            kernels.ACTIVATIONS[name](theirs, bias, scratch=scratch)
    np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=3e-6)


def test_exponentials_are_right_to_the_last_bit_or_so_wherever_float32_has_numbers() -> None:
    x = np.linspace(-103, 88.7, 91 * 10_007, dtype=np.float32).reshape(-1, 91)
    found = x.copy()
    numba_kernels.exponentials(found)
    wanted = np.exp(x.astype(np.float64))
    normal_numbers = x > -87.3
    assert np.abs(found / wanted - 1)[normal_numbers].max() < 1.2e-7
    assert np.abs(found - wanted)[~normal_numbers].max() <= 1.5e-45  # one step of what is left there


@pytest.mark.parametrize("width", [1, 2, 15, 16, 17, 23])
def test_exponentials_of_extremes_are_numpy_s(width: int) -> None:
    x = np.array([np.roll(EXTREMES, turn)[:width] for turn in range(len(EXTREMES))])
    found = x.copy()
    numba_kernels.exponentials(found)
    with np.errstate(all="ignore"):
        np.testing.assert_allclose(found, np.exp(x), rtol=3e-7, atol=2e-45)


@pytest.mark.parametrize("shape", SHAPES)
def test_sums_of_exponentials(shape: tuple[int, int], rng: np.random.Generator) -> None:
    block = normal(rng, *shape, spread=3)
    wide = np.exp(block.astype(np.float64))
    total = numba_kernels.exponentials(block)
    assert total is not None
    np.testing.assert_allclose(total, wide.sum(axis=1), rtol=ROUNDING)
    np.testing.assert_allclose(block, wide, rtol=ROUNDING)


@pytest.mark.parametrize("score", [-60.0, 75.0, 1e30, -1e30, np.nan, np.inf, -np.inf])
def test_rows_that_are_out_of_the_ordinary_are_told_as_numpy_tells_them(score: float) -> None:
    for row in (0, 4):
        block = np.zeros((5, 13), np.float32)
        block[row] = score
        assert numba_kernels.exponentials(block.copy()) is None
        assert kernels.exponentials(block.copy()) is None


@pytest.mark.parametrize("size", [1e-3, 1.0, 30.0, 300.0, 1e20])
def test_attention_is_that_of_numpy_for_scores_of_any_size(size: float, rng: np.random.Generator) -> None:
    heads, queries, tokens, width = 3, 11, 13, 5
    query, key, value = (normal(rng, heads, count, width) for count in (queries, tokens, tokens))
    query *= np.float32(size)
    found, wanted = np.empty((2, heads, queries, width), np.float32)
    kept, shares = np.empty((2, heads, queries, tokens), np.float32)
    scores = np.empty(heads * queries * tokens, np.float32)
    numba_kernels.attend(query, key, value, out=found, scores=scores, kept=kept)
    kernels.attend(query, key, value, out=wanted, scores=scores, kept=shares)
    np.testing.assert_allclose(kept, shares, atol=ROUNDING)
    np.testing.assert_allclose(found, wanted, atol=3 * ROUNDING)


def test_attention_passes_nan_on_to_its_own_head_and_query_only(rng: np.random.Generator) -> None:
    query, key, value = (normal(rng, 2, 7, 5) for _ in range(3))
    query[1, 3, 2] = math.nan
    found, scores = np.empty((2, 7, 5), np.float32), np.empty(1 << 17, np.float32)
    numba_kernels.attend(query, key, value, out=found, scores=scores)
    missing = np.zeros((2, 7), bool)
    missing[1, 3] = True
    np.testing.assert_array_equal(np.isnan(found).all(axis=2), missing)
    np.testing.assert_array_equal(np.isnan(found).any(axis=2), missing)


def test_several_threads_get_what_one_gets(rng: np.random.Generator) -> None:
    hidden, bias = normal(rng, 101, 769), normal(rng, 769)
    scratch = np.empty(0, np.float32)
    numba_kernels.bias_gelu(wanted := hidden.copy(), bias, scratch=scratch)

    def once(_: int) -> Array:
        own = hidden.copy()
        numba_kernels.bias_gelu(own, bias, scratch=scratch)
        return own

    with ThreadPoolExecutor(4) as pool:
        for found in pool.map(once, range(16)):
            np.testing.assert_array_equal(found, wanted)
