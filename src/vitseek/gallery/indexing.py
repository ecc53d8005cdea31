"""Bring an index up to date with its folders: list, compare, read, embed, save.

    walk ─► scan (SQL) ─► jobs ─► worker threads ─► batches ─► model ─► transactions
            unchanged              hash, decode      by shape            every 2 s

The worker threads are a bounded window ahead of the model, so that memory does not grow with the gallery.
Everything that is saved is complete: killed at any moment, the next run finds what is left to do.
"""

import json
import os
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from vitseek.engines.cores import usable_cores
from vitseek.errors import StorageError, WeightsError
from vitseek.gallery.budget import PixelBudget
from vitseek.gallery.folders import Scope
from vitseek.gallery.identity import FileStamp, display
from vitseek.gallery.rate import Rate
from vitseek.gallery.reading import Reading, read_image
from vitseek.gallery.records import IndexProgress, IndexReport, Problem
from vitseek.gallery.spaces import EmbeddingModel, Sample, Space
from vitseek.gallery.stores.catalog import Catalog, Root
from vitseek.gallery.stores.scan import Job, Outcome, Scan
from vitseek.gallery.walk import Found, Walk, reason_of
from vitseek.preprocess.image import IMAGE_SUFFIXES

COMMIT_S = 2.0  # what a power cut can cost
COMMIT_ROWS = 512
FILES_AT_ONCE = 1000
FIRST_PROBLEMS = 20  # shown in a report; all of them: Gallery.unreadable()
MAX_WORKERS = 8
AHEAD_BYTES = 64 * 2**20  # pixels that wait for the model, besides those of a batch

Progress = Callable[[IndexProgress], None]


@dataclass(frozen=True, kw_only=True)
class IndexOptions:
    """How a run goes about it.

    Parameters
    ----------
    batch_size
        Images in one forward pass.
    workers
        Threads that read and decode; by default one a core, at most eight.
    folder_labels
        The first folder below the root becomes a label.
    forget_missing
        Believe that an empty root or a vanished mount point means deleted images.
    restore_removed
        Take back images that were removed from the gallery and still lie in the folder.
    retry_unreadable
        Try unreadable files again although they did not change.
    rehash
        Read every file, also those whose size and times did not change.
    """

    batch_size: int = 16
    workers: int | None = None
    folder_labels: bool = False
    forget_missing: bool = False
    restore_removed: bool = False
    retry_unreadable: bool = False
    rehash: bool = False


class Indexer:
    """One run. The caller holds the write lock."""

    def __init__(
        self,
        catalog: Catalog,
        *,
        choose: Callable[[Sample], Space],
        load: Callable[[Space], EmbeddingModel],
        options: IndexOptions,
        gallery: Path,
        progress: Progress | None = None,
    ) -> None:
        self._catalog = catalog
        self._choose = choose
        self._load = load
        self._options = options
        self._progress = progress or (lambda _: None)
        self._scan = Scan(catalog)
        self._model: EmbeddingModel | None = None
        self.space: Space | None = None
        self.report = IndexReport(gallery)
        self._counts: Counter[str] = Counter()
        self._roots: dict[int, Path] = {}
        self._total = self._done = self._saved = 0
        self._rate = Rate(0)
        self._budget = PixelBudget()
        self._pending: list[Outcome] = []
        self._fresh: set[bytes] = set()  # contents embedded but not yet saved
        self._batches: dict[tuple[int, ...], list[Reading]] = {}
        self._twins: dict[bytes, list[Reading]] = {}
        self._last_commit = time.monotonic()

    def run(self, scopes: Sequence[Scope], *, complete: bool) -> IndexReport:
        """Look at ``scopes``; ``complete`` if they are all roots of the gallery, whole."""
        started = time.monotonic()
        run_id = self._open_run()
        self._roots = {scope.root.id: scope.root.path for scope in scopes}
        with self._scan:
            for scope in scopes:
                self._list(scope)
            found = self._scan.count("scan")
            if found or self._catalog.default_space():  # an empty folder is no reason to load or fetch a model
                self.space = self._choose(self._sample)
                self._scan.space_id = self.space.id
            self._scan.compare(
                restore=self._options.restore_removed,
                retry_unreadable=self._options.retry_unreadable,
                rehash=self._options.rehash,
            )
            self.report.kept = self._scan.unseen_kept()
            self._total = self._scan.count("jobs")
            self._counts["unchanged"] = found - self._total
            self._rate = Rate(self._total)
            if self._options.folder_labels:
                self._scan.label_all_by_folder()
            if self._total:
                self._work()
            self._say("finish")
            self._counts.update(self._scan.finish(complete=complete, folder_labels=self._options.folder_labels))
        self._close_run(run_id, time.monotonic() - started)
        return self.report

    def _sample(self, count: int) -> list[Path]:
        return [self._roots[root] / os.fsdecode(raw_path) for root, raw_path in self._scan.spread(count)]

    # -- list

    def _list(self, scope: Scope) -> None:
        root, raw_path = scope
        path = root.path / os.fsdecode(raw_path)
        if not root.path.is_dir():
            self._keep(root, b"", self.report.offline, "is not there")
            return
        if raw_path and not raw_path.endswith(b"/"):
            self._list_file(root, raw_path)
            return
        if raw_path and not path.is_dir():
            self._scan.add_scope(root.id, raw_path)  # the folder was deleted, and its root is there
            return
        others = [os.fsencode(other.path) for other in self._catalog.roots() if other.id != root.id]
        walk = Walk(os.fsencode(root.path), IMAGE_SUFFIXES, others)
        found = self._list_files(root, walk, raw_path)
        self.report.other_files += walk.other_files
        for relative, reason in walk.unseen:
            self._keep(root, relative, self.report.unseen, reason)
        self._compare_mounts(root, raw_path, walk)
        if not raw_path and not found and self._scan.known_below(root.id, b"") and not self._options.forget_missing:
            self._keep(root, b"", self.report.offline, "is empty")
            return
        self._scan.add_scope(root.id, raw_path)

    def _list_files(self, root: Root, walk: Walk, raw_path: bytes) -> int:
        found = 0
        part: list[Found] = []
        for file in walk.files(raw_path):
            part.append(file)
            if len(part) == FILES_AT_ONCE:
                self._scan.add_files(root.id, part)
                found += len(part)
                part = []
                self._progress(IndexProgress("scan", self._scan.count("scan"), None))
        self._scan.add_files(root.id, part)
        return found + len(part)

    def _list_file(self, root: Root, raw_path: bytes) -> None:
        try:
            stamp = FileStamp.of((root.path / os.fsdecode(raw_path)).stat())
        except FileNotFoundError:
            self._scan.add_scope(root.id, raw_path)
        except OSError as error:
            self._keep(root, raw_path, self.report.unseen, reason_of(error))
        else:
            self._scan.add_files(root.id, [(raw_path, stamp)])

    def _keep(self, root: Root, raw_path: bytes, where: list[Problem], reason: str) -> None:
        """Nothing below is deleted, because nothing is known of it."""
        self._scan.add_unseen(root.id, raw_path)
        where.append(Problem(root.path / os.fsdecode(raw_path), reason))

    def _compare_mounts(self, root: Root, raw_path: bytes, walk: Walk) -> None:
        rows = self._catalog.database.rows("SELECT raw_path FROM mounts WHERE root_id = ?", (root.id,))
        before = {row[0] for row in rows if row[0].startswith(raw_path)}
        lost = set() if self._options.forget_missing else before - set(walk.mounts)
        for mount in sorted(lost):
            if self._scan.known_below(root.id, mount):
                self._keep(root, mount, self.report.offline, "was a mounted disk, and is not mounted now")
        with self._catalog.database.writing() as connection:
            connection.executemany(
                "DELETE FROM mounts WHERE root_id = ? AND raw_path = ?", [(root.id, path) for path in before]
            )
            connection.executemany(
                "INSERT OR IGNORE INTO mounts (root_id, raw_path) VALUES (?, ?)",
                [(root.id, path) for path in {*walk.mounts, *lost}],
            )

    # -- read, embed, save

    def _work(self) -> None:
        workers = self._options.workers or min(MAX_WORKERS, usable_cores())
        pool = ThreadPoolExecutor(workers, thread_name_prefix="vitseek-read")
        try:
            for reading in self._readings(pool, workers):
                self._take(reading)
                if time.monotonic() - self._last_commit > COMMIT_S or len(self._pending) >= COMMIT_ROWS:
                    self._commit()
                self._say("index", reading.job)
            for shape in list(self._batches):
                self._embed(shape)
            self._commit()
        except StorageError:
            raise
        except BaseException:
            self._commit()  # Ctrl-C, a failing model: what is embedded is not thrown away
            raise
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def _readings(self, pool: ThreadPoolExecutor, workers: int) -> Iterator[Reading]:
        """What the workers read, in the order of the jobs; how far they are ahead depends on the size of the pixels.

        Twice a batch lets them work while the model computes; large pixels get less, but every worker something to do.
        """
        window: deque[Future[Reading]] = deque()
        jobs = self._scan.jobs()
        ahead = 2 * workers
        while True:
            while len(window) < ahead and (job := next(jobs, None)) is not None:
                window.append(pool.submit(self._read, job))
            if not window:
                return
            reading = window.popleft().result()
            if reading.pixels is not None:
                fitting = AHEAD_BYTES // reading.pixels.nbytes
                ahead = max(workers + 1, min(2 * self._options.batch_size + workers, fitting))
            yield reading

    def _read(self, job: Job) -> Reading:
        return read_image(
            self._roots[job.root_id], job, lambda: self._loaded().preprocessing, self._is_known, self._budget
        )

    def _loaded(self) -> EmbeddingModel:
        """The model, once the first unknown picture asks for it: a run that finds nothing new starts at once."""
        if self._model is None:
            assert self.space is not None
            self._model = self._load(self.space)
        return self._model

    def _is_known(self, digest: bytes) -> bool:
        assert self.space is not None
        return self._catalog.has_vector(self.space.id, digest)

    def _take(self, reading: Reading) -> None:
        if reading.pixels is None or reading.digest in self._fresh:
            self._settle(reading)
        elif reading.digest in self._twins:
            self._twins[reading.digest].append(replace(reading, pixels=None))  # a copy of one in this batch
        else:
            assert reading.digest is not None
            self._twins[reading.digest] = []
            batch = self._batches.setdefault(reading.pixels.shape, [])
            batch.append(reading)
            if len(batch) >= self._options.batch_size:
                self._embed(reading.pixels.shape)
            elif sum(map(len, self._batches.values())) >= 2 * self._options.batch_size:
                self._embed(max(self._batches, key=lambda shape: len(self._batches[shape])))

    def _embed(self, shape: tuple[int, ...]) -> None:
        batch = self._batches.pop(shape)
        pixels = np.stack([reading.pixels for reading in batch if reading.pixels is not None])
        model = self._loaded()
        start = time.perf_counter()
        features = model.embed_pixels(pixels)
        features = np.asarray(features, np.float32)
        usable = [bool(np.isfinite(vector).all()) for vector in features]
        if not features.any() or (len(batch) > 1 and not any(usable)):
            what = "makes zeros alone of every picture" if any(usable) else "gives infinite or undefined features"
            raise WeightsError(
                f"the model {model.name} {what}: its weights are empty or damaged. Fetch them again (`vitseek models "
                "pull NAME`), or export the model again"
            )
        self.report.embed_s += time.perf_counter() - start
        self.report.embedded += len(batch)
        for reading, vector, is_usable in zip(batch, features, usable, strict=True):
            assert reading.digest is not None
            twins = self._twins.pop(reading.digest)
            if is_usable:
                self._fresh.add(reading.digest)
                self._settle(reading, vector.copy())
                for twin in twins:
                    self._settle(twin)
            else:
                self._leave_out((reading, *twins), f"the model {model.name} gave infinite or undefined features for it")

    def _leave_out(self, readings: Sequence[Reading], reason: str) -> None:
        """Pictures that the model can do nothing with: unreadable, unless another space shows that they are not."""
        for reading in readings:
            if reading.digest is not None and self._catalog.has_vector_anywhere(reading.digest):
                if len(self.report.notes) < FIRST_PROBLEMS:
                    self.report.notes.append(f"{display(reading.job.raw_path)} has no vector in this space: {reason}")
                self._settle(reading)
            else:
                self._settle(replace(reading, digest=None, reason=reason))

    def _settle(self, reading: Reading, vector: NDArray[np.float32] | None = None) -> None:
        self._pending.append(
            Outcome(
                reading.job,
                reading.checked_ns,
                reading.digest,
                reading.width,
                reading.height,
                reading.taken,
                vector,
                reading.reason,
                reading.retry,
            )
        )
        self._done += 1

    def _commit(self) -> None:
        if self._pending:
            self._counts.update(self._scan.save(self._pending, folder_labels=self._options.folder_labels))
            self._saved += len(self._pending)
            self._pending.clear()
            self._fresh.clear()
        self._last_commit = time.monotonic()

    def _say(self, phase: Literal["index", "finish"], job: Job | None = None) -> None:
        rate, remaining = self._rate.update(self._done)
        name = display(job.raw_path) if job else None
        self._progress(IndexProgress(phase, self._done, self._total, self._saved, rate, remaining, name))

    # -- the record of the run

    def _open_run(self) -> int:
        now = datetime.now().astimezone().isoformat(timespec="seconds")
        with self._catalog.database.writing() as connection:
            cursor = connection.execute("INSERT INTO runs (started) VALUES (?)", (now,))
            assert cursor.lastrowid is not None
            return cursor.lastrowid

    def _close_run(self, run_id: int, seconds: float) -> None:
        report = self.report
        for kind in ("new", "unchanged", "renamed", "changed", "removed", "restored", "filled", "duplicates"):
            setattr(report, kind, self._counts[kind])
        report.unreadable_new = self._counts["unreadable"]
        unreadable = self._catalog.ids_with_status("unreadable")
        report.unreadable = len(unreadable)
        first = self._catalog.images(unreadable[:FIRST_PROBLEMS].tolist())
        report.problems = [Problem(record.path, record.reason or "") for record in first]
        if self.space is not None:
            report.space = self.space.name
            report.images = self._catalog.count_in_space(self.space.id)
        report.seconds = seconds
        report.images_per_s = self._done / seconds if self._done else None
        now = datetime.now().astimezone().isoformat(timespec="seconds")
        with self._catalog.database.writing() as connection:
            connection.execute(
                "UPDATE runs SET finished = ?, space_id = ?, report = ? WHERE id = ?",
                (now, self.space.id if self.space else None, json.dumps(report.to_dict()), run_id),
            )
            connection.execute("DELETE FROM runs WHERE id <= ? - 100", (run_id,))
