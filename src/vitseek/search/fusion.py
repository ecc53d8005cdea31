"""Several things to search with, made comparable: terms of one query, and the spaces of two models.

Cosines of different kinds live on different scales. In a joint space of pictures and words the two lie apart (Liang et
al., Mind the Gap, NeurIPS 2022): cosines between pictures vary widely, those between words and pictures little, and
added up as they are, the picture decides. Two models differ as much. So every score is measured against the gallery
first: its distance from the average picture, in standard deviations of that score over the gallery (a standard score).

Within a space that is a weighted sum of the terms' vectors, each divided by its spread; the average shifts all pictures
alike and drops out. A combined query is one vector again, and :func:`vitseek.search.exact.top_k` finds its matches.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray

from vitseek.errors import UsageError

Fusion = Literal["scores", "ranks"]
Vector = NDArray[np.floating]
Matrix = NDArray[np.float32]
Ids = NDArray[np.int64]

CALIBRATION_ROWS = 10_000  # the spread of a normal score is known to 0.7 % from this many
MIN_SPREAD = 1e-6  # below it the gallery is one picture, as far as float32 can tell
RANK_OFFSET = 60  # Source: Cormack, Clarke, Buettcher, Reciprocal Rank Fusion, SIGIR 2009
CANCELLED = 1e-6
COPY_BELOW = 1 / 8  # share of wanted rows; as in vitseek.search.exact
ROUNDING = 1e-5  # of a float32 dot product of unit vectors, generously


class Spread(NamedTuple):
    """How the scores of one vector lie over the gallery."""

    mean: float
    deviation: float


def spread(matrix: Matrix, vector: Vector) -> Spread:
    """Mean and standard deviation of a vector's scores, from evenly spaced rows of the gallery.

    A gallery that shows no spread (one picture, copies of one) counts as one whose deviation is 1.
    """
    with np.errstate(invalid="ignore", over="ignore"):  # rows with NaN or infinity have no score
        scores = (_sample(matrix) @ np.asarray(vector, np.float32)).astype(np.float64)
    scores = scores[np.isfinite(scores)]
    if not len(scores):
        return Spread(0.0, 1.0)
    deviation = float(scores.std())
    return Spread(float(scores.mean()), deviation if deviation > MIN_SPREAD else 1.0)


def _sample(matrix: Matrix) -> Matrix:
    if len(matrix) <= CALIBRATION_ROWS:
        return matrix
    return matrix[np.linspace(0, len(matrix) - 1, CALIBRATION_ROWS).astype(np.int64)]


def combine(vectors: Sequence[Vector], weights: Sequence[float], matrix: Matrix) -> NDArray[np.float32]:
    """One unit vector that ranks the gallery by the weighted sum of the terms' standard scores.

    Parameters
    ----------
    vectors
        Unit vectors (D,), one for each term.
    weights
        Not 0.
    matrix : shape (n, D)
        Unit rows of the gallery, on which the terms are calibrated.

    Returns
    -------
    shape (D,). A single term is given back as it is, turned round if its weight is negative.

    Raises
    ------
    UsageError
        If the terms cancel each other.
    """
    if len(vectors) == 1:
        return np.asarray(vectors[0] if weights[0] > 0 else -vectors[0], np.float32)
    parts = [
        np.asarray(vector, np.float64) * (weight / spread(matrix, vector).deviation)
        for vector, weight in zip(vectors, weights, strict=True)
    ]
    total = np.sum(parts, axis=0)
    length = float(np.linalg.norm(total))
    if length <= CANCELLED * sum(float(np.linalg.norm(part)) for part in parts):
        raise UsageError(
            "the terms of the query cancel each other, so nothing is left to search for: change a weight or a sign"
        )
    combined: NDArray[np.float32] = (total / length).astype(np.float32)
    return combined


@dataclass(frozen=True, slots=True)
class Side:
    """One space in a search of two: its images and their unit rows, the query there, and how much it counts."""

    ids: Ids  # ascending
    matrix: Matrix
    vector: Vector
    weight: float


def fuse(
    sides: Sequence[Side], k: int, *, fusion: Fusion = "scores", among: Ids | None = None
) -> tuple[Ids, NDArray[np.float64]]:
    """The k images that are best in several spaces together.

    Parameters
    ----------
    fusion
        ``scores``: the weighted mean of the standard scores. ``ranks``: the weighted mean of reciprocal ranks,
        (60 + 1) / (60 + rank), 1 for an image that is first everywhere; images with equal scores share a rank.
    among
        Consider these images only. Scores are calibrated on the whole gallery all the same; ranks are among these.

    Returns
    -------
    ids and scores, best first, equal scores by id. An image that a space has no vector of gets that space's average
    (standard score 0), or no share for its rank.
    """
    if fusion not in get_args(Fusion):
        raise UsageError(f"two spaces are joined by {' or '.join(get_args(Fusion))}, not {fusion!r}")
    ids = _all_ids(sides, among)
    weights = sum(side.weight for side in sides)
    measured = [spread(side.matrix, side.vector) for side in sides] if fusion == "scores" else []
    total = np.zeros(len(ids))
    for number, side in enumerate(sides):
        rows, places = _matched(side.ids, ids)
        scores = _scores(side, rows, len(ids))
        usable = np.isfinite(scores)
        if not usable.all():
            scores, places = scores[usable], places[usable]
        shares = _reciprocal_ranks(scores) if fusion == "ranks" else _standard(scores, measured[number])
        total[places] += side.weight / weights * shares
    # Twice the rounding of float32 in every score: how far below the k-th place it may have put a true member.
    parts = zip(sides, measured, strict=False)  # ranks have no measure, and no slack
    slack = sum(2 * ROUNDING * side.weight / weights / found.deviation for side, found in parts)
    best = _best(total, k, slack)
    if fusion == "scores":
        total[best] = _exactly(sides, measured, ids[best])
    order = best[np.lexsort((ids[best], -total[best]))][:k]
    return ids[order], total[order]


def _all_ids(sides: Sequence[Side], among: Ids | None) -> Ids:
    """Every image that some space has a vector of."""
    ids = sides[0].ids
    if not all(np.array_equal(ids, side.ids) for side in sides):
        ids = np.unique(np.concatenate([side.ids for side in sides]))
    return ids if among is None else np.intersect1d(ids, among, assume_unique=True)


def _scores(side: Side, rows: Ids, wanted: int) -> NDArray[np.float64]:
    """The cosines of the rows, in float32; copying rows costs more than scoring those that nobody asked for."""
    with np.errstate(invalid="ignore", over="ignore"):  # rows with NaN or infinity have no score
        few = wanted < COPY_BELOW * len(side.matrix)
        scores = np.vecdot(side.matrix[rows] if few else side.matrix, np.asarray(side.vector, np.float32))
    wide: NDArray[np.float64] = (scores if few or len(rows) == len(scores) else scores[rows]).astype(np.float64)
    return wide


def _standard(scores: NDArray[np.float64], measured: Spread) -> NDArray[np.float64]:
    standard: NDArray[np.float64] = (scores - measured.mean) / measured.deviation
    return standard


def _reciprocal_ranks(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    order = np.argsort(-scores)
    ordered = scores[order]
    first = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]])[: len(ordered)])
    ranks = np.empty(len(scores))
    ranks[order] = np.repeat(first + 1, np.diff(np.append(first, len(ordered))))  # equal scores share the first's
    reciprocal: NDArray[np.float64] = (RANK_OFFSET + 1) / (RANK_OFFSET + ranks)
    return reciprocal


def _best(total: NDArray[np.float64], k: int, slack: float) -> Ids:
    if len(total) <= k:
        return np.arange(len(total))
    floor = np.partition(total, len(total) - k)[len(total) - k] - slack
    found: Ids = np.flatnonzero(total >= floor)
    return found


def _exactly(sides: Sequence[Side], measured: Sequence[Spread], ids: Ids) -> NDArray[np.float64]:
    """The same scores in float64: copies of a picture tie, whatever else is in the gallery."""
    total = np.zeros(len(ids))
    weights = sum(side.weight for side in sides)
    for side, found in zip(sides, measured, strict=True):
        rows, places = _matched(side.ids, ids)
        values = np.asarray(side.matrix[rows], np.float64)
        scores = np.vecdot(values, np.asarray(side.vector, np.float64))
        usable = np.isfinite(scores)
        total[places[usable]] += side.weight / weights * _standard(scores[usable], found)
    return total


def _matched(held: Ids, wanted: Ids) -> tuple[Ids, Ids]:
    """(rows, places): ``held[rows] == wanted[places]``; both ascending."""
    if len(held) == len(wanted) and np.array_equal(held, wanted):
        everything = np.arange(len(held))
        return everything, everything
    if not len(held):
        return np.empty(0, np.int64), np.empty(0, np.int64)
    rows = np.minimum(np.searchsorted(held, wanted), len(held) - 1)
    places = np.flatnonzero(held[rows] == wanted)
    return rows[places], places
