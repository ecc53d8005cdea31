"""Element-wise steps of the engine, a few rows at a time, so that what one step writes the next finds in the cache.

Everything here writes into arrays that the caller hands over.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from vitseek.nn.activations import gelu, gelu_tanh
from vitseek.nn.attention import score_blocks

Array = NDArray[np.floating]
Exponentials = Callable[[Array], Array | None]


class Activation(Protocol):
    """A function of :data:`ACTIVATIONS`."""

    def __call__(self, hidden: Array, bias: Array, *, scratch: Array) -> None: ...


# Numbers in one block of rows: 512 KiB in float32. Smaller ones stay nearer to the core, and cost more calls, at each
# of which two threads may meet at the interpreter's lock.
BLOCK_NUMBERS = 1 << 17
# Sums of exp(score) that tell that no score was too large or too small for float32; each is far from its limits, since
# values are still multiplied to the terms, and terms of e^-24 of the largest still count.
LEAST_SUM, LARGEST_SUM = 1e-24, 1e30


class Kernels(Protocol):
    """What a pass needs of this module, or of :class:`vitseek.engines.numba_kernels.CompiledKernels` in its place."""

    @property
    def ACTIVATIONS(self) -> Mapping[str, Activation]: ...

    def multiply(self, x: Array, weight: Array, *, out: Array) -> None: ...

    def normalise(self, x: Array, *, eps: float, out: Array, centre: bool = True) -> None: ...

    def add_branch(self, x: Array, branch: Array, bias: Array) -> None: ...

    def add_bias(self, x: Array, bias: Array) -> None: ...

    def bias_swiglu(self, both: Array, bias: Array, *, out: Array) -> None: ...

    def rotate(self, heads: NDArray[np.complexfloating], rotation: NDArray[np.complexfloating]) -> None: ...

    def attend(
        self,
        query: Array,
        key: Array,
        value: Array,
        *,
        out: Array,
        scores: Array,
        kept: Array | None = None,
        bias: Array | None = None,
    ) -> None: ...


def blocks_of(rows: int, columns: int) -> Iterator[slice]:
    """Cut ``rows`` so that each block has about :data:`BLOCK_NUMBERS` numbers (one row at least)."""
    step = max(1, BLOCK_NUMBERS // columns)
    for start in range(0, rows, step):
        yield slice(start, min(start + step, rows))


def multiply(x: Array, weight: Array, *, out: Array) -> None:
    """Write ``x @ weight`` to ``out``; shapes (rows, in), (in, columns), (rows, columns)."""
    np.matmul(x, weight, out=out)


def normalise(x: Array, *, eps: float, out: Array, centre: bool = True) -> None:
    """Write each row of ``x``, shape (rows, D), with mean 0 and variance 1 to ``out``, which may be ``x``.

    Without ``centre`` the mean stays, and the mean square becomes 1 (RMSNorm).
    """
    width = x.shape[1]
    small = x.dtype.type(eps)
    shares = np.full(width, 1 / width, dtype=x.dtype)
    for rows in blocks_of(*x.shape):
        block, result = x[rows], out[rows]
        if centre:  # the mean as a matrix product takes a third of the time of mean()
            block = np.subtract(block, np.matmul(block, shares)[:, None], out=result)
        spread = np.vecdot(block, block)[:, None]  # (rows, 1)
        spread *= shares[0]
        spread += small
        np.sqrt(spread, out=spread)
        np.reciprocal(spread, out=spread)
        np.multiply(block, spread, out=result)


def add_branch(x: Array, branch: Array, bias: Array) -> None:
    """Add ``branch + bias`` to ``x`` in place; shapes (rows, D), (rows, D), (D,). Overwrites ``branch``."""
    for rows in blocks_of(*x.shape):
        block = branch[rows]
        block += bias
        x[rows] += block


def add_bias(x: Array, bias: Array) -> None:
    """Add a bias to the first columns of every row of ``x`` in place, as many as it has numbers."""
    for rows in blocks_of(len(x), len(bias)):
        x[rows, : len(bias)] += bias


def bias_gelu(hidden: Array, bias: Array, *, scratch: Array) -> None:
    """Replace ``hidden``, shape (rows, F), by 2 GELU(hidden + bias)."""
    for rows in blocks_of(*hidden.shape):
        block = hidden[rows]
        block += bias
        space = scratch[: 2 * block.size].reshape(2, *block.shape)
        gelu(block, out=block, scratch=space, doubled=True)


def bias_gelu_tanh(hidden: Array, bias: Array, *, scratch: Array) -> None:
    """Replace ``hidden``, shape (rows, F), by 2 tanh-GELU(hidden + bias)."""
    for rows in blocks_of(*hidden.shape):
        block = hidden[rows]
        block += bias
        gelu_tanh(block, out=block, scratch=scratch[: block.size].reshape(1, *block.shape), doubled=True)


def bias_quick_gelu(hidden: Array, bias: Array, *, scratch: Array) -> None:
    """Replace ``hidden``, shape (rows, F), by h (1 + tanh h) with h = hidden + bias: quick GELU, its slope folded."""
    one = hidden.dtype.type(1)
    for rows in blocks_of(*hidden.shape):
        block = hidden[rows]
        block += bias
        inner = np.tanh(block, out=scratch[: block.size].reshape(block.shape))
        inner += one
        block *= inner


ACTIVATIONS: Mapping[str, Activation] = {"gelu": bias_gelu, "gelu-tanh": bias_gelu_tanh, "quick-gelu": bias_quick_gelu}


def bias_swiglu(both: Array, bias: Array, *, out: Array) -> None:
    """Write SiLU(gate) * value to ``out``, shape (rows, F), for ``both + bias`` = (gate / 2, value), (rows, 2 F)."""
    half = out.shape[1]
    one = out.dtype.type(1)
    for rows in blocks_of(*both.shape):
        block, result = both[rows], out[rows]
        block += bias
        gate, value = block[:, :half], block[:, half:]
        np.tanh(gate, out=result)
        result += one
        result *= gate
        result *= value


def rotate(heads: NDArray[np.complexfloating], rotation: NDArray[np.complexfloating]) -> None:
    """Turn pairs of channels in place.

    Parameters
    ----------
    heads : shape (rows, heads, d / 2)
        Queries or keys, the two channels of a pair as one complex number.
    rotation : shape (rows, d / 2)
        exp(i angle).
    """
    for rows in blocks_of(heads.shape[0], heads.shape[1] * heads.shape[2] * 2):
        heads[rows] *= rotation[rows, None]


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
    """Write softmax(Q Kᵀ) V of all heads of one image to ``out``; the query is scaled already.

    Parameters
    ----------
    query, out : shape (H, M, d)
    key, value : shape (H, N, d)
    scores
        Working space, at least SCORES_LIMIT numbers, or N if that is more.
    kept : shape (H, M, N)
        Where to write the attention weights, if they are wanted.
    bias : shape (N,)
        What is added to all scores of a key.
    """
    attend_with(exponentials, query, key, value, out=out, scores=scores, kept=kept, bias=bias)


def attend_with(
    exponentials: Exponentials,
    query: Array,
    key: Array,
    value: Array,
    *,
    out: Array,
    scores: Array,
    kept: Array | None,
    bias: Array | None,
) -> None:
    """Do :func:`attend` with another way to make exponentials and their sums."""
    tokens = key.shape[1]
    for heads, rows in score_blocks(len(key), query.shape[1], tokens):
        shape = heads.stop - heads.start, rows.stop - rows.start, tokens
        block = scores[: math.prod(shape)].reshape(shape)
        asked, seen = query[heads, rows], key[heads].transpose(0, 2, 1)
        np.matmul(asked, seen, out=block)
        flat = block.reshape(-1, tokens)
        if bias is not None:
            flat += bias
        total = exponentials(flat)
        if total is None:  # some score is out of the ordinary: once more, with the usual precaution
            np.matmul(asked, seen, out=block)
            if bias is not None:
                flat += bias
            flat -= flat.max(axis=1, keepdims=True)
            np.exp(flat, out=flat)
            total = np.matmul(flat, np.ones(tokens, dtype=flat.dtype))
        result = out[heads, rows]
        np.matmul(block, value[heads], out=result)
        result *= np.reciprocal(total).reshape(*shape[:2], 1)
        if kept is not None:
            np.divide(block, total.reshape(*shape[:2], 1), out=kept[heads, rows])


def exponentials(block: Array) -> Array | None:
    """Replace scores, shape (M, N), by their exponentials and return each row's sum, shape (M,).

    The maximum is not taken off first: that would be two more passes against a danger that trained models do not
    meet, scores beyond ±50. ``None`` if they do; the block is of no use then.
    """
    with np.errstate(over="ignore", invalid="ignore"):  # infinite sums, and NaN where the scores hold it
        np.exp(block, out=block)
        total: Array = np.matmul(block, np.ones(block.shape[1], dtype=block.dtype))
    return total if total.min() > LEAST_SUM and total.max() < LARGEST_SUM else None
