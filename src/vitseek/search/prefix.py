"""Exact search that reads a fraction of a large matrix: a rotated prefix bounds every score from above.

The rows are rotated so that their first numbers hold most of their length (principal axes of the second moment, no
centring: dot products stay what they are). For a row x with prefix p and rest r, and a query with prefix u and rest s,

    x · q  =  p · u + r · s  ≤  p · u + |r| |s|          (Cauchy-Schwarz)

|r| is stored as one more number of the prefix and |s| as one more of the query, so that one dot product with the short
rows bounds every score. The most promising rows are scored exactly; whatever is bounded by less than the k-th best of
them cannot be among the best k. The few that are left go through :func:`vitseek.search.exact.top_k`: results are the
same, bit for bit, ties included. Where the bound excludes too little (vectors without a short prefix, queries of
another kind than the rows, such as text among images), the exact search reads everything, as if this module were not
there.

Idea: the projection bound of Korn et al., "Fast Nearest Neighbor Search in Medical Image Databases" (1996), with the
length of the rest added.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from vitseek.errors import ShapeError
from vitseek.search.exact import check_queries, largest_error, top_k

Floats = NDArray[np.floating]
Rows = NDArray[np.int64]

WIDTHS = (31, 63, 95, 127, 191)  # one less than a multiple of 32: the length of the rest is the last number
SAMPLED_ROWS = 20_000  # for the principal axes, and for choosing the width
SAMPLED_QUERIES = 32
BUILD_ROWS = 8192  # rotated at once
SEED = 0
# A dot product with a gathered row costs about as much as six rows read in order; measured by
# `python -m benchmarks.search_latency --bounds`.
GATHER_COST = 6.0
WORTHWHILE = 0.7  # of the exact search's cost, as the choice of the width estimates it
LEAVE_TO_EXACT = 1 / 10  # share of rows that the bound leaves: above it, reading all in order is cheaper
FIRST_ROWS = 512  # at least so many rows are scored to learn how good the k-th best is
THRESHOLD_STEP = 61  # every 61st bound is looked at to find out where the best begin; a prime, against patterns
NOT_ENOUGH_TO_GAIN = 2048  # rows of a filter below which the exact search is faster


class RowSource(Protocol):
    """Rows of a matrix (n, D): an array, or what reads them from a file by slices and row numbers."""

    @property
    def shape(self) -> tuple[int, ...]: ...
    def __len__(self) -> int: ...
    def __getitem__(self, wanted: Any, /) -> Any: ...


@dataclass(frozen=True, slots=True, eq=False)
class Prefix:
    """The rotation, and the short rows.

    Parameters
    ----------
    axes : shape (D, p), float32
        Orthonormal columns.
    rows : shape (n, p + 1), float32
        Each row's prefix and the length of its rest; may be memory-mapped.
    """

    axes: NDArray[np.float32]
    rows: NDArray[np.float32]

    def bounds(self, query: NDArray[np.float32]) -> NDArray[np.float32]:
        """What no row's score with ``query`` (D,) exceeds, but for rounding; shape (n,)."""
        front = query @ self.axes  # (p,)
        rest = np.linalg.norm(query - self.axes @ front)
        upper: NDArray[np.float32] = np.vecdot(self.rows, np.append(front, rest).astype(np.float32))
        return upper


def principal_axes(matrix: RowSource) -> NDArray[np.float32]:
    """Axes of the second moment of a sample of the rows, the longest first; shape (D, D), orthonormal columns."""
    sample = _sample(matrix, SAMPLED_ROWS)
    moment = np.zeros((sample.shape[1], sample.shape[1]))
    for start in range(0, len(sample), BUILD_ROWS):
        part = sample[start : start + BUILD_ROWS].astype(np.float64)
        part = part[np.isfinite(part).all(axis=1)]
        moment += part.T @ part
    _, axes = np.linalg.eigh(moment)
    return axes[:, ::-1].astype(np.float32)


def choose_width(matrix: RowSource, axes: NDArray[np.float32], k: int = 10) -> int | None:
    """The prefix that costs least, going by rows of the matrix as queries; None if none is worthwhile.

    The cost of a search is counted in numbers read: the prefix of all rows, and all numbers of those that its bound
    leaves, each :data:`GATHER_COST` times.
    """
    sample = _sample(matrix, SAMPLED_ROWS)
    queries, others = sample[::-1][:SAMPLED_QUERIES], sample[:-SAMPLED_QUERIES]
    if len(others) <= k:
        return None
    dim = matrix.shape[1]
    scores = queries @ others.T  # (queries, rows)
    kth = np.partition(scores, -k, axis=1)[:, -k, None]
    best: tuple[float, int | None] = (WORTHWHILE * dim, None)
    for width in WIDTHS:
        if width >= dim:
            break
        fronts, query_fronts = others @ axes[:, :width], queries @ axes[:, :width]
        bounds = query_fronts @ fronts.T + _rests(queries, query_fronts)[:, None] * _rests(others, fronts)
        left = (bounds >= kth).mean(axis=1)
        read_all = (left > LEAVE_TO_EXACT) * dim
        cost = float(np.mean(width + 1 + np.where(read_all, read_all, GATHER_COST * left * dim)))
        best = min(best, (cost, width), key=lambda pair: pair[0])
    return best[1]


def build(matrix: Floats, axes: NDArray[np.float32], width: int, *, out: NDArray[np.float32] | None = None) -> Prefix:
    """Rotate all rows.

    Parameters
    ----------
    axes
        Of :func:`principal_axes`.
    width
        Of :func:`choose_width`.
    out : shape (n, width + 1), float32
        Where the short rows go; may be memory-mapped.
    """
    front_axes = np.ascontiguousarray(axes[:, :width], np.float32)
    rows = np.empty((len(matrix), width + 1), np.float32) if out is None else out
    if rows.shape != (len(matrix), width + 1):
        raise ShapeError(f"the short rows want the shape {(len(matrix), width + 1)}, but out is {rows.shape}")
    for start in range(0, len(matrix), BUILD_ROWS):
        block = np.asarray(matrix[start : start + BUILD_ROWS], np.float32)
        front = block @ front_axes
        rows[start : start + BUILD_ROWS, :width] = front
        # The rest as it is, not √(1 - |front|²): so that rounding of the rotation is in it.
        rows[start : start + BUILD_ROWS, width] = np.linalg.norm(block - front @ front_axes.T, axis=1)
    return Prefix(front_axes, rows)


def search(
    matrix: Floats, queries: Floats, k: int, prefix: Prefix, *, rows: NDArray[np.integer] | None = None
) -> tuple[Floats, Rows]:
    """Find what :func:`vitseek.search.exact.top_k` finds, with the same arguments and errors, reading less.

    Parameters
    ----------
    prefix
        Built from ``matrix``.
    """
    queries = check_queries(matrix, queries)
    if len(prefix.rows) != len(matrix) or len(prefix.axes) != matrix.shape[1]:
        raise ShapeError(
            f"the prefix was built for {len(prefix.rows)} rows of {len(prefix.axes)} numbers, the matrix is "
            f"{matrix.shape}: build it again"
        )
    if k < 1 or k >= len(matrix) or (rows is not None and len(rows) < NOT_ENOUGH_TO_GAIN):
        return top_k(matrix, queries, k, rows=rows)
    wanted = None
    if rows is not None:
        wanted = np.zeros(len(matrix), bool)
        wanted[rows] = True
    found = [_search_one(matrix, query, k, prefix, rows, wanted) for query in queries]
    length = min((len(numbers) for _, numbers in found), default=0)
    scores = np.array([one[:length] for one, _ in found], np.float32).reshape(len(queries), length)
    numbers = np.array([one[:length] for _, one in found], np.int64).reshape(len(queries), length)
    return scores, numbers


def _search_one(
    matrix: Floats,
    query: NDArray[np.float32],
    k: int,
    prefix: Prefix,
    rows: NDArray[np.integer] | None,
    wanted: NDArray[np.bool_] | None,
) -> tuple[Floats, Rows]:
    left = _left_over(matrix, query, k, prefix, wanted)
    scores, numbers = top_k(matrix, query[None], k, rows=rows if left is None else left)
    return scores[0], numbers[0]


def _left_over(
    matrix: Floats, query: NDArray[np.float32], k: int, prefix: Prefix, wanted: NDArray[np.bool_] | None
) -> Rows | None:
    """The rows that the bound leaves; None if they are so many that reading all is cheaper."""
    with np.errstate(invalid="ignore", over="ignore"):  # rows with NaN compare as too low, and top_k drops them too
        bounds = prefix.bounds(query)
        if wanted is not None:
            bounds[~wanted] = -np.inf
        sample = bounds[::THRESHOLD_STEP]
        enough = max(k, FIRST_ROWS) // THRESHOLD_STEP + 2
        if len(sample) <= enough:
            return None
        promising = np.flatnonzero(bounds >= np.partition(sample, -enough)[-enough])
        limit = LEAVE_TO_EXACT * len(bounds)
        if not k <= len(promising) <= limit:  # ties, or NaN, in most of the sample
            return None
        scores = np.vecdot(np.asarray(matrix[promising], np.float32), query)
        scores = scores[np.isfinite(scores)]
        if len(scores) < k:
            return None
        kth = np.partition(scores, -k)[-k]
        # Bound and score err by at most the error of a dot product of unit vectors each, and the rotation once more.
        left = np.flatnonzero(bounds >= kth - 2 * largest_error(matrix.shape[1]))
    return left if len(left) <= limit else None


def _sample(matrix: RowSource, count: int) -> NDArray[np.float32]:
    if len(matrix) <= count:
        return np.asarray(matrix[:], np.float32)
    chosen = np.random.default_rng(SEED).choice(len(matrix), count, replace=False)
    return np.asarray(matrix[np.sort(chosen)], np.float32)


def _rests(vectors: NDArray[np.float32], fronts: NDArray[np.float32]) -> NDArray[np.float32]:
    lengths: NDArray[np.float32] = np.vecdot(vectors, vectors) - np.vecdot(fronts, fronts)
    rests: NDArray[np.float32] = np.sqrt(np.maximum(lengths, 0))
    return rests
