"""Figures of merit: by hand on small rankings, and against loops that follow the definitions word by word."""

import math
from collections import defaultdict

import numpy as np
import pytest

from vitseek.errors import ShapeError, UsageError
from vitseek.evaluate import retrieval
from vitseek.evaluate.retrieval import (
    evaluate_leave_one_out,
    evaluate_split,
    knn_accuracy,
    mean_average_precision,
    recall_at_k,
)


def test_average_precision_by_hand() -> None:
    # Ranking: right, wrong, right, wrong. Precision at the right ones: 1/1 and 2/3; their mean is 5/6.
    assert mean_average_precision(np.array([[0.9, 0.8, 0.7, 0.6]]), list("abab"), ["a"]) == pytest.approx(5 / 6)
    # wrong, right, wrong, right: 1/2 and 2/4.
    assert mean_average_precision(np.array([[0.9, 0.8, 0.7, 0.6]]), list("abab"), ["b"]) == pytest.approx(1 / 2)
    both = np.array([[0.9, 0.8, 0.7, 0.6]] * 2)
    assert mean_average_precision(both, list("abab"), list("ab")) == pytest.approx((5 / 6 + 1 / 2) / 2)


def test_perfect_and_worst_rankings_have_the_extreme_values() -> None:
    scores = np.array([[4.0, 3, 2, 1]])
    assert mean_average_precision(scores, list("aabb"), ["a"]) == 1
    assert mean_average_precision(scores, list("bbba"), ["a"]) == 1 / 4


def test_recall_by_hand() -> None:
    scores = np.array([[0.9, 0.8, 0.7], [0.1, 0.2, 0.3]])
    labels = ["a", "b", "c"]
    assert recall_at_k(scores, labels, ["b", "c"], k=1) == 0.5  # c comes first for the second query, b second
    assert recall_at_k(scores, labels, ["b", "c"], k=2) == 1
    assert recall_at_k(scores, labels, ["c", "a"], k=2) == 0
    assert recall_at_k(scores, labels, ["c", "a"], k=99) == 1


def test_the_majority_wins() -> None:
    scores = np.array([[0.9, 0.5, 0.4, 0.3, 0.2]])
    assert knn_accuracy(scores, list("abbcc"), ["b"], k=3) == 1
    assert knn_accuracy(scores, list("abbcc"), ["a"], k=1) == 1


def test_a_tie_goes_to_the_larger_sum_of_scores() -> None:
    labels = list("abbac")
    assert knn_accuracy(np.array([[0.9, 0.8, 0.7, 0.1, 0.3]]), labels, ["b"], k=5) == 1  # 0.8 + 0.7 > 0.9 + 0.1
    assert knn_accuracy(np.array([[0.9, 0.8, 0.4, 0.35, 0.3]]), labels, ["a"], k=5) == 1  # 0.9 + 0.35 > 0.8 + 0.4


def test_a_tie_of_sums_goes_to_the_label_seen_first() -> None:
    assert knn_accuracy(np.array([[0.5, 0.5]]), ["b", "a"], ["b"], k=2) == 1


def test_a_tie_can_go_to_the_first_label_in_sorted_order() -> None:
    scores = np.array([[0.9, 0.8, 0.7, 0.6, 0.1]])
    labels = list("cbbca")
    assert knn_accuracy(scores, labels, ["c"], k=4) == 1  # c and b have two votes; 0.9 + 0.6 = 0.8 + 0.7, c comes first
    assert knn_accuracy(scores, labels, ["b"], k=4, ties="label") == 1
    assert knn_accuracy(scores, labels, ["a"], k=4, ties="label") == 0, "a has no vote"
    one_each = np.array([[2.0, 0.1], [1.0, 0.0], [0.0, 3.0]])
    assert evaluate_split(one_each, list("cba"), one_each[:1], ["b"], k=2, ties="label").knn_accuracy == 1
    assert evaluate_split(one_each, list("cba"), one_each[:1], ["c"], k=2).knn_accuracy == 1


def test_negative_scores_do_not_turn_the_vote() -> None:
    # b has two votes with a negative sum, a one vote with a positive score: votes count first.
    assert knn_accuracy(np.array([[0.1, -0.2, -0.3]]), list("abb"), ["b"], k=3) == 1


def test_more_neighbours_than_images_means_all_of_them() -> None:
    assert knn_accuracy(np.array([[0.9, 0.2, 0.1]]), list("abb"), ["b"], k=50) == 1


def loops(gallery: np.ndarray, labels: list[str], queries: np.ndarray, wanted: list[str], k: int) -> tuple[float, ...]:
    """The definitions, one image at a time, in float64."""
    mean = gallery.mean(axis=0)
    right = precision_sum = recalled = answerable = 0.0
    for query, truth in zip(queries, wanted, strict=True):
        scored = []
        for row, image in enumerate(gallery):
            a, b = query - mean, image - mean
            scored.append((-float(a @ b) / math.sqrt(float(a @ a) * float(b @ b)), row))
        ranking = [(labels[row], -score) for score, row in sorted(scored)]
        votes: dict[str, list[float]] = defaultdict(list)
        for label, score in ranking[:k]:
            votes[label].append(score)
        right += max(votes, key=lambda label: (len(votes[label]), sum(votes[label]))) == truth
        hits, precisions = 0, []
        for rank, (label, _) in enumerate(ranking, start=1):
            if label == truth:
                hits += 1
                precisions.append(hits / rank)
        if precisions:
            answerable += 1
            precision_sum += sum(precisions) / len(precisions)
            recalled += any(label == truth for label, _ in ranking[:3])
    return right / len(wanted), precision_sum / answerable, recalled / answerable


@pytest.mark.parametrize("block", [1, 31, 2**22])
@pytest.mark.parametrize("k", [1, 2, 5, 101])
def test_a_split_agrees_with_the_loops(
    block: int, k: int, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retrieval, "BLOCK_SCORES", block)
    labels = [str(kind) for kind in rng.integers(0, 5, 31)]
    wanted = [str(kind) for kind in rng.integers(0, 6, 17)]  # the sixth kind is not in the gallery
    gallery, queries = rng.normal(size=(31, 7)), rng.normal(size=(17, 7))
    figures = evaluate_split(gallery, labels, queries, wanted, k=k, recalls=(3,))
    accuracy, precision, recall = loops(gallery, labels, queries, wanted, k)
    assert figures.knn_accuracy == pytest.approx(accuracy)
    assert figures.mean_average_precision == pytest.approx(precision)
    assert figures.recall[3] == pytest.approx(recall)
    assert (figures.num_queries, figures.num_gallery) == (17, 31)
    assert figures.num_unanswerable == wanted.count("5") > 0


def test_leave_one_out_is_a_split_without_the_image_itself(rng: np.random.Generator) -> None:
    features = rng.normal(size=(23, 5)) + 3
    labels = np.array(list("aab") * 8)[:23]
    figures = evaluate_leave_one_out(features, labels, k=3, recalls=(3,))
    centred = features - features.mean(axis=0)
    unit = centred / np.linalg.norm(centred, axis=1, keepdims=True)
    right, precisions = 0.0, []
    for row in range(23):
        others = np.arange(23) != row
        scores = (unit[others] @ unit[row])[None]
        right += knn_accuracy(scores, labels[others], labels[row : row + 1], k=3)
        precisions.append(mean_average_precision(scores, labels[others], labels[row : row + 1]))
    assert figures.knn_accuracy == pytest.approx(right / 23)
    assert figures.mean_average_precision == pytest.approx(np.mean(precisions))
    assert figures.num_gallery == 22


def test_centring_uses_the_gallery_and_not_the_queries() -> None:
    gallery = np.array([[10.0, 1.0], [10.0, -1.0]])  # without centring both point the same way
    far = np.array([[900.0, 2.0], [10.0, -0.5]])
    figures = evaluate_split(gallery, ["up", "down"], np.array([[10.0, 0.7], far[1]]), ["up", "down"], k=1)
    assert figures.knn_accuracy == 1
    alone = evaluate_split(gallery, ["up", "down"], np.array([[10.0, 0.7]]), ["up"], k=1)
    assert alone.knn_accuracy == 1, "one query on its own mean would be the zero vector"


def test_scale_and_dtype_of_features_do_not_matter(rng: np.random.Generator) -> None:
    gallery, queries = rng.normal(size=(29, 11)), rng.normal(size=(13, 11))
    labels, wanted = list("abcd" * 8)[:29], list("abcd" * 4)[:13]
    one = evaluate_split(gallery, labels, queries, wanted)
    two = evaluate_split((1000 * gallery).astype(np.float32), labels, (1000 * queries).astype(np.float32), wanted)
    assert one.knn_accuracy == two.knn_accuracy
    assert one.mean_average_precision == pytest.approx(two.mean_average_precision)


def test_an_image_equal_to_the_mean_is_ranked_without_dividing_by_zero() -> None:
    gallery = np.array([[1.0, 0.0], [-1.0, 0.0], [0.0, 0.0]])
    figures = evaluate_split(gallery, ["a", "b", "a"], np.array([[1.0, 0.0], [0.0, 0.0]]), ["a", "a"], k=1)
    assert figures.knn_accuracy == 1


def test_without_any_answerable_query_the_precision_is_nan_and_counted() -> None:
    figures = evaluate_split(np.eye(3), list("abc"), np.eye(3)[:1], ["z"])
    assert math.isnan(figures.mean_average_precision)
    assert math.isnan(figures.recall[1])
    assert figures.knn_accuracy == 0
    assert figures.num_unanswerable == 1


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((np.eye(3), list("ab"), np.eye(3), list("abc")), ShapeError, r"gallery features must be \(2, D\)"),
        ((np.eye(3), list("abc"), np.eye(2), list("ab")), ShapeError, "3 wide, query features 2"),
        ((np.eye(3), list("abc"), np.zeros(3), ["a"]), ShapeError, "query features must be"),
        ((np.eye(0), [], np.eye(3), list("abc")), UsageError, "no gallery features"),
        ((np.eye(3), list("abc"), np.full((1, 3), np.nan), ["a"]), UsageError, "query features must be finite; row 0"),
    ],
)
def test_features_that_do_not_fit_are_refused(
    arguments: tuple[object, ...], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        evaluate_split(*arguments)  # type: ignore[arg-type]


def test_impossible_numbers_of_neighbours_are_refused() -> None:
    with pytest.raises(UsageError, match="k must be at least 1; it is 0"):
        evaluate_split(np.eye(3), list("abc"), np.eye(3), list("abc"), k=0)
    with pytest.raises(UsageError, match="at least 1"):
        recall_at_k(np.eye(2), list("ab"), list("ab"), k=0)
    with pytest.raises(UsageError, match="at least two images"):
        evaluate_leave_one_out(np.eye(1), ["a"])
    with pytest.raises(ShapeError, match="one row per query"):
        knn_accuracy(np.eye(2), list("abc"), list("ab"))
