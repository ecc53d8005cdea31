"""Labels of pictures: those that people and folders gave, and those that models gave, with probabilities."""

import re
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from vitseek.errors import UsageError
from vitseek.gallery.stores.catalog import Catalog
from vitseek.gallery.stores.predictions import Predictions

USER = "user"
OWN = (USER, "folder")  # sources whose labels are facts, not predictions
_SOURCE = re.compile(r"[\w.-]{1,64}")

Probabilities = float | Sequence[float] | NDArray[np.floating]


class Labels:
    """Adds and takes labels; predictions are kept apart, so that no pass of a model touches what a person said."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self.predictions = Predictions(catalog.database)

    def add(
        self, ids: Sequence[int], labels: Iterable[str] | str, probabilities: Probabilities | None, source: str
    ) -> None:
        """See :meth:`vitseek.gallery.gallery.Gallery.add_labels`."""
        names = [tidy(label) for label in _listed(labels)]
        if source == USER:
            if probabilities is not None:
                raise UsageError("a label of the user's has no probability; name the model's source=… for predictions")
            self._catalog.add_labels(ids, names)
            return
        checked_source(source)
        if probabilities is None:
            raise UsageError(f"labels of {source!r} are predictions: probabilities=… is missing")
        values = _probabilities(probabilities, len(ids), len(names))
        rows = [
            (image_id, name, float(value))
            for image_id, line in zip(ids, values, strict=True)
            for name, value in zip(names, line, strict=True)
        ]
        self.predictions.add(source, rows)

    def remove(self, ids: Sequence[int], labels: Iterable[str] | str, source: str | None) -> None:
        """See :meth:`vitseek.gallery.gallery.Gallery.remove_labels`."""
        names = [tidy(label) for label in _listed(labels)]
        if source is None or source in OWN:
            self._catalog.remove_labels(ids, names, source=source)
        else:
            self.predictions.remove(source, [(image_id, name) for image_id in ids for name in names])


def tidy(text: str) -> str:
    """A label as it is stored: one space between words, none around.

    Raises
    ------
    UsageError
        If nothing is left, or it holds what cannot be printed.
    """
    label = " ".join(text.split())
    if not label or not label.isprintable():
        raise UsageError(f"a label is printable text; this one is {text!r}")
    return label


def checked_source(name: str) -> str:
    """The name of a source of predictions; UsageError if it cannot be one."""
    if name in OWN:
        raise UsageError(f"{name!r} is where labels that are facts come from; predictions need another source")
    if not _SOURCE.fullmatch(name):
        raise UsageError(f"a source is a word of letters, digits, '-', '_' and '.', at most 64; this one is {name!r}")
    return name


def _listed(labels: Iterable[str] | str) -> list[str]:
    return [labels] if isinstance(labels, str) else list(labels)


def _probabilities(given: Probabilities, images: int, labels: int) -> NDArray[np.float64]:
    values = np.asarray(given, np.float64)
    try:
        spread = np.broadcast_to(values, (images, labels))
    except ValueError:
        raise UsageError(
            f"probabilities have the shape {values.shape}; wanted one number, one for each of the {labels} labels, or "
            f"({images}, {labels}): one for each image and label"
        ) from None
    if not ((spread >= 0) & (spread <= 1)).all():  # NaN fails too
        raise UsageError("a probability lies between 0 and 1; some here do not")
    return spread
