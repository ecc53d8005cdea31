"""Label pictures by words alone, from the stored vectors of a space whose model reads text."""

import time
from collections.abc import Callable, Sequence
from typing import Any, TypedDict, cast

from vitseek.errors import UsageError
from vitseek.gallery.labels import checked_source
from vitseek.gallery.lock import WriteLock
from vitseek.gallery.matrix import MatrixCache
from vitseek.gallery.models import Models, empty
from vitseek.gallery.predicting import Each, Pass, PredictionReport, Progress, Report, Tally
from vitseek.gallery.spaces import Space
from vitseek.gallery.stores.catalog import Catalog
from vitseek.gallery.stores.predictions import Predictions
from vitseek.heads.labels import checked_templates, clean
from vitseek.heads.zero_shot import (
    DEFAULT_TEMPLATES,
    TextModel,
    choose,
    classifier,
    defaults,
    is_sigmoid,
    probabilities,
)
from vitseek.search import where as filters

SOURCE = "zero-shot"
SHOWN_REMARKS = 3
NUMBERS_AT_ONCE = 4_000_000  # probabilities held at a time, 16 MB
IMAGES_AT_ONCE = 8192


class ZeroShotKeywords(TypedDict, total=False):
    """What :meth:`vitseek.gallery.gallery.Gallery.classify_zero_shot` takes besides the labels."""

    templates: Sequence[str] | str
    others: Sequence[str] | str
    where: str | None
    threshold: float | None
    top: int | None
    space: str | int | None
    source: str
    dry_run: bool
    each: Each | None
    report: Report | None
    progress: Progress | None


class ByWords:
    """Joins a gallery's vectors and a text tower; see :meth:`vitseek.gallery.gallery.Gallery.classify_zero_shot`."""

    def __init__(self, catalog: Catalog, matrices: MatrixCache, models: Models, lock: Callable[[], WriteLock]) -> None:
        self._catalog = catalog
        self._matrices = matrices
        self._models = models
        self._lock = lock

    def run(
        self,
        labels: Sequence[str],
        *,
        templates: Sequence[str] | str = DEFAULT_TEMPLATES,
        others: Sequence[str] | str = (),
        where: str | None = None,
        threshold: float | None = None,
        top: int | None = None,
        space: str | int | None = None,
        source: str = SOURCE,
        dry_run: bool = False,
        each: Each | None = None,
        report: Report | None = None,
        progress: Progress | None = None,
    ) -> PredictionReport:
        started = time.perf_counter()
        checked_source(source)
        # What the call gets wrong is said before a model is loaded.
        clause = filters.parse(where).to_sql() if where else None
        templates = checked_templates([templates] if isinstance(templates, str) else templates, report=report)
        names = clean(labels, report=report)
        besides = _besides(names, others, report)
        _check_limits(top, threshold)
        chosen = self._space(space, report)
        model = cast("TextModel", self._models.of(chosen))
        _check_count(names, besides, model)
        usual = defaults(model, len(names))
        top, threshold = top or usual[0], usual[1] if threshold is None else threshold

        matrix = self._matrices.get(chosen)
        if len(matrix.ids) == 0:
            raise empty(self._catalog.folder)
        passing = self._catalog.ids(*clause) if clause else self._catalog.ids()
        numbers = matrix.rows_of(passing)
        remarks = _Remarks(report)
        rows = classifier(
            model,
            [*names, *besides],
            templates,
            report=remarks,
            progress=(lambda done, total: progress("words", done, total)) if progress else None,
        )

        remarks.close()
        tally = Tally(names)
        answer = PredictionReport(self._catalog.folder, source, chosen.key.model, chosen.name)
        answer.without_vector = len(passing) - len(numbers)
        details: dict[str, Any] = {
            "kind": SOURCE, "labels": names, "others": besides, "templates": list(templates), "top": top,
            "threshold": threshold, "where": where, "space": chosen.name,
        }  # fmt: skip
        writing = Pass(
            Predictions(self._catalog.database),
            self._lock(),
            source=source,
            model=chosen.key.model,
            details=details,
            dry_run=dry_run,
        )
        with writing:
            step = max(1, min(IMAGES_AT_ONCE, NUMBERS_AT_ONCE // len(rows)))
            for start in range(0, len(numbers), step):
                part = numbers[start : start + step]
                values = probabilities(matrix.rows[part], rows, model)
                places = choose(values, top=top, threshold=threshold)
                for image_id, line, chosen_places in zip(matrix.ids[part].tolist(), values, places, strict=True):
                    found = [(names[place], float(line[place])) for place in chosen_places if place < len(names)]
                    tally.add(image_id, found)
                    writing.add(image_id, found)
                    if each:
                        each(image_id, found)
                if progress:
                    progress("images", start + len(part), len(numbers))
            writing.finish(passing.tolist() if clause else None)
        answer.labels, answer.labelled, answer.images = tally.counts(), tally.labelled, len(numbers)
        answer.saved = not dry_run
        answer.seconds = time.perf_counter() - started
        return answer

    def _space(self, wanted: str | int | None, report: Report | None) -> Space:
        """The space to read: the named one, the default one if it understands words, else the first that does."""
        if wanted is not None:
            named = self._models.named(wanted)
            if not self._models.understands_words(named):
                raise self._models.no_words(named)
            return named
        default = self._models.space(None)
        found = self._models.words_space()
        if found is None:
            raise self._models.no_words(default)
        if found != default and report:
            report(f"words are understood by space {found.name!r}; {default.name!r} knows pictures only")
        return found


def _besides(names: Sequence[str], others: Sequence[str] | str, report: Report | None) -> list[str]:
    listed = [others] if isinstance(others, str) else list(others)
    if not listed:
        return []
    known = {name.casefold() for name in names}
    besides = clean(listed, report=report)
    both = [text for text in besides if text.casefold() in known]
    if both:
        raise UsageError(f"{', '.join(map(repr, both))} cannot be a label and something else at once")
    return besides


def _check_limits(top: int | None, threshold: float | None) -> None:
    if top is not None and top < 1:
        raise UsageError(f"top, the number of labels for a picture, must be at least 1; it is {top}")
    if threshold is not None and not 0 <= threshold <= 1:
        raise UsageError(f"threshold is a probability from 0 to 1; it is {threshold}")


def _check_count(names: Sequence[str], besides: Sequence[str], model: TextModel) -> None:
    if len(names) + len(besides) == 1 and not is_sigmoid(model):
        raise UsageError(
            f"with the one label {names[0]!r} every picture would get it: this model's labels share a probability of "
            f"1. Give another label, or say what else there may be: --other 'something else'"
        )


class _Remarks:
    """Hands on the first few remarks of the tokenizer and counts the others: there may be thousands of prompts."""

    def __init__(self, report: Report | None) -> None:
        self._report = report
        self._seen: set[str] = set()

    def __call__(self, text: str) -> None:
        if text not in self._seen and self._report and len(self._seen) < SHOWN_REMARKS:
            self._report(text)
        self._seen.add(text)

    def close(self) -> None:
        more = len(self._seen) - SHOWN_REMARKS
        if more > 0 and self._report:
            self._report(f"… and {more:,} more remarks of this kind")
