"""The element-wise steps of :mod:`vitseek.engines.kernels`, each as one loop that Numba compiles for this processor.

NumPy goes through a block of numbers once for every operation; here a number is loaded once, everything is done to it,
and it is stored. Functions take and give what those of the same name there do; float32 only, and rows that lie one
after the other. They hold no lock while they compute, so that threads do not wait for each other.

How a loop becomes vector instructions. LLVM has no vector ``exp``, so :func:`_exp2` is written out: rounding, a
polynomial and two powers of two, without a branch. Of the fast-math permissions, ``contract`` (a * b + c in one
rounding) is given to all, and ``reassoc`` (sums in any order) only to those that sum: none allows LLVM to assume that
there is no NaN or infinity. Clamps are written so that NaN passes. Division is that of IEEE, without Python's check
for zero, which would be a branch (``error_model="numpy"``).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic
from numpy.typing import NDArray

from vitseek.engines import kernels, numba_products
from vitseek.engines.compiled import compiled
from vitseek.engines.kernels import LARGEST_SUM, LEAST_SUM, Activation
from vitseek.nn.activations import GELU_COEFFICIENTS, GELU_TANH_CUBIC

Array = NDArray[np.floating]

# e^r for |r| <= ln(2) / 2, constant first: interpolated at Chebyshev's points, relative error 2.6e-9 before rounding.
EXP_COEFFICIENTS = (
    1.000000000e00, 1.000000038e00, 5.000000047e-01, 1.666641551e-01, 4.166635290e-02, 8.375126398e-03, 1.394110847e-03,
)  # fmt: skip
# ln 2 in two parts, the first so short that its product with any exponent is exact (Cody and Waite, 1980).
LN_2_HIGH, LN_2_LOW = 0.693145751953125, 1.42860682030941723e-6
ROUNDER = 12582912.0  # 1.5 * 2^23: added to a float32, it leaves the nearest whole number in the last bits
ROUNDER_BITS = 0x4B400000
EXPONENT_BIAS, MANTISSA_BITS = 127, 23
LEAST_EXPONENT, LARGEST_EXPONENT = -110.0, 90.0  # e^x is 0 below and infinite above, in float32


_exact = compiled("contract")
_summing = compiled("contract", "reassoc")


def _split_power(context: Any, shifted: Any) -> Any:
    """Two numbers whose product is 2^n, for ``shifted`` = ROUNDER + n; one alone reaches neither infinity nor zero."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        whole = ir.IntType(32)
        exponent = builder.sub(builder.bitcast(arguments[0], whole), whole(ROUNDER_BITS))
        half = builder.ashr(exponent, whole(1))
        numbers = [
            builder.bitcast(builder.shl(builder.add(part, whole(EXPONENT_BIAS)), whole(MANTISSA_BITS)), ir.FloatType())
            for part in (half, builder.sub(exponent, half))
        ]
        return context.make_tuple(builder, signature.return_type, numbers)

    return types.UniTuple(types.float32, 2)(types.float32), generate


_powers_of_two = intrinsic(_split_power)

_LOG2_E, _LN_2_HIGH, _LN_2_LOW = np.float32(math.log2(math.e)), np.float32(LN_2_HIGH), np.float32(LN_2_LOW)
_LEAST, _LARGEST, _ROUNDER = np.float32(LEAST_EXPONENT), np.float32(LARGEST_EXPONENT), np.float32(ROUNDER)
_E0, _E1, _E2, _E3, _E4, _E5, _E6 = (np.float32(value) for value in EXP_COEFFICIENTS)
_ZERO, _ONE, _TWO = np.float32(0), np.float32(1), np.float32(2)


@_exact
def _exp(x):  # type: ignore[no-untyped-def]
    x = _LARGEST if x > _LARGEST else x  # a NaN is not larger, and stays
    x = _LEAST if x < _LEAST else x
    shifted = x * _LOG2_E + _ROUNDER
    count = shifted - _ROUNDER
    rest = x - count * _LN_2_HIGH
    rest = rest - count * _LN_2_LOW
    power = _E6 * rest + _E5
    power = power * rest + _E4
    power = power * rest + _E3
    power = power * rest + _E2
    power = power * rest + _E1
    power = power * rest + _E0
    first, second = _powers_of_two(shifted)
    return power * first * second


# h (1 + tanh u) = h (2 / (1 + exp(-2 u))), in this order for the sake of huge h. The -2 is in the coefficients of the
# polynomials that give u.
_G0, _G1, _G2, _G3, _G4, _G5, _G6 = (np.float32(-2 * value) for value in GELU_COEFFICIENTS)
_T0, _T1 = np.float32(-2 * math.sqrt(2 / math.pi)), np.float32(-2 * math.sqrt(2 / math.pi) * GELU_TANH_CUBIC)


@_exact
def _gelu_rows(hidden, bias):  # type: ignore[no-untyped-def]
    for row in range(hidden.shape[0]):
        for column in range(hidden.shape[1]):
            x = hidden[row, column] + bias[column]
            square = x * x
            inner = _G6 * square + _G5
            inner = inner * square + _G4
            inner = inner * square + _G3
            inner = inner * square + _G2
            inner = inner * square + _G1
            inner = inner * square + _G0
            hidden[row, column] = x * (_TWO / (_ONE + _exp(inner * x)))


@_exact
def _gelu_tanh_rows(hidden, bias):  # type: ignore[no-untyped-def]
    for row in range(hidden.shape[0]):
        for column in range(hidden.shape[1]):
            x = hidden[row, column] + bias[column]
            hidden[row, column] = x * (_TWO / (_ONE + _exp((_T1 * (x * x) + _T0) * x)))


@_exact
def _quick_gelu_rows(hidden, bias):  # type: ignore[no-untyped-def]
    for row in range(hidden.shape[0]):
        for column in range(hidden.shape[1]):
            x = hidden[row, column] + bias[column]
            hidden[row, column] = x * (_TWO / (_ONE + _exp(-_TWO * x)))


@_exact
def _swiglu_rows(both, bias, out):  # type: ignore[no-untyped-def]
    half = out.shape[1]
    for row in range(out.shape[0]):
        for column in range(half):
            gate = both[row, column] + bias[column]
            value = both[row, half + column] + bias[half + column]
            out[row, column] = gate * (_TWO / (_ONE + _exp(-_TWO * gate))) * value


@_summing
def _normalise_rows(x, eps, centre, out):  # type: ignore[no-untyped-def]
    width = x.shape[1]
    share = _ONE / np.float32(width)
    for row in range(x.shape[0]):
        mean = _ZERO
        if centre:
            total = _ZERO
            for column in range(width):
                total += x[row, column]
            mean = total * share
        spread = _ZERO
        for column in range(width):
            apart = x[row, column] - mean
            spread += apart * apart
        gain = _ONE / np.sqrt(spread * share + eps)
        for column in range(width):
            out[row, column] = (x[row, column] - mean) * gain


@_exact
def _add_branch_rows(x, branch, bias):  # type: ignore[no-untyped-def]
    for row in range(x.shape[0]):
        for column in range(x.shape[1]):
            x[row, column] += branch[row, column] + bias[column]


@_exact
def _add_bias_rows(x, bias):  # type: ignore[no-untyped-def]
    for row in range(x.shape[0]):
        for column in range(bias.shape[0]):
            x[row, column] += bias[column]


@_summing
def _exponentials_rows(block, total):  # type: ignore[no-untyped-def]
    ordinary = True
    for row in range(block.shape[0]):
        own = _ZERO
        for column in range(block.shape[1]):
            power = _exp(block[row, column])
            block[row, column] = power
            own += power
        total[row] = own
        if not (own > LEAST_SUM and own < LARGEST_SUM):  # a NaN is neither
            ordinary = False
    return ordinary


def normalise(x: Array, *, eps: float, out: Array, centre: bool = True) -> None:
    """See :func:`vitseek.engines.kernels.normalise`."""
    _normalise_rows(x, np.float32(eps), centre, out)


def add_branch(x: Array, branch: Array, bias: Array) -> None:
    """See :func:`vitseek.engines.kernels.add_branch`; ``branch`` stays as it is."""
    _add_branch_rows(x, branch, bias)


def add_bias(x: Array, bias: Array) -> None:
    """See :func:`vitseek.engines.kernels.add_bias`."""
    _add_bias_rows(x, bias)


def bias_gelu(hidden: Array, bias: Array, *, scratch: Array) -> None:
    """See :func:`vitseek.engines.kernels.bias_gelu`; ``scratch`` is not used."""
    _gelu_rows(hidden, bias)


def bias_gelu_tanh(hidden: Array, bias: Array, *, scratch: Array) -> None:
    """See :func:`vitseek.engines.kernels.bias_gelu_tanh`; ``scratch`` is not used."""
    _gelu_tanh_rows(hidden, bias)


def bias_quick_gelu(hidden: Array, bias: Array, *, scratch: Array) -> None:
    """See :func:`vitseek.engines.kernels.bias_quick_gelu`; ``scratch`` is not used."""
    _quick_gelu_rows(hidden, bias)


ACTIVATIONS: Mapping[str, Activation] = {
    "gelu": bias_gelu,
    "gelu-tanh": bias_gelu_tanh,
    "quick-gelu": bias_quick_gelu,
}


def bias_swiglu(both: Array, bias: Array, *, out: Array) -> None:
    """See :func:`vitseek.engines.kernels.bias_swiglu`; ``both`` stays as it is."""
    _swiglu_rows(both, bias, out)


rotate = kernels.rotate  # complex products are one pass in NumPy too


def exponentials(block: Array) -> Array | None:
    """See :func:`vitseek.engines.kernels.exponentials`."""
    total = np.empty(len(block), dtype=block.dtype)
    return total if _exponentials_rows(block, total) else None


def attend(
    query: Array,
    key: Array,
    value: Array,
    *,
    out: Array,
    scores: Array,
    kept: Array | None = None,
    bias: Array | None = None,
) -> None:
    """See :func:`vitseek.engines.kernels.attend`."""
    kernels.attend_with(exponentials, query, key, value, out=out, scores=scores, kept=kept, bias=bias)


class CompiledKernels:
    """The steps of this module, and products with the weights of one model.

    Parameters
    ----------
    weights
        The weights that are multiplied with, to be packed where that is worthwhile, in ``threads`` threads. The copies
        are as large as they are.
    """

    ACTIVATIONS = ACTIVATIONS
    normalise = staticmethod(normalise)
    add_branch = staticmethod(add_branch)
    add_bias = staticmethod(add_bias)
    bias_swiglu = staticmethod(bias_swiglu)
    rotate = staticmethod(rotate)
    attend = staticmethod(attend)

    def __init__(self, weights: Sequence[Array], *, threads: int = 1) -> None:
        self._weights = weights if numba_products.worthwhile() else ()  # held, so that no other array gets their ids
        with ThreadPoolExecutor(threads, thread_name_prefix="vitseek-pack") as pool:
            packed = pool.map(numba_products.pack, self._weights)
            self._packed = {id(weight): panels for weight, panels in zip(self._weights, packed, strict=True)}

    def multiply(self, x: Array, weight: Array, *, out: Array) -> None:
        """See :func:`vitseek.engines.kernels.multiply`."""
        panels = self._packed.get(id(weight))
        if panels is None or x.strides[1] != x.itemsize or out.strides[1] != out.itemsize:
            np.matmul(x, weight, out=out)
        else:
            numba_products.multiply(x, panels, out=out)
