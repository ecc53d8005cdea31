"""How good is a ranking? 5-NN accuracy, mean average precision, recall at k.

The protocol of all figures in this project: features are centred on the gallery's mean (the queries on the same
mean, which they did not contribute to), brought to unit length, and compared by cosine.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from vitseek.errors import ShapeError, UsageError

Array = NDArray[np.floating[Any]]
Labels = Sequence[Any] | NDArray[Any]
Ties = Literal["score", "label"]

RECALLS = (1, 5, 10)
NUM_NEIGHBOURS = 5
BLOCK_SCORES = 2**22
"""Scores held at once while a split is evaluated: 16 MB of float32, and about ten times that while they are ranked."""


@dataclass(frozen=True, kw_only=True)
class RetrievalFigures:
    """What `evaluate_split` and `evaluate_leave_one_out` measure; the fractions are between 0 and 1."""

    knn_accuracy: float
    mean_average_precision: float
    recall: dict[int, float]
    num_queries: int
    num_gallery: int
    num_unanswerable: int
    """Queries without an image of their kind in the gallery: wrong for k-NN, left out of the other figures."""

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def evaluate_split(
    gallery_features: Array,
    gallery_labels: Labels,
    query_features: Array,
    query_labels: Labels,
    *,
    k: int = NUM_NEIGHBOURS,
    ties: Ties = "score",
    recalls: Sequence[int] = RECALLS,
) -> RetrievalFigures:
    """Rank the gallery for every query and measure.

    Parameters
    ----------
    gallery_features
        Shape (n, D), as a model gives them: neither centred nor normalised.
    gallery_labels
        n labels of any one type that can be compared.
    query_features, query_labels
        Shape (q, D), and q labels.
    k, ties
        As for `knn_accuracy`.
    recalls
        The ranks at which `recall_at_k` is taken.

    Raises
    ------
    ShapeError
        If features and labels do not match in number or width.
    UsageError
        If there is nothing to rank, or a feature is not finite.
    """
    gallery_codes, query_codes = _codes(gallery_labels, query_labels)
    _check("gallery", gallery_features, gallery_codes)
    _check("query", query_features, query_codes)
    if gallery_features.shape[1] != query_features.shape[1]:
        raise ShapeError(
            f"gallery features are {gallery_features.shape[1]} wide, query features {query_features.shape[1]}: "
            "they come from different models. Embed both with one."
        )
    mean = gallery_features.mean(axis=0)
    gallery, queries = _unit_rows(gallery_features - mean), _unit_rows(query_features - mean)
    return _measured(gallery, gallery_codes, queries, query_codes, k, ties, recalls, leave_one_out=False)


def evaluate_leave_one_out(
    features: Array,
    labels: Labels,
    *,
    k: int = NUM_NEIGHBOURS,
    ties: Ties = "score",
    recalls: Sequence[int] = RECALLS,
) -> RetrievalFigures:
    """Every image queries all the others: for sets without a split. Otherwise as `evaluate_split`."""
    codes, _ = _codes(labels, [])
    _check("image", features, codes)
    if len(codes) < 2:
        raise UsageError("leave-one-out needs at least two images; there is one.")
    unit = _unit_rows(features - features.mean(axis=0))
    return _measured(unit, codes, unit, codes, k, ties, recalls, leave_one_out=True)


def knn_accuracy(
    scores: Array,
    gallery_labels: Labels,
    query_labels: Labels,
    *,
    k: int = NUM_NEIGHBOURS,
    ties: Ties = "score",
) -> float:
    """Share of queries whose k best-scoring gallery images vote for the right label.

    Parameters
    ----------
    scores : shape (q, n)
        Higher is more alike.
    k
        With fewer than k images in the gallery, all of them vote.
    ties
        Which of several labels with the most votes wins. ``score``: the one with the largest sum of scores, then the
        one seen first. ``label``: the first in sorted order, as counting votes with ``bincount`` and ``argmax`` does.
    """
    gallery_codes, query_codes = _ranked_labels(scores, gallery_labels, query_labels)
    order = _order(scores)
    return float(_knn_correct(scores, order, gallery_codes, query_codes, _at_least_one("k", k), ties).mean())


def mean_average_precision(scores: Array, gallery_labels: Labels, query_labels: Labels) -> float:
    """Mean over queries of the precision at the rank of each image of the query's kind, over the whole gallery.

    Not interpolated, as in Oxford Buildings or scikit-learn. Queries without such an image are left out; without any
    such query the figure is NaN.
    """
    gallery_codes, query_codes = _ranked_labels(scores, gallery_labels, query_labels)
    return _mean(_average_precisions(gallery_codes[_order(scores)] == query_codes[:, None]))


def recall_at_k(scores: Array, gallery_labels: Labels, query_labels: Labels, *, k: int) -> float:
    """Share of queries with at least one image of their kind among the k best (metric learning's recall@k).

    Queries without such an image in the gallery are left out; without any such query the figure is NaN.
    """
    gallery_codes, query_codes = _ranked_labels(scores, gallery_labels, query_labels)
    return _mean(_recalls(gallery_codes[_order(scores)] == query_codes[:, None], _at_least_one("k", k)))


def _measured(
    gallery: Array,
    gallery_codes: NDArray[np.int64],
    queries: Array,
    query_codes: NDArray[np.int64],
    k: int,
    ties: Ties,
    recalls: Sequence[int],
    *,
    leave_one_out: bool,
) -> RetrievalFigures:
    k = _at_least_one("k", k)
    recalls = [_at_least_one("recall rank", rank) for rank in recalls]
    correct: list[NDArray[np.bool_]] = []
    precisions: list[Array] = []
    found: dict[int, list[Array]] = {rank: [] for rank in recalls}
    for rows in _blocks(len(queries), len(gallery)):
        scores = queries[rows] @ gallery.T
        if leave_one_out:
            scores[np.arange(len(scores)), np.arange(rows.start, rows.stop)] = -np.inf
        order = _order(scores)
        if leave_one_out:
            order = order[:, :-1]  # the image itself, which -inf put last
        hits = gallery_codes[order] == query_codes[rows, None]
        correct.append(_knn_correct(scores, order, gallery_codes, query_codes[rows], k, ties))
        precisions.append(_average_precisions(hits))
        for rank in recalls:
            found[rank].append(_recalls(hits, rank))
    average_precisions = np.concatenate(precisions)
    return RetrievalFigures(
        knn_accuracy=float(np.concatenate(correct).mean()),
        mean_average_precision=_mean(average_precisions),
        recall={rank: _mean(np.concatenate(values)) for rank, values in found.items()},
        num_queries=len(queries),
        num_gallery=len(gallery) - leave_one_out,
        num_unanswerable=int(np.isnan(average_precisions).sum()),
    )


def _blocks(num_queries: int, num_gallery: int) -> Iterator[slice]:
    step = max(1, BLOCK_SCORES // num_gallery)
    for start in range(0, num_queries, step):
        yield slice(start, min(start + step, num_queries))


def _order(scores: Array) -> NDArray[np.intp]:
    """Gallery rows from best to worst; equal scores in the gallery's order."""
    return np.argsort(-scores, axis=1, kind="stable")


def _knn_correct(
    scores: Array,
    order: NDArray[np.intp],
    gallery_codes: NDArray[np.int64],
    query_codes: NDArray[np.int64],
    k: int,
    ties: Ties,
) -> NDArray[np.bool_]:
    nearest = order[:, :k]
    labels = gallery_codes[nearest]  # (q, k)
    same = labels[:, :, None] == labels[:, None, :]  # (q, k, k): do two neighbours agree?
    votes = same.sum(axis=2)
    if ties == "score":
        weights = np.take_along_axis(scores, nearest, axis=1)
        merit = np.where(same, weights[:, None, :], 0).sum(axis=2)
    else:
        merit = -labels.astype(float)
    merit[votes < votes.max(axis=1, keepdims=True)] = -np.inf
    winner = merit.argmax(axis=1)  # the first of equals: the label seen first
    return np.asarray(labels[np.arange(len(labels)), winner] == query_codes)


def _average_precisions(hits: NDArray[np.bool_]) -> Array:
    """Per ranked row of hits and misses; NaN where there is no hit."""
    ranks = np.arange(1, hits.shape[1] + 1)
    precision = np.cumsum(hits, axis=1) / ranks
    count = hits.sum(axis=1)
    total = np.where(hits, precision, 0).sum(axis=1)
    return np.asarray(np.divide(total, count, out=np.full(len(hits), np.nan), where=count > 0))


def _recalls(hits: NDArray[np.bool_], k: int) -> Array:
    return np.where(hits.any(axis=1), hits[:, :k].any(axis=1).astype(float), np.nan)


def _mean(values: Array) -> float:
    """The mean of what is not NaN; NaN if nothing is left."""
    kept = values[~np.isnan(values)]
    return float(kept.mean()) if len(kept) else float("nan")


def _unit_rows(features: Array) -> Array:
    norms = np.linalg.norm(features, axis=1, keepdims=True)
    return np.asarray(features / np.maximum(norms, np.finfo(features.dtype).tiny))


def _codes(gallery_labels: Labels, query_labels: Labels) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Labels of any kind as whole numbers in their sorted order, the same for both sides."""
    gallery, queries = np.asarray(gallery_labels).tolist(), np.asarray(query_labels).tolist()
    numbers = {label: number for number, label in enumerate(sorted({*gallery, *queries}))}
    codes = [np.array([numbers[label] for label in labels], dtype=np.int64) for labels in (gallery, queries)]
    return codes[0], codes[1]


def _ranked_labels(
    scores: Array, gallery_labels: Labels, query_labels: Labels
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    gallery_codes, query_codes = _codes(gallery_labels, query_labels)
    if scores.shape != (len(query_codes), len(gallery_codes)):
        raise ShapeError(
            f"scores must have one row per query and one column per gallery image, "
            f"({len(query_codes)}, {len(gallery_codes)}); they are {scores.shape}."
        )
    if not scores.size:
        raise UsageError("there is nothing to rank: no queries or no gallery.")
    return gallery_codes, query_codes


def _check(side: str, features: Array, codes: NDArray[np.int64]) -> None:
    if features.ndim != 2 or len(features) != len(codes):
        raise ShapeError(f"{side} features must be ({len(codes)}, D), one row per label; they are {features.shape}.")
    if not len(features):
        raise UsageError(f"there is nothing to rank: no {side} features.")
    if not np.isfinite(features).all():
        bad = int((~np.isfinite(features)).any(axis=1).argmax())
        raise UsageError(f"{side} features must be finite; row {bad} holds NaN or infinity. Embed that image again.")


def _at_least_one(name: str, value: int) -> int:
    if value < 1:
        raise UsageError(f"{name} must be at least 1; it is {value}.")
    return value
