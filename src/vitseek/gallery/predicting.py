"""What every pass of a classifier over a gallery shares: counting, saving, becoming visible all at once."""

import heapq
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from vitseek.gallery.lock import WriteLock
from vitseek.gallery.records import Problem
from vitseek.gallery.stores.predictions import Predictions

Row = tuple[int, str, float]  # image id, label, probability
Report = Callable[[str], None]
Progress = Callable[[str, int, int], None]
"""Called with what is being done ("words" or "images"), how many of them are, and how many there are."""

Each = Callable[[int, Sequence[tuple[str, float]]], None]
"""Called with the id of an image and its labels, the most probable first."""

EXAMPLES = 3  # pictures a label that a report names
SAVE_ROWS = 20_000  # in one transaction


@dataclass(slots=True)
class LabelCount:
    """One label of a pass: how many pictures got it, how sure of it on average, and the surest ones (image ids)."""

    label: str
    images: int = 0
    mean_probability: float = 0.0
    examples: list[int] = field(default_factory=list)


@dataclass(slots=True)
class PredictionReport:
    """What a pass of a classifier did.

    Parameters
    ----------
    labels
        The most frequent first; also those that no picture got.
    images
        How many pictures were judged; ``labelled`` of them got at least one label.
    without_vector
        Pictures that the space has no vector of, which were not judged.
    skipped
        How many pictures could not be judged, and the first few with the reason in ``problems``.
    from_vectors
        Whether stored vectors were used: then no picture was opened.
    resumed
        How many pictures an interrupted pass with the same settings had judged already.
    saved
        Whether the labels are in the gallery; not after a trial run.
    """

    gallery: Path
    source: str
    model: str
    space: str | None = None
    labels: list[LabelCount] = field(default_factory=list)
    images: int = 0
    labelled: int = 0
    without_vector: int = 0
    skipped: int = 0
    problems: list[Problem] = field(default_factory=list)
    from_vectors: bool = True
    resumed: int = 0
    saved: bool = False
    seconds: float = 0.0
    notes: list[str] = field(default_factory=list)


class Tally:
    """Counts labels as they come; keeps the surest pictures of each."""

    def __init__(self, labels: Iterable[str] = ()) -> None:
        self._sums: dict[str, list[float]] = {label: [0, 0.0] for label in labels}
        self._surest: dict[str, list[tuple[float, int]]] = {}
        self.labelled = 0

    def add(self, image_id: int, found: Sequence[tuple[str, float]]) -> None:
        """One picture with its labels."""
        self.labelled += bool(found)
        for label, probability in found:
            sums = self._sums.setdefault(label, [0, 0.0])
            sums[0] += 1
            sums[1] += probability
            surest = self._surest.setdefault(label, [])
            entry = (probability, -image_id)  # of equally sure ones the first stays
            if len(surest) < EXAMPLES:
                heapq.heappush(surest, entry)
            else:
                heapq.heappushpop(surest, entry)

    def counts(self) -> list[LabelCount]:
        """Every label, the most frequent first; ties keep their order."""
        return sorted(
            (
                LabelCount(
                    label,
                    int(count),
                    total / count if count else 0.0,
                    [-number for _, number in sorted(self._surest.get(label, ()), reverse=True)],
                )
                for label, (count, total) in self._sums.items()
            ),
            key=lambda one: -one.images,
        )


class Pass:
    """One pass that writes, as a context manager; leaving it early leaves nothing that anybody sees.

    Parameters
    ----------
    lock
        Held meanwhile, so that two passes never mix; indexing and searching go on.
    resumable
        What an interrupted pass saved stays for the next one with the same settings; otherwise it is dropped.
    dry_run
        Nothing is written.
    """

    def __init__(
        self,
        predictions: Predictions,
        lock: WriteLock,
        *,
        source: str,
        model: str,
        details: dict[str, Any],
        resumable: bool = False,
        dry_run: bool = False,
    ) -> None:
        self._predictions = predictions
        self._lock = lock
        self._source, self._model = source, model
        self._details = json.dumps(details, ensure_ascii=False, sort_keys=True)
        self._resumable = resumable
        self._dry_run = dry_run
        self._rows: list[Row] = []
        self._saved_id = self._last_id = 0
        self._finished = False

    def __enter__(self) -> Self:
        if not self._dry_run:
            self._lock.__enter__()
            try:
                self._run = self._predictions.begin(
                    self._source, model=self._model, details=self._details, resume=self._resumable
                )
            except BaseException:
                self._lock.__exit__(None, None, None)
                raise
            self._saved_id = self._last_id = self._run.last_id
        return self

    @property
    def last_id(self) -> int:
        """The last image of the interrupted pass that this one goes on with; 0 if there is none."""
        return self._saved_id

    def earlier(self) -> list[tuple[int, list[tuple[str, float]]]]:
        """What that pass said, by image."""
        return [] if self._dry_run else self._predictions.of(self._run)

    def add(self, image_id: int, found: Sequence[tuple[str, float]]) -> None:
        """Keep the labels of one picture."""
        self._last_id = max(self._last_id, image_id)
        if not self._dry_run:
            self._rows.extend((image_id, label, probability) for label, probability in found)
            if len(self._rows) >= SAVE_ROWS:
                self.save()

    def save(self) -> None:
        """Write what has come so far; still nobody sees it."""
        if not self._dry_run and (self._rows or self._last_id > self._saved_id):
            self._predictions.save(self._run, self._rows, last_id=self._last_id)
            self._rows, self._saved_id = [], self._last_id

    def finish(self, covered: Sequence[int] | None) -> None:
        """Show everything at once, in place of what the source said before of the images ``covered`` (None: of all)."""
        if not self._dry_run:
            self.save()
            self._predictions.finish(self._run, covered)
            self._finished = True

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._dry_run:
            return
        try:
            if not self._finished:
                if self._resumable:
                    self.save()
                else:
                    self._predictions.discard(self._run)
        finally:
            self._lock.__exit__(kind, error, trace)
