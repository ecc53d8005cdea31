"""The part of a gallery that is about labels: giving and taking them, and letting models give them."""

from abc import abstractmethod
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Unpack

import numpy as np
from numpy.typing import NDArray

from vitseek.gallery.labels import USER, Labels, Probabilities, checked_source
from vitseek.gallery.lock import Holder, WriteLock
from vitseek.gallery.matrix import MatrixCache
from vitseek.gallery.models import Models
from vitseek.gallery.place import Layout
from vitseek.gallery.stores.catalog import Catalog

if TYPE_CHECKING:  # a cold search imports nothing of how models label
    from vitseek.gallery.by_head import HeadKeywords
    from vitseek.gallery.by_words import ZeroShotKeywords
    from vitseek.gallery.predicting import PredictionReport


class Labelling:
    """Methods of :class:`vitseek.gallery.gallery.Gallery`, which makes the parts that they use."""

    _catalog: Catalog
    _layout: Layout
    _labels: Labels
    _matrices: MatrixCache
    _models: Models
    _lock_timeout_s: float
    _waiting: Callable[[Holder | None], None] | None

    @abstractmethod
    def _checked_ids(self, ids: Iterable[int]) -> list[int]: ...
    @abstractmethod
    def _matching(self, where: str | None) -> NDArray[np.int64]: ...

    @property
    def labels_from_folders(self) -> bool:
        """Whether indexing gives every image the name of its first folder as a label."""
        return self._catalog.meta("labels_from_folders") == "1"

    def add_labels(
        self,
        ids: Iterable[int],
        labels: Iterable[str] | str,
        *,
        probabilities: Probabilities | None = None,
        source: str = USER,
    ) -> None:
        """Give labels to images: the user's own, or with a source and probabilities those that a model predicts.

        The user's labels stay through re-indexing, renaming and editing of the files; a prediction belongs to what the
        model saw, so it stays through a renaming and goes when the file is edited.

        Parameters
        ----------
        probabilities
            One number between 0 and 1, one for each label, or (images, labels).
        source
            What to call the predictions: a word, such as the model's. What it said before about other labels stays.
        """
        self._labels.add(self._checked_ids(ids), labels, probabilities, source)

    def remove_labels(self, ids: Iterable[int], labels: Iterable[str] | str, *, source: str | None = None) -> None:
        """Take labels from images; a label that an image does not have is no error.

        Without ``source`` those of the user and of folders, no predictions.
        """
        self._labels.remove(self._checked_ids(ids), labels, source)

    def remove_predictions(self, source: str, *, where: str | None = None) -> int:
        """Take back what a source predicted, everywhere or for the images that match a filter; return how many."""
        among = None if where is None else self._matching(where).tolist()
        return self._labels.predictions.remove_source(checked_source(source), among)

    def classify_zero_shot(
        self, labels: Iterable[str] | str, **options: Unpack["ZeroShotKeywords"]
    ) -> "PredictionReport":
        """Label images by words: each label becomes a vector of text, and an image gets the nearest.

        The stored vectors of a space whose model reads text are used; no image is opened. What the same source said
        before is replaced at the end, all at once; the user's labels stay as they are.

        Parameters
        ----------
        labels
            What an image may be; the same word in another case, or with other spaces, counts once.
        templates
            Prompts with ``{}`` where the label goes; a label's vector is the mean over them.
        others
            What else may be on an image: takes part in the comparison and is never written.
        where
            Only images that pass this filter.
        threshold, top
            A label is given from this probability on, and at most so many an image get. By default the best label,
            whatever its probability; for models trained with a sigmoid (SigLIP) every label from 0.1 on.
        space
            The vectors to use; by default those in which words are searched.
        source
            What to call the predictions: ``source:zero-shot`` finds them.
        dry_run
            Count only; nothing is written.
        each
            Called with the id of each image and its labels, (label, probability), the most probable first.
        report, progress
            Called with a sentence on what was left out or cut; with "words" or "images", how many, and of how many.

        Raises
        ------
        UsageError, FilterSyntaxError, TextUnsupportedError, GalleryEmptyError, GalleryLockedError
        """
        from vitseek.gallery.by_words import ByWords

        by_words = ByWords(self._catalog, self._matrices, self._models, self._classify_lock)
        return by_words.run([labels] if isinstance(labels, str) else list(labels), **options)

    def classify_head(self, **options: Unpack["HeadKeywords"]) -> "PredictionReport":
        """Label images with the classes that a checkpoint was trained on, such as ImageNet's thousand.

        Where the stored vectors are exactly what the head sees, they are used; else every image is opened, and an
        interrupted pass goes on where it stopped when it is called again with the same settings.

        Parameters
        ----------
        model
            The model with the head; by default the gallery's.
        names
            The names of its classes in order, where vitseek does not know them.
        where, threshold, top, source, dry_run, each, report, progress
            As in :meth:`classify_zero_shot`; the best five labels by default.
        batch_size
            Images opened and held at a time.

        Raises
        ------
        UsageError, FilterSyntaxError, GalleryEmptyError, GalleryLockedError
        """
        from vitseek.gallery.by_head import ByHead

        return ByHead(self._catalog, self._models, self._classify_lock).run(**options)

    def _classify_lock(self) -> WriteLock:
        timeout_s, waiting = self._lock_timeout_s, self._waiting
        return WriteLock(self._layout.classify_lock, "classifying", timeout_s=timeout_s, waiting=waiting)
