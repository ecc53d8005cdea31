"""GELU (exact and its two approximations), SiLU and softmax, each in the dtype of its input."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating]

# p of benchmarks/fit_gelu.py, constant first. tanh-GELU is the same formula with p cut after two coefficients,
# (sqrt(2 / pi), 0.044715 sqrt(2 / pi)), and an error of 5e-4; this one is as exact as float32 is.
GELU_COEFFICIENTS = (
    7.978842161e-01,
    3.633428353e-02,
    -3.313000585e-05,
    -5.524015486e-05,
    3.969108969e-06,
    -1.334463794e-07,
    1.805615748e-09,
)

QUICK_GELU_SLOPE = 1.702  # openai/CLIP, clip/model.py
GELU_TANH_CUBIC = 0.044715  # Hendrycks and Gimpel, 2016, section 2

_exact_erf = np.frompyfunc(math.erf, 1, 1)


def gelu(x: Array, *, out: Array | None = None, scratch: Array | None = None, doubled: bool = False) -> Array:
    """Return x Φ(x), where Φ is the normal distribution function: the exact GELU, not its tanh approximation.

    In float32, Φ(x) = (1 + tanh(x p(x²))) / 2 with a polynomial p fitted to 7e-8: eighteen passes that NumPy
    vectorises, with half the largest error of PyTorch's float32 GELU (5.5e-7, at x = 5). In float64, which is for
    tests, Φ comes from ``math.erf``.

    Parameters
    ----------
    x
        Any shape.
    out
        Where the result goes; may be ``x``.
    scratch
        Working space of shape (2, *x.shape) and x's dtype, overwritten.
    doubled
        Return 2 x Φ(x), which saves a pass where the half can go into the next layer's weights.

    Returns
    -------
    x's shape and dtype
    """
    if x.dtype != np.float32:
        erf = _exact_erf(x * math.sqrt(0.5)).astype(x.dtype)
        exact: Array = np.multiply(x if doubled else x * 0.5, erf + 1, out=out)
        return exact
    square, polynomial = (np.empty_like(x), np.empty_like(x)) if scratch is None else (scratch[0], scratch[1])
    with np.errstate(over="ignore"):  # |x| > 500: p(x²) becomes infinite, its tanh 1
        np.multiply(x, x, out=square)
        np.multiply(square, _COEFFICIENTS_F32[-1], out=polynomial)
        for coefficient in _COEFFICIENTS_F32[-2:0:-1]:
            polynomial += coefficient
            polynomial *= square
        polynomial += _COEFFICIENTS_F32[0]
        polynomial *= x
    np.tanh(polynomial, out=polynomial)
    polynomial += _ONE
    if not doubled:
        polynomial *= _HALF
    return np.multiply(polynomial, x, out=polynomial if out is None else out)


def gelu_tanh(x: Array, *, out: Array | None = None, scratch: Array | None = None, doubled: bool = False) -> Array:
    """Return x (1 + tanh(√(2/π) (x + 0.044715 x³))) / 2, the approximation of GELU that SigLIP was trained with.

    Parameters as of :func:`gelu`; the same formula in float32 and float64.
    """
    kind = x.dtype.type
    inner = np.empty_like(x) if scratch is None else scratch[0]
    with np.errstate(over="ignore"):  # a cube of more than 1e38 becomes infinite, its tanh 1
        np.multiply(x, x, out=inner)
        inner *= kind(GELU_TANH_CUBIC * math.sqrt(2 / math.pi))
        inner += kind(math.sqrt(2 / math.pi))
        inner *= x
    return _half_one_plus_tanh(x, inner, out=out, doubled=doubled)


def quick_gelu(x: Array, *, out: Array | None = None, scratch: Array | None = None, doubled: bool = False) -> Array:
    """Return x / (1 + exp(-1.702 x)), the approximation of GELU that OpenAI's CLIP was trained with.

    Parameters as of :func:`gelu`; the same formula in float32 and float64.
    """
    inner = np.multiply(x, x.dtype.type(QUICK_GELU_SLOPE / 2), out=None if scratch is None else scratch[0])
    return _half_one_plus_tanh(x, inner, out=out, doubled=doubled)


def _half_one_plus_tanh(x: Array, inner: Array, *, out: Array | None, doubled: bool) -> Array:
    """Return x (1 + tanh(inner)) / 2; overwrites ``inner``."""
    np.tanh(inner, out=inner)
    inner += x.dtype.type(1)
    if not doubled:
        inner *= x.dtype.type(0.5)
    return np.multiply(inner, x, out=inner if out is None else out)


def silu(x: Array, *, out: Array | None = None) -> Array:
    """Return x / (1 + exp(-x)), computed as x (1 + tanh(x / 2)) / 2, which cannot overflow.

    ``out`` must not be ``x``.
    """
    half = x.dtype.type(0.5)
    result = np.multiply(x, half, out=out)
    np.tanh(result, out=result)
    result += x.dtype.type(1)
    result *= half
    result *= x
    return result


def softmax(x: Array, *, out: Array | None = None) -> Array:
    """Return exp(x) over its sum along the last axis; the maximum is taken off first, so that nothing overflows.

    ``out`` may be ``x``.
    """
    result: Array = np.subtract(x, x.max(axis=-1, keepdims=True), out=out)
    np.exp(result, out=result)
    result /= result.sum(axis=-1, keepdims=True)
    return result


_COEFFICIENTS_F32 = tuple(np.float32(value) for value in GELU_COEFFICIENTS)
_ONE, _HALF = np.float32(1), np.float32(0.5)
