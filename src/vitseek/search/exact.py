"""Exact search: the k rows of a matrix with the largest cosine to a query.

One pass over the float32 matrix finds everything that could be among the best k, with the rounding
error of that pass as margin; those few rows are scored again in float64. So a pair of vectors has
one score, whatever else is in the matrix, however many queries come at once and wherever the blocks
end, and equal vectors tie exactly. This is the oracle that every faster index is measured against.
"""

import operator
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vitseek.errors import ShapeError, UsageError

Floats = NDArray[np.floating]
Rows = NDArray[np.int64]

# Sizes measured with `python -m benchmarks.search_latency --sweep` on 2 cores of an AMD EPYC with 32 MiB of L3.
CHUNK_SCORES = 1 << 20  # scores held at once: 4 MiB, whatever the matrix and the number of queries
TILE_BYTES = 1 << 20  # of the matrix: stays in cache while every query passes over it
FEW_QUERIES = 16  # up to here one dot product a row beats sgemm, which first copies the matrix into its own layout
GATHER_BELOW = 1 / 8  # share of wanted rows in a stretch: below it copying them is cheaper than scoring all
RESCORED_ROWS = 8192  # candidates turned into float64 at once

_ROUNDING = 2.0**-24  # unit roundoff of float32
_UNIT_SLACK = 1e-5  # a float32 unit vector's cosine with itself may pass 1 by this much; it is cut to 1


def top_k(matrix: Floats, queries: Floats, k: int, *, rows: NDArray[np.integer] | None = None) -> tuple[Floats, Rows]:
    """Find the ``k`` best rows for each query, best first.

    Parameters
    ----------
    matrix : shape (n, D), float32
        Rows of length one; may be memory-mapped, is read in order and never copied as a whole.
    queries : shape (q, D)
        Rows of length one.
    k
        At least 1. With fewer usable rows than ``k``, all of them come back.
    rows : shape (m,), integers, optional
        Search these rows only (a filter). Any order; a repeated row counts once.

    Returns
    -------
    scores : shape (q, min(k, usable rows)), float32
        Cosines, descending.
    rows : same shape, int64
        Row numbers of ``matrix``. Equal scores are ordered by row, also where the list is cut off at ``k``.

    A row that holds NaN or infinity has no cosine and is never returned.

    Raises
    ------
    ShapeError
        If the widths differ or a row number lies outside the matrix.
    UsageError
        If ``k`` is below 1, or a query holds NaN or infinity.
    """
    queries = check_queries(matrix, queries)
    k = operator.index(k)
    if k < 1:
        raise UsageError(f"k is the number of matches and must be at least 1, but it is {k}")
    wanted = None if rows is None else _sorted_rows(rows, len(matrix))

    found = [_Candidates(np.empty(0, np.int64), np.empty(0, np.float32), -np.inf)] * len(queries)
    margin = largest_error(queries.shape[1])
    with np.errstate(invalid="ignore", over="ignore"):  # rows with NaN or infinity are dropped below
        for chunk in _chunks(len(matrix), wanted, max(1, CHUNK_SCORES // max(1, len(queries)))):
            scores = _scores(matrix, queries, chunk)
            numbers = np.arange(chunk.start, chunk.stop) if isinstance(chunk, slice) else chunk
            for i, row_scores in enumerate(scores):
                found[i] = found[i].joined(numbers, row_scores, k, margin)
        ranked = [_rank(matrix, query, held.rows, k) for query, held in zip(queries, found, strict=True)]

    length = min((len(numbers) for _, numbers in ranked), default=0)
    best_scores = np.array([scores[:length] for scores, _ in ranked], np.float32).reshape(len(queries), length)
    best_rows = np.array([numbers[:length] for _, numbers in ranked], np.int64).reshape(len(queries), length)
    return best_scores, best_rows


def check_queries(matrix: Floats, queries: Floats) -> NDArray[np.float32]:
    """The queries as contiguous float32; ShapeError or UsageError if they do not go with the matrix."""
    if matrix.ndim != 2 or queries.ndim != 2 or matrix.shape[1] != queries.shape[1]:
        raise ShapeError(
            f"search wants a matrix (n, D) and queries (q, D) of the same width, "
            f"but the matrix is {matrix.shape} and the queries are {queries.shape}"
        )
    broken = np.flatnonzero(~np.isfinite(queries).all(axis=1))
    if len(broken):
        raise UsageError(
            f"query {broken[0]} holds NaN or infinity, so it has no cosine with anything: "
            f"the features of this image are broken (check the model with `vitseek verify`)"
        )
    return np.ascontiguousarray(queries, np.float32)


def _sorted_rows(rows: NDArray[np.integer], count: int) -> Rows:
    rows = np.asarray(rows)
    if rows.ndim != 1 or (rows.size and rows.dtype.kind not in "iu"):
        raise ShapeError(f"rows must be a one-dimensional array of integers, but it is {rows.dtype} {rows.shape}")
    numbers: Rows = rows.astype(np.int64, copy=False)
    if not (numbers[1:] > numbers[:-1]).all():
        numbers = np.unique(numbers)
    if numbers.size and (numbers[0] < 0 or numbers[-1] >= count):
        outside = numbers[0] if numbers[0] < 0 else numbers[-1]
        raise ShapeError(f"row {outside} lies outside the matrix, which has rows 0 to {count - 1}")
    return numbers


def largest_error(width: int) -> float:
    """How far below the k-th float32 score a true member of the best k can lie.

    Source: Higham, Accuracy and Stability of Numerical Algorithms, 2nd ed., (3.5): whatever the order of the sum,
    a dot product of unit vectors is off by at most γ = D·u / (1 − D·u). Two scores can err towards each other;
    two more roundings cover the vectors' own, and 1 % their lengths.
    """
    terms = (width + 2) * _ROUNDING
    return 2 * 1.01 * terms / (1 - terms)


def _chunks(count: int, wanted: Rows | None, size: int) -> Iterator[slice | Rows]:
    if wanted is None:
        for start in range(0, count, size):
            yield slice(start, min(start + size, count))
    else:
        for start in range(0, len(wanted), size):
            yield wanted[start : start + size]


def _scores(matrix: Floats, queries: NDArray[np.float32], chunk: slice | Rows) -> NDArray[np.float32]:
    """Approximate scores (q, rows of the chunk), tile by tile."""
    count = chunk.stop - chunk.start if isinstance(chunk, slice) else len(chunk)
    scores = np.empty((len(queries), count), np.float32)
    tile_rows = _tile_rows(len(queries), matrix.shape[1], gathers=not isinstance(chunk, slice))
    for start in range(0, count, tile_rows):
        stop = min(start + tile_rows, count)
        if isinstance(chunk, slice):
            tile = np.asarray(matrix[chunk.start + start : chunk.start + stop], np.float32)
            _products(tile, queries, scores[:, start:stop])
            continue
        tile, picked = _stretch(matrix, chunk[start:stop])
        if picked is None:
            _products(np.asarray(tile, np.float32), queries, scores[:, start:stop])
        else:
            products = np.empty((len(queries), len(tile)), np.float32)
            _products(np.asarray(tile, np.float32), queries, products)
            scores[:, start:stop] = products[:, picked]
    return scores


def _tile_rows(num_queries: int, width: int, *, gathers: bool) -> int:
    if not gathers and (num_queries == 1 or num_queries > FEW_QUERIES):
        return CHUNK_SCORES  # one query passes once, and sgemm has blocks of its own
    return max(64, TILE_BYTES // max(1, 4 * width))


def _stretch(matrix: Floats, rows: Rows) -> tuple[Floats, Rows | None]:
    """The wanted rows copied, or, where they lie close, the stretch they lie in and their places in it."""
    first, last = int(rows[0]), int(rows[-1])
    if len(rows) < GATHER_BELOW * (last - first + 1):
        return matrix[rows], None
    return matrix[first : last + 1], rows - first


def _products(tile: NDArray[np.float32], queries: NDArray[np.float32], out: NDArray[np.float32]) -> None:
    # vecdot reads the matrix once, row after row; sgemv and sgemm were 2 to 4 times slower for few queries, and
    # their threads wait for each other when the machine is busy.
    if len(queries) <= FEW_QUERIES:
        for query, row in zip(queries, out, strict=True):
            np.vecdot(tile, query, out=row)
    else:
        np.matmul(queries, tile.T, out=out)


class _Candidates(NamedTuple):
    """Rows that may be among the best k of one query, and the score below which no other row can be."""

    rows: Rows
    scores: NDArray[np.float32]
    floor: float

    def joined(self, rows: Rows, scores: NDArray[np.float32], k: int, margin: float) -> "_Candidates":
        """The candidates after another chunk."""
        if self.floor > -np.inf:
            near = np.flatnonzero(scores >= self.floor)
            rows, scores = rows[near], scores[near]
        finite = np.isfinite(scores)
        if not finite.all():
            rows, scores = rows[finite], scores[finite]
        if len(self.rows):
            rows, scores = np.concatenate([self.rows, rows]), np.concatenate([self.scores, scores])
        if len(scores) <= k:
            return _Candidates(rows, scores, -np.inf)
        floor = float(np.partition(scores, len(scores) - k)[len(scores) - k]) - margin
        near = np.flatnonzero(scores >= floor)
        return _Candidates(rows[near], scores[near], floor)


def _rank(matrix: Floats, query: NDArray[np.float32], rows: Rows, k: int) -> tuple[NDArray[np.float32], Rows]:
    """Score candidates in float64, where every product of two float32 values is exact, and sort them."""
    exact = np.empty(len(rows), np.float32)
    for start in range(0, len(rows), RESCORED_ROWS):
        part = rows[start : start + RESCORED_ROWS]
        values = np.asarray(matrix[part], np.float32).astype(np.float64)
        exact[start : start + RESCORED_ROWS] = np.vecdot(values, query.astype(np.float64))
    exact[(exact > 1) & (exact <= 1 + _UNIT_SLACK)] = 1
    exact[(exact < -1) & (exact >= -1 - _UNIT_SLACK)] = -1
    order = np.lexsort((rows, -exact))[:k]
    return exact[order], rows[order]
