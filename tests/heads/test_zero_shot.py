"""Zero-shot classification on vectors whose answer is known by hand."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import pytest

from vitseek.errors import UsageError
from vitseek.heads.zero_shot import (
    DEFAULT_TEMPLATES,
    TEXTS_AT_ONCE,
    choose,
    classifier,
    defaults,
    probabilities,
    sigmoid,
    softmax,
    unit,
)


@dataclass
class Words:
    """Every text has the vector that a seeded hash gives it; remembers how many came at a time."""

    logit_scale: float | None = 10.0
    logit_bias: float | None = None
    calls: list[int] = field(default_factory=list)
    known: dict[str, list[float]] = field(default_factory=dict)

    def embed_texts(self, texts: Sequence[str] | str, *, report: Callable[[str], None] | None = None) -> np.ndarray:
        assert not isinstance(texts, str)
        self.calls.append(len(texts))
        if report:
            report(f"{len(texts)} seen")
        return np.array(
            [self.known.get(text) or np.random.default_rng(list(text.encode())).normal(size=7) for text in texts]
        )


def test_a_row_is_the_mean_of_unit_vectors_made_unit_again() -> None:
    model = Words(known={"a cat": [3, 0, 0], "the cat": [0, 5, 0], "a dog": [0, 0, 2], "the dog": [0, 0, 7]})
    rows = classifier(model, ["cat", "dog"], ["a {}", "the {}"])
    half = np.sqrt(0.5)
    np.testing.assert_allclose(rows, [[half, half, 0], [0, 0, 1]], atol=1e-7)
    assert rows.dtype == np.float32


def test_an_ensemble_over_several_batches_equals_the_plain_formula() -> None:
    model, labels = Words(), [f"thing {number}" for number in range(23)]
    steps: list[tuple[int, int]] = []
    rows = classifier(model, labels, progress=lambda done, total: steps.append((done, total)))
    for label, row in zip(labels, rows, strict=True):
        vectors = model.embed_texts([template.replace("{}", label) for template in DEFAULT_TEMPLATES])
        mean = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).mean(axis=0)
        np.testing.assert_allclose(row, mean / np.linalg.norm(mean), atol=1e-6)
    assert max(model.calls[:4]) == TEXTS_AT_ONCE
    assert steps[-1] == (23 * len(DEFAULT_TEMPLATES),) * 2


def test_templates_are_filled_literally() -> None:
    model = Words(known={"{x} 100% cat cat": [1, 2]})
    np.testing.assert_allclose(classifier(model, ["cat"], ["{x} 100% {} {}"]), unit(np.array([[1.0, 2.0]])))


def test_what_the_tokenizer_says_is_handed_on() -> None:
    said: list[str] = []
    classifier(Words(), ["a", "b"], ["{}"], report=said.append)
    assert said == ["2 seen"]


def test_without_a_bias_the_labels_share_one_and_length_does_not_count() -> None:
    rows = unit(np.array([[1.0, 0, 0], [0, 1, 0], [0, 0, 1]]))
    features = np.array([[0.6, 0.8, 0], [60, 80, 0]])
    given = probabilities(features, rows, Words(logit_scale=5.0))
    expected = np.exp([3, 4, 0]) / np.exp([3, 4, 0]).sum()
    np.testing.assert_allclose(given, [expected, expected], rtol=1e-5)


def test_with_a_bias_each_label_is_judged_alone() -> None:
    rows = unit(np.array([[1.0, 0], [0, 1]]))
    given = probabilities(np.array([[0.6, 0.8]]), rows, Words(logit_scale=10.0, logit_bias=-7.0))
    np.testing.assert_allclose(given, [[1 / (1 + np.exp(1)), 1 / (1 + np.exp(-1))]], rtol=1e-5)
    alone = probabilities(np.array([[0.6, 0.8]]), rows[:1], Words(logit_scale=10.0, logit_bias=-7.0))
    np.testing.assert_array_equal(alone, given[:, :1])


def test_a_model_without_a_scale_counts_as_one_hundred() -> None:
    rows = unit(np.array([[1.0, 0], [0, 1]]))
    picture = np.array([[0.8, 0.79]])
    np.testing.assert_array_equal(
        probabilities(picture, rows, Words(logit_scale=None)), probabilities(picture, rows, Words(logit_scale=100.0))
    )


def test_a_vector_of_zeros_or_with_a_nan_gets_no_label() -> None:
    rows = unit(np.array([[1.0, 0], [0, 1]]))
    for model in (Words(), Words(logit_bias=-1.0)):
        given = probabilities(np.array([[0.0, 0], [np.nan, 1], [0, 1]]), rows, model)
        assert [list(one) for one in choose(given, top=1, threshold=0)] == [[], [], [1]]


def test_vectors_of_another_width_are_refused() -> None:
    with pytest.raises(UsageError, match="have 3 numbers and those of the labels 2"):
        probabilities(np.ones((1, 3)), np.ones((2, 2), np.float32), Words())


def test_the_best_labels_from_the_threshold_on_are_chosen() -> None:
    values = np.array([[0.2, 0.5, 0.3], [0.1, 0.1, 0.8], [0.25, 0.5, 0.25]])
    assert [list(one) for one in choose(values, top=2, threshold=0.25)] == [[1, 2], [2], [1, 0]]
    assert [list(one) for one in choose(values, top=1, threshold=0.6)] == [[], [2], []]
    assert [list(one) for one in choose(values, top=99, threshold=0)] == [[1, 2, 0], [2, 0, 1], [1, 0, 2]]


def test_defaults_depend_on_how_the_model_was_trained() -> None:
    assert defaults(Words(), 11) == (1, 0.0)
    assert defaults(Words(logit_bias=-10.0), 11) == (11, 0.1)


@pytest.mark.parametrize("size", [0.0, 1e4])
def test_probabilities_never_overflow(size: float) -> None:
    logits = np.array([[size, -size, 0]], np.float32)
    assert np.isfinite(softmax(logits)).all()
    assert softmax(logits).sum() == pytest.approx(1)
    assert np.isfinite(sigmoid(logits)).all()
    assert sigmoid(logits)[0, 2] == 0.5


def test_thousands_of_labels_share_one() -> None:
    rng = np.random.default_rng(3)
    rows = classifier(Words(), [f"label {number}" for number in range(3001)], ["{}"])
    given = probabilities(rng.normal(size=(5, 7)), rows, Words())
    np.testing.assert_allclose(given.sum(axis=1), 1, rtol=1e-4)
