"""Classify by words: each label is a vector of text, and a picture belongs to the nearest.

Source: Radford et al., "Learning Transferable Visual Models From Natural Language Supervision" (2021), section 3.1:
prompts, their ensembles, softmax; Zhai et al., "Sigmoid Loss for Language Image Pre-Training" (2023): sigmoid.
"""

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from vitseek.errors import UsageError
from vitseek.heads.labels import PLACE, checked_templates

Array = NDArray[np.float32]

# For photographs, in our own words; each says something else about the picture and nothing about the label.
DEFAULT_TEMPLATES = (
    "a photo of a {}",
    "a photo of {}",
    "a picture that shows a {}",
    "a close-up photo of a {}",
    "a photo of a {} from afar",
    "a bright photo of a {}",
    "a dark photo of a {}",
    "a photo with a {} in it",
    "a photo of several {}",
)
TEXTS_AT_ONCE = 64
USUAL_SCALE = 100.0  # where CLIP's temperature was clipped in training, and ended (Radford et al., section 2.5)
SIGMOID_THRESHOLD = 0.1  # see `defaults`


class TextModel(Protocol):
    """What turns words into vectors; :class:`vitseek.engines.model.Model` is one."""

    @property
    def logit_scale(self) -> float | None: ...
    @property
    def logit_bias(self) -> float | None: ...
    def embed_texts(
        self, texts: Sequence[str] | str, *, report: Callable[[str], None] | None = None
    ) -> NDArray[np.floating]: ...


def classifier(
    model: TextModel,
    labels: Sequence[str],
    templates: Sequence[str] = DEFAULT_TEMPLATES,
    *,
    report: Callable[[str], None] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Array:
    """One unit vector a label: the mean of the unit vectors of its prompts, made unit again.

    Parameters
    ----------
    templates
        With ``{}`` where the label goes.
    report
        Called with what the tokenizer has to say, such as a prompt that was cut.
    progress
        Called with prompts done and prompts in all.

    Returns
    -------
    shape (labels, D)

    Raises
    ------
    UsageError
        If a template has no ``{}``.
    TextUnsupportedError
        If the model has no text tower.
    """
    templates = checked_templates(templates)
    prompts = [template.replace(PLACE, label) for label in labels for template in templates]
    sums: NDArray[np.float64] | None = None
    for start in range(0, len(prompts), TEXTS_AT_ONCE):
        part = prompts[start : start + TEXTS_AT_ONCE]
        vectors = unit(model.embed_texts(part, report=report))
        if sums is None:
            sums = np.zeros((len(labels), vectors.shape[1]))
        np.add.at(sums, np.arange(start, start + len(part)) // len(templates), vectors)
        if progress:
            progress(start + len(part), len(prompts))
    if sums is None:
        raise UsageError("there is no label to classify by")
    return unit(sums)


def probabilities(features: NDArray[np.floating], rows: Array, model: TextModel) -> Array:
    """How probable each label is for each picture, shape (n, labels).

    With a bias (SigLIP) each label is judged alone, by sigmoid; without (CLIP) the labels share 1, by softmax.

    Parameters
    ----------
    features : shape (n, D)
        Of pictures, of any length. One of zeros, or with a NaN in it, says nothing: its probabilities are NaN.
    rows : shape (labels, D)
        From :func:`classifier`.
    model
        Gives scale and bias; a model without a scale counts as 100, where CLIP's ends.
    """
    if features.shape[1] != rows.shape[1]:
        raise UsageError(
            f"the pictures' vectors have {features.shape[1]} numbers and those of the labels {rows.shape[1]}: "
            "both must come from one model"
        )
    scale = USUAL_SCALE if model.logit_scale is None else model.logit_scale
    usable = np.isfinite(features).all(axis=1) & np.asarray(features).any(axis=1)
    logits = unit(np.where(usable[:, None], features, 0)) @ rows.T * np.float32(scale)
    if model.logit_bias is None:
        result = softmax(logits)
    else:
        result = sigmoid(logits + np.float32(model.logit_bias))
    result[~usable] = np.nan
    return result


def is_sigmoid(model: TextModel) -> bool:
    """Whether several labels, or none, may apply to a picture."""
    return model.logit_bias is not None


def defaults(model: TextModel, labels: int) -> tuple[int, float]:
    """How many labels a picture gets at most, and how probable each must be, where the user does not say.

    Softmax: the best one, whatever its probability. Sigmoid: every label from 0.1 on, because SigLIP's training sees
    thousands of wrong texts for each right one and its probabilities of right ones stay low.
    """
    return (labels, SIGMOID_THRESHOLD) if is_sigmoid(model) else (1, 0.0)


def choose(values: NDArray[np.floating], *, top: int, threshold: float) -> list[NDArray[np.intp]]:
    """For each row the places of its largest values: at most ``top``, none below ``threshold``, largest first.

    Ties keep their order. A row with a NaN gets none: there was no picture to judge.
    """
    top = min(top, values.shape[1])
    usable = np.isfinite(values).all(axis=1)
    if top == 1:
        order = values.argmax(axis=1)[:, None]
    else:
        order = np.argsort(-values, axis=1, kind="stable")[:, :top]
    return [
        line[row[line] >= threshold] if good else line[:0]
        for line, row, good in zip(order, values, usable, strict=True)
    ]


def unit(vectors: NDArray[np.floating]) -> Array:
    """Rows of length 1; a row of zeros stays one."""
    wide = np.asarray(vectors, np.float64)
    lengths = np.linalg.norm(wide, axis=1, keepdims=True)
    return (wide / np.where(lengths == 0, 1, lengths)).astype(np.float32)


def softmax(logits: NDArray[np.floating]) -> Array:
    """Along the last axis, without overflow."""
    shifted = np.exp(logits - logits.max(axis=-1, keepdims=True))
    result: Array = (shifted / shifted.sum(axis=-1, keepdims=True)).astype(np.float32)
    return result


def sigmoid(logits: NDArray[np.floating]) -> Array:
    """1 / (1 + exp(−x)) without overflow."""
    result: Array = np.exp(-np.logaddexp(0, -logits)).astype(np.float32)
    return result
