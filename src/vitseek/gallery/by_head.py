"""Label pictures with the classes that a checkpoint was trained on, such as ImageNet's thousand."""

import io
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from typing import Any, Protocol, TypedDict, cast

import numpy as np
from numpy.typing import NDArray

from vitseek.engines.threads import default_threads
from vitseek.errors import ImageError, UsageError
from vitseek.gallery.identity import content_hash
from vitseek.gallery.labels import checked_source
from vitseek.gallery.lock import WriteLock
from vitseek.gallery.models import ModelLike, Models, empty
from vitseek.gallery.predicting import Each, Pass, PredictionReport, Progress, Report, Tally
from vitseek.gallery.records import ImageRecord, Problem
from vitseek.gallery.spaces import EmbeddingModel, Space
from vitseek.gallery.stores.catalog import Catalog
from vitseek.gallery.stores.predictions import Predictions
from vitseek.heads.class_names import class_names, distinct
from vitseek.heads.zero_shot import choose, softmax
from vitseek.search import where as filters

SOURCE = "head"
TOP = 5
BATCH = 16
SAVE_S = 2.0  # an interrupted pass loses no more than this
FIRST_PROBLEMS = 20
SHOWN_MODELS = 6
VECTORS_AT_ONCE = 4096

Array = NDArray[np.float32]
Judgements = Generator["Judged", None, None]


class ClassifyingModel(EmbeddingModel, Protocol):
    """A model with a head; :class:`vitseek.engines.model.Model` is one."""

    labels: list[str] | None
    pooling: str

    @property
    def num_classes(self) -> int: ...
    @property
    def head_pooling(self) -> str | None: ...
    def preprocess(self, source: Any, *, report: Callable[[str], None] | None = None) -> Array: ...
    def classify(self, pixels: Array) -> Array: ...
    def classify_features(self, features: Array) -> Array: ...


class HeadKeywords(TypedDict, total=False):
    """What :meth:`vitseek.gallery.gallery.Gallery.classify_head` takes."""

    model: ModelLike | None
    names: Sequence[str] | None
    where: str | None
    threshold: float
    top: int
    source: str
    batch_size: int
    dry_run: bool
    each: Each | None
    report: Report | None
    progress: Progress | None


@dataclass(frozen=True, slots=True)
class Judged:
    """One picture: its logits, or why there are none."""

    id: int
    logits: Array | None = None
    problem: Problem | None = None


def require_head(model: ClassifyingModel) -> None:
    """UsageError, with models that have one, if a model has no head."""
    if model.num_classes:
        return
    from vitseek.zoo import ZOO

    able = sorted((row for row in ZOO.values() if row.config.num_classes), key=lambda row: row.size_bytes)
    names = ", ".join(row.name for row in able[:SHOWN_MODELS]) + (" and others" if len(able) > SHOWN_MODELS else "")
    known = f" Models that have one: {names} (vitseek models)." if able else ""
    raise UsageError(
        f"{model.name} has no classification head, only features.{known} Name one: --model NAME, or a checkpoint's file"
    )


def head_names(model: ClassifyingModel, given: Sequence[str] | None) -> tuple[list[str] | None, str]:
    """The names of a head's outputs, or None, and where they come from in words."""
    if given is None:
        return class_names(model.num_classes, known=model.labels)
    if len(given) != model.num_classes:
        raise UsageError(f"{len(given):,} names were given for the {model.num_classes:,} classes of {model.name}")
    return distinct(list(given)), "the names that were given"


class ByHead:
    """Joins a gallery and a head; see :meth:`vitseek.gallery.gallery.Gallery.classify_head`."""

    def __init__(self, catalog: Catalog, models: Models, lock: Callable[[], WriteLock]) -> None:
        self._catalog = catalog
        self._models = models
        self._lock = lock

    def run(
        self,
        *,
        model: ModelLike | None = None,
        names: Sequence[str] | None = None,
        where: str | None = None,
        threshold: float = 0.0,
        top: int = TOP,
        source: str = SOURCE,
        batch_size: int = BATCH,
        dry_run: bool = False,
        each: Each | None = None,
        report: Report | None = None,
        progress: Progress | None = None,
    ) -> PredictionReport:
        started = time.perf_counter()
        checked_source(source)
        clause = filters.parse(where).to_sql() if where else None
        if top < 1 or batch_size < 1:
            raise UsageError(f"top and batch_size must be at least 1; they are {top} and {batch_size}")
        if not 0 <= threshold <= 1:
            raise UsageError(f"threshold is a probability from 0 to 1; it is {threshold}")
        loaded, space = self._model(model)
        require_head(loaded)
        called, origin = head_names(loaded, names)
        if called is None:
            raise UsageError(
                f"{origin}, and numbers make no labels. Give a text file with one name a line, in the order of the "
                "outputs: --names FILE"
            )
        answer = PredictionReport(self._catalog.folder, source, loaded.name, space.name if space else None)
        answer.notes.append(origin)
        answer.from_vectors = space is not None and loaded.pooling == loaded.head_pooling
        passing = self._catalog.ids(*clause) if clause else self._catalog.ids()
        if len(passing) == 0 and clause is None:
            raise empty(self._catalog.folder)
        tally = Tally()
        details = {
            "kind": SOURCE, "classes": len(called), "top": top, "threshold": threshold, "where": where,
            "weights": loaded.space().weights_sha256, "preprocessing": loaded.space().preprocessing,
        }  # fmt: skip
        writing = Pass(
            Predictions(self._catalog.database),
            self._lock(),
            source=source,
            model=loaded.name,
            details=details,
            resumable=not answer.from_vectors,
            dry_run=dry_run,
        )
        with writing:
            covered = self._taken_over(writing, tally, passing, each, looked_at_all=threshold > 0)
            answer.resumed = answer.images = len(covered)
            todo = np.setdiff1d(passing, covered)
            done, saved_s = len(passing) - len(todo), time.monotonic()
            if answer.from_vectors and space is not None:
                judged = self._from_vectors(loaded, space, todo)
            else:
                judged = self._from_images(loaded, todo, batch_size)
            with closing(judged):
                for one in judged:
                    done += 1
                    if one.logits is not None:
                        values = softmax(one.logits.astype(np.float64))
                        [places] = choose(values[None], top=top, threshold=threshold)
                        found = [(called[place], float(values[place])) for place in places]
                        tally.add(one.id, found)
                        writing.add(one.id, found)
                        if each:
                            each(one.id, found)
                        covered.append(one.id)
                        answer.images += 1
                    elif one.problem is None:
                        answer.without_vector += 1
                    else:
                        answer.skipped += 1
                        answer.problems += [one.problem] if len(answer.problems) < FIRST_PROBLEMS else []
                    if time.monotonic() - saved_s > SAVE_S:
                        writing.save()
                        saved_s = time.monotonic()
                    if progress:
                        progress("images", done, len(passing))
            # What could not be looked at now keeps what was said of it before.
            writing.finish(None if clause is None and not answer.skipped else covered)
        answer.labels, answer.labelled = tally.counts(), tally.labelled
        answer.saved = not dry_run
        answer.seconds = time.perf_counter() - started
        if report and answer.resumed:
            report(f"{answer.resumed:,} images had been classified before the last run was interrupted")
        return answer

    def _model(self, wanted: ModelLike | None) -> tuple[ClassifyingModel, Space | None]:
        """The model to use and its space here, if it has one."""
        loaded = self._models.load(wanted) if wanted is not None else self._models.wanted()
        if loaded is None:
            space = self._models.space(None)
            return cast("ClassifyingModel", self._models.of(space)), space
        key = loaded.space()
        space_here = next((space for space in self._catalog.spaces() if space.key == key), None)
        return cast("ClassifyingModel", loaded), space_here

    def _taken_over(
        self, writing: Pass, tally: Tally, passing: NDArray[np.int64], each: Each | None, *, looked_at_all: bool
    ) -> list[int]:
        """The images that an interrupted pass has judged.

        Parameters
        ----------
        looked_at_all
            Whether an image without a label was judged like the others: there is a threshold. Without one it could not
            be opened, or was edited since, and gets another look.
        """
        covered = set(passing[passing <= writing.last_id].tolist()) if looked_at_all else set()
        for number, found in writing.earlier():
            tally.add(number, found)
            covered.add(number)
            if each:
                each(number, found)
        return sorted(covered)

    def _from_vectors(self, model: ClassifyingModel, space: Space, ids: NDArray[np.int64]) -> Judgements:
        for start in range(0, len(ids), VECTORS_AT_ONCE):
            part = ids[start : start + VECTORS_AT_ONCE].tolist()
            vectors = self._catalog.vectors(space, part)
            known = [number for number in part if number in vectors]
            logits = model.classify_features(np.stack([vectors[number] for number in known])) if known else ()
            by_id = dict(zip(known, logits, strict=True))
            yield from (Judged(number, by_id.get(number)) for number in part)

    def _from_images(self, model: ClassifyingModel, ids: NDArray[np.int64], batch_size: int) -> Judgements:
        """Open, check and classify pictures; decoding runs one batch ahead in threads."""
        batches = [ids[start : start + batch_size].tolist() for start in range(0, len(ids), batch_size)]
        with ThreadPoolExecutor(default_threads(), thread_name_prefix="vitseek-decode") as pool:
            try:
                ahead: list[list[Future[_Decoded]]] = []
                for number in range(len(batches) + 1):
                    if number < len(batches):
                        records = self._catalog.images(batches[number])
                        ahead.append([pool.submit(_decode, model, record) for record in records])
                    if number:
                        yield from _classify(model, [future.result() for future in ahead.pop(0)])
            finally:
                pool.shutdown(cancel_futures=True)


@dataclass(frozen=True, slots=True)
class _Decoded:
    record: ImageRecord
    pixels: Array | None = None
    reason: str = ""


def _decode(model: ClassifyingModel, record: ImageRecord) -> _Decoded:
    try:
        data = record.path.read_bytes()
    except OSError as error:
        return _Decoded(record, reason=f"cannot be read now ({error.strerror})")
    if record.content_hash is None or content_hash(io.BytesIO(data)).hex() != record.content_hash:
        return _Decoded(record, reason="changed since it was indexed; run vitseek index first")
    try:
        return _Decoded(record, model.preprocess(data))
    except ImageError as error:
        return _Decoded(record, reason=error.reason)


def _classify(model: ClassifyingModel, batch: list[_Decoded]) -> Iterator[Judged]:
    sizes: dict[tuple[int, ...], list[int]] = {}
    for place, one in enumerate(batch):
        if one.pixels is not None:
            sizes.setdefault(one.pixels.shape, []).append(place)
    logits: dict[int, Array] = {}
    for places in sizes.values():
        given = model.classify(np.stack([cast("Array", batch[place].pixels) for place in places]))
        logits.update(zip(places, given, strict=True))
    for place, one in enumerate(batch):
        if place in logits:
            yield Judged(one.record.id, logits[place])
        else:
            yield Judged(one.record.id, problem=Problem(one.record.path, one.reason))
