"""Activations against the definitions, evaluated by math."""

import math

import numpy as np
import pytest

from vitseek.nn.activations import gelu, gelu_tanh, quick_gelu, silu, softmax

# Values around 0, in both tails, and far beyond where x^13 overflows float32.
POINTS = np.concatenate([np.linspace(-12, 12, 20_011), [-3e38, -1e20, -1e4, -500, 500, 1e4, 1e20, 3e38]])


def exact_gelu(x: float) -> float:
    return x / 2 * math.erfc(-x / math.sqrt(2))


def test_gelu_in_float64_is_exact() -> None:
    wanted = [exact_gelu(x) for x in POINTS.tolist()]
    np.testing.assert_allclose(gelu(POINTS), wanted, rtol=1e-15, atol=3e-16)


def test_gelu_in_float32_is_as_good_as_float32_gets() -> None:
    x = POINTS.astype(np.float32)
    result = gelu(x)
    wanted = np.array([exact_gelu(value) for value in x.tolist()])
    assert result.dtype == np.float32
    error = np.abs(result - wanted)
    assert error[np.abs(x) <= 2].max() < 2.5e-7  # measured: 2.3e-7; tanh-GELU is off by 4.7e-4
    assert error[np.abs(x) <= 12].max() < 6e-7  # measured: 5.5e-7, near 5, where neighbours are 4.8e-7 apart
    np.testing.assert_array_equal(result[x > 12], x[x > 12])
    np.testing.assert_array_equal(result[x < -12], 0)


def exact_gelu_tanh(x: float) -> float:
    return x / 2 * (1 + math.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def exact_quick_gelu(x: float) -> float:
    return x / (1 + math.exp(-1.702 * x)) if x > -400 else 0.0


@pytest.mark.parametrize(("function", "exact"), [(gelu_tanh, exact_gelu_tanh), (quick_gelu, exact_quick_gelu)])
def test_approximations_of_gelu_follow_their_definitions(function, exact) -> None:
    points = POINTS[np.abs(POINTS) < 1e20]  # where the definition itself does not overflow
    wanted = np.array([exact(x) for x in points.tolist()])
    np.testing.assert_allclose(function(points), wanted, rtol=1e-15, atol=2e-15)
    x = points.astype(np.float32)
    result = function(x)
    assert result.dtype == np.float32
    wanted = np.array([exact(value) for value in x.tolist()])
    near = np.abs(x) <= 12
    assert np.abs(result - wanted)[near].max() < 1e-6  # measured: 7.2e-7 and 6.1e-7
    np.testing.assert_array_equal(result[~near], np.maximum(x[~near], 0))


@pytest.mark.parametrize("function", [gelu_tanh, quick_gelu])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_approximations_of_gelu_write_where_they_are_told(function, dtype: type, rng: np.random.Generator) -> None:
    x = rng.standard_normal((7, 13)).astype(dtype)
    before, wanted = x.copy(), function(x.copy())
    out, scratch = np.empty_like(x), np.empty((2, *x.shape), dtype=dtype)
    assert function(x, out=out, scratch=scratch) is out
    np.testing.assert_array_equal(out, wanted)
    np.testing.assert_array_equal(x, before)
    np.testing.assert_allclose(function(x, doubled=True), 2 * wanted, rtol=0, atol=1e-7 if dtype == np.float32 else 0)
    assert function(x, out=x, scratch=scratch) is x
    np.testing.assert_array_equal(x, wanted)


def test_both_approximations_stay_finite_at_the_ends_of_float32() -> None:
    ends = np.array([-3e38, -1e20, 1e20, 3e38], dtype=np.float32)
    for function in (gelu_tanh, quick_gelu):
        np.testing.assert_array_equal(function(ends), np.maximum(ends, 0))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_gelu_writes_where_it_is_told(dtype: type, rng: np.random.Generator) -> None:
    x = rng.standard_normal((7, 13)).astype(dtype)
    wanted = gelu(x.copy())
    out, scratch = np.empty_like(x), np.empty((2, *x.shape), dtype=dtype)
    assert gelu(x, out=out) is out
    np.testing.assert_array_equal(out, wanted)
    np.testing.assert_array_equal(gelu(x, scratch=scratch), wanted)
    np.testing.assert_array_equal(gelu(x, scratch=scratch, doubled=True), 2 * wanted)
    gelu(x, out=x, scratch=scratch)
    np.testing.assert_array_equal(x, wanted)


@pytest.mark.parametrize(("dtype", "bound"), [(np.float32, 1e-6), (np.float64, 1e-15)])
def test_silu_is_x_over_one_plus_exp_minus_x_and_never_overflows(dtype: type, bound: float) -> None:
    x = np.linspace(-30, 30, 2003).astype(dtype)
    wanted = [value / (1 + math.exp(-value)) for value in x.tolist()]
    result = silu(x)
    assert result.dtype == dtype
    np.testing.assert_allclose(result, wanted, rtol=0, atol=30 * bound)
    np.testing.assert_array_equal(silu(np.array([-1e30, 1e30], dtype=dtype)), np.array([0, 1e30], dtype=dtype))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_softmax_rows_sum_to_one_whatever_the_size_of_the_scores(dtype: type, rng: np.random.Generator) -> None:
    x = (rng.standard_normal((3, 5, 7)) * 3).astype(dtype)
    exponentials = [[math.exp(value) for value in row] for row in x.reshape(-1, 7).tolist()]
    wanted = np.array([[value / sum(row) for value in row] for row in exponentials]).reshape(x.shape)
    np.testing.assert_allclose(softmax(x), wanted, rtol=1e-5 if dtype is np.float32 else 1e-14)
    shifted = softmax(x + dtype(5000))
    assert shifted.dtype == dtype
    np.testing.assert_allclose(shifted, wanted, rtol=0, atol=1e-3 if dtype is np.float32 else 1e-11)
    assert softmax(x, out=x) is x
