"""Multi-head self-attention in bounded memory.

The score matrix of one head of one image has N² numbers: 7.5 MB at 518 px (1,370 tokens, float32). All heads of a batch
of eight would be 720 MB, so scores are made a few query rows of one head at a time, and used up at once.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from vitseek.nn.activations import softmax

Array = NDArray[np.floating]

SCORES_LIMIT = 1 << 17  # numbers in one block of scores: 512 KiB in float32, half of a usual level-2 cache


def split_heads(x: Array, num_heads: int) -> Array:
    """Return a view of shape (B, H, N, D / H) on tokens of shape (B, N, D)."""
    batch, tokens, width = x.shape
    return x.reshape(batch, tokens, num_heads, width // num_heads).transpose(0, 2, 1, 3)


def row_blocks(rows: int, columns: int) -> Iterator[slice]:
    """Cut ``rows`` so that each block times ``columns`` stays within :data:`SCORES_LIMIT` (one row at least)."""
    step = max(1, SCORES_LIMIT // columns)
    for start in range(0, rows, step):
        yield slice(start, min(start + step, rows))


def score_blocks(heads: int, rows: int, columns: int) -> Iterator[tuple[slice, slice]]:
    """Cut heads, or where one is too much the rows of each, so that their scores stay within :data:`SCORES_LIMIT`."""
    together = max(1, SCORES_LIMIT // max(1, rows * columns))
    for start in range(0, heads, together):
        for part in row_blocks(rows, columns):
            yield slice(start, min(start + together, heads)), part


def attention_weights(query: Array, key: Array) -> Array:
    """Return softmax(Q Kᵀ / √d), the share that each key gets of each query; rows sum to 1.

    Parameters
    ----------
    query : shape (..., M, d)
    key : shape (..., N, d)

    Returns
    -------
    shape (..., M, N)
    """
    scores = query @ np.swapaxes(key, -1, -2)  # (..., M, N)
    scores *= scores.dtype.type(1 / math.sqrt(query.shape[-1]))
    return softmax(scores, out=scores)


def attention(query: Array, key: Array, value: Array) -> Array:
    """Return softmax(Q Kᵀ / √d) V without holding more than a block of the weights.

    Parameters
    ----------
    query, key, value : shape (B, H, N, d)

    Returns
    -------
    shape (B, N, H * d), the heads side by side
    """
    batch, heads, tokens, width = query.shape
    out = np.empty((batch, tokens, heads, width), dtype=query.dtype)
    for image in range(batch):
        for head in range(heads):
            for rows in row_blocks(tokens, tokens):
                weights = attention_weights(query[image, head, rows], key[image, head])  # (rows, N)
                out[image, rows, head] = weights @ value[image, head]
    return out.reshape(batch, tokens, heads * width)
