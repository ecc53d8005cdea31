"""The gallery: a folder of images and its index, as one object."""

import os
import threading
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self, overload

import numpy as np
from numpy.typing import NDArray

from vitseek.errors import (
    GalleryEmptyError,
    GalleryMismatchError,
    GalleryNotFoundError,
    ImageNotFoundError,
    OutsideGalleryError,
    UsageError,
)
from vitseek.gallery import place
from vitseek.gallery.identity import display
from vitseek.gallery.indexing import Indexer, IndexOptions, Progress, Scope
from vitseek.gallery.lock import Holder, WriteLock
from vitseek.gallery.lock import writer as current_writer
from vitseek.gallery.matrix import MatrixCache
from vitseek.gallery.place import Layout
from vitseek.gallery.queries import Query, is_several, resolve
from vitseek.gallery.records import GalleryStatus, ImageRecord, IndexReport, Problem, RootStatus, SpaceStatus
from vitseek.gallery.spaces import EmbeddingModel, Space, SpaceKey, key_of, load_model, mismatch
from vitseek.gallery.stores.catalog import Catalog, Root
from vitseek.gallery.stores.migrate import schema_version
from vitseek.gallery.stores.scan import drop_unused_contents
from vitseek.gallery.stores.sqlite import Database
from vitseek.search import where as filters
from vitseek.search.exact import top_k
from vitseek.search.results import Match

PathLike = str | os.PathLike[str]
CHUNK = 1000


class Gallery:
    """Images of one or several folders, their labels and vectors; close it, or use it in a ``with`` block.

    Reading is safe from several threads and processes at once, also while one of them indexes.

    Parameters
    ----------
    path
        The gallery folder; the index is ``path/.vitseek/``.
    roots
        Folders to index. By default those that the index knows, or else ``path`` itself.
    create
        Make the index if there is none; otherwise that is an error.
    model
        A model, or what ``vitseek.load`` takes. By default the one that made the gallery's vectors.
    lock_timeout_s
        How long writing calls wait for another writing process.
    waiting
        Called with the other process (or None) when there is one to wait for.

    Raises
    ------
    GalleryNotFoundError, GalleryVersionError, GalleryCorruptError, StorageError
    """

    def __init__(
        self,
        path: PathLike,
        *,
        roots: Sequence[PathLike] | None = None,
        create: bool = True,
        model: EmbeddingModel | PathLike | None = None,
        lock_timeout_s: float = 10.0,
        waiting: Any = None,
    ) -> None:
        self.path = Path(os.path.abspath(Path(path)))  # noqa: PTH100  # resolve() would follow links: a moved link is a moved gallery
        self._layout = Layout(self.path)
        self._lock_timeout_s = lock_timeout_s
        self._waiting = waiting
        if not self._layout.exists() and not create:
            raise GalleryNotFoundError(f"{self.path} has no index. Make one with: vitseek index {self.path}")
        if not self.path.is_dir():
            raise GalleryNotFoundError(f"{self.path} is not a folder. Is the disk mounted, and the name right?")
        read_only = self._layout.exists() and not os.access(self._layout.index, os.W_OK)
        if not read_only and not self._layout.exists():
            self._layout.create()
        self._catalog = Catalog(Database(self._layout.database, read_only=read_only), self.path)
        self._matrices = MatrixCache(self._catalog, self._layout)
        self._given_model = model
        self._models: dict[int, EmbeddingModel] = {}
        self._model_mutex = threading.Lock()
        for root in roots or ():
            self._add_root(Path(os.path.abspath(Path(root))))  # noqa: PTH100
        if not read_only and not self._catalog.roots():
            self._catalog.add_root(self.path)

    locate = staticmethod(place.locate)
    """Which gallery is meant without naming it: see :func:`vitseek.gallery.place.locate`."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Gallery({str(self.path)!r})"

    def close(self) -> None:
        """Let go of files and connections."""
        self._matrices.forget()
        self._catalog.database.close()

    # -- models and spaces

    @property
    def model(self) -> EmbeddingModel:
        """The model of the space that is searched by default, loaded on first use."""
        return self._model_of(self._space(None))

    @property
    def roots(self) -> list[Path]:
        """The folders that are indexed."""
        return [root.path for root in self._catalog.roots()]

    def use_space(self, name: str | int) -> None:
        """Make another space the default one."""
        self._catalog.set_meta("default_space", str(self._named_space(name).id))

    def space(self, name: str | int | None = None) -> Space:
        """The space that a search uses: which model made its vectors, and how wide they are."""
        return self._space(name)

    def _space(self, wanted: str | int | None) -> Space:
        """The space that a search means: named, or that of the given model, or the default one."""
        if wanted is not None:
            return self._named_space(wanted)
        spaces = self._catalog.spaces()
        if not spaces:
            raise GalleryEmptyError(f"gallery {self.path} holds no images yet. Index them: vitseek index {self.path}")
        if self._given_model is not None:
            model = self._loaded_given_model()
            found = next((space for space in spaces if space.key == key_of(model)), None)
            if found is None:
                raise mismatch(self.path, spaces, key_of(model))
            self._models[found.id] = model
            return found
        default = self._catalog.default_space()
        return default if default is not None else spaces[0]

    def _named_space(self, name: str | int) -> Space:
        spaces = self._catalog.spaces()
        for space in spaces:
            if name in (space.name, space.id):
                return space
        raise GalleryMismatchError(
            f"gallery {self.path.name!r} has no space {name!r}; "
            f"it has {', '.join(repr(space.name) for space in spaces) or 'none yet'}."
        )

    def _model_of(self, space: Space) -> EmbeddingModel:
        with self._model_mutex:
            if space.id not in self._models:
                self._models[space.id] = load_model(space, self.path)
            return self._models[space.id]

    def _loaded_given_model(self) -> EmbeddingModel:
        with self._model_mutex:
            if isinstance(self._given_model, (str, os.PathLike)):
                self._given_model = _load(self._given_model)
            assert self._given_model is not None
            return self._given_model

    def _space_to_fill(self, model: EmbeddingModel | PathLike | None) -> tuple[Space, EmbeddingModel]:
        source: str | None = None
        if model is None and self._given_model is None and (default := self._catalog.default_space()):
            return default, self._model_of(default)
        wanted = model if model is not None else self._given_model
        if wanted is None:
            from vitseek.zoo import DEFAULT_MODEL

            wanted = DEFAULT_MODEL
        if isinstance(wanted, (str, os.PathLike)):
            text = os.fspath(wanted)
            source = os.path.abspath(text) if os.path.exists(text) else text  # noqa: PTH100, PTH110
            loaded = _load(wanted) if model is not None or self._given_model is None else self._loaded_given_model()
        else:
            loaded, source = wanted, getattr(wanted, "source", None) or wanted.name
        key = key_of(loaded)
        space = next((space for space in self._catalog.spaces() if space.key == key), None)
        if space is None:
            policy = loaded.preprocessing.policy
            space = self._catalog.add_space(key, name=None, source=str(source), policy=policy)
        self._models[space.id] = loaded
        return space, loaded

    # -- index

    def index(
        self,
        paths: Iterable[PathLike] | PathLike | None = None,
        *,
        model: EmbeddingModel | PathLike | None = None,
        batch_size: int = 16,
        workers: int | None = None,
        labels_from_folders: bool | None = None,
        forget_missing: bool = False,
        restore_removed: bool = False,
        retry_unreadable: bool = False,
        rehash: bool = False,
        progress: Progress | None = None,
    ) -> IndexReport:
        """Bring the index up to date; interrupted at any moment, the next call goes on.

        Parameters
        ----------
        paths
            Look at these only: folders or files inside a root, or new folders, which become roots.
        model
            Fill the space of this model; by default the gallery's own.
        labels_from_folders
            The first folder below the root becomes a label. Remembered; None means as last time.
        batch_size, workers, forget_missing, restore_removed, retry_unreadable, rehash
            See :class:`vitseek.gallery.indexing.IndexOptions`.
        progress
            Called from this thread, several times a second.

        Raises
        ------
        GalleryLockedError
            If another process is indexing and does not end in time.
        StorageError
            If the disk is full; what was saved stays.
        """
        for name, value in (("batch_size", batch_size), ("workers", workers)):
            if value is not None and value < 1:
                raise UsageError(f"{name} must be at least 1; it is {value}")
        with self._lock("indexing"):
            scopes = self._scopes(paths)
            space, loaded = self._space_to_fill(model)
            if labels_from_folders is not None:
                self._catalog.set_meta("labels_from_folders", str(int(labels_from_folders)))
            options = IndexOptions(
                batch_size=batch_size,
                workers=workers,
                folder_labels=self._catalog.meta("labels_from_folders") == "1",
                forget_missing=forget_missing,
                restore_removed=restore_removed,
                retry_unreadable=retry_unreadable,
                rehash=rehash,
            )
            if labels_from_folders is False:
                self._drop_folder_labels()
            indexer = Indexer(self._catalog, space, loaded, options, gallery=self.path, progress=progress)
            report = indexer.run(scopes, complete=paths is None)
            try:
                self._matrices.write(space)
            except OSError as error:
                report.notes.append(f"the search cache could not be written ({error.strerror}); searching takes longer")
        place.remember(self.path)
        return report

    def _scopes(self, paths: Iterable[PathLike] | PathLike | None) -> list[Scope]:
        if paths is None:
            return [Scope(root, b"") for root in self._catalog.roots()]
        scopes = []
        for path in [paths] if isinstance(paths, (str, os.PathLike)) else paths:
            absolute = Path(os.path.abspath(Path(path)))  # noqa: PTH100
            found = self._within(absolute)
            if found is not None:
                root, raw = found
                is_file = raw and absolute.is_file()
                scopes.append(Scope(root, raw if is_file or not raw else raw + b"/"))
            elif absolute.is_dir():
                scopes.append(Scope(self._add_root(absolute), b""))
            else:
                raise self._outside(absolute, "Name its folder to add it to the gallery.")
        return scopes

    def _add_root(self, path: Path) -> Root:
        if not path.is_dir():
            raise GalleryNotFoundError(f"{path} is not a folder. Is the disk mounted, and the name right?")
        found = self._within(path)
        if found is not None and not found[1]:
            return found[0]
        return self._catalog.add_root(path)

    def _drop_folder_labels(self) -> None:
        with self._catalog.database.writing() as connection:
            connection.execute("DELETE FROM labels WHERE source = 'folder'")

    def _lock(self, job: str) -> WriteLock:
        def waiting(other: Holder | None) -> None:
            if self._waiting:
                self._waiting(other)

        return WriteLock(self._layout.lock, job, timeout_s=self._lock_timeout_s, waiting=waiting)

    # -- search

    @overload
    def search(
        self,
        query: list[Any] | tuple[Any, ...],
        *,
        k: int = ...,
        where: str | None = ...,
        exclude_query: bool = ...,
        space: str | int | None = ...,
    ) -> list[list[Match]]: ...
    @overload
    def search(
        self,
        query: Query,
        *,
        k: int = ...,
        where: str | None = ...,
        exclude_query: bool = ...,
        space: str | int | None = ...,
    ) -> list[Match]: ...
    def search(
        self,
        query: Any,
        *,
        k: int = 10,
        where: str | None = None,
        exclude_query: bool = False,
        space: str | int | None = None,
    ) -> list[Match] | list[list[Match]]:
        """The most similar images, best first.

        Parameters
        ----------
        query
            An image (path, bytes, stream, Pillow image), the id of one, a feature vector (D,); or several of these
            in a list or as a matrix (n, D), which gives a list of results each.
        k
            How many; with fewer images in the gallery, all of them.
        where
            A filter such as ``label:dress width>=800``: see :mod:`vitseek.search.where`.
        exclude_query
            Leave out the query itself and its copies (same content).
        space
            Search this space instead of the default one.

        Returns
        -------
        matches whose score is the cosine of the feature vectors, −1 to 1

        Raises
        ------
        UsageError, FilterSyntaxError, GalleryEmptyError, GalleryMismatchError, UnreadableImageError, ImageNotFoundError
        """
        if isinstance(k, bool) or not isinstance(k, (int, np.integer)) or k < 1:
            raise UsageError(f"k, the number of matches, must be a whole number of at least 1; it is {k!r}")
        several = is_several(query)
        queries = list(query) if several else [query]
        chosen = self._space(space)
        clause = filters.parse(where).to_sql() if where else None
        matrix = self._matrices.get(chosen)
        if len(matrix.ids) == 0:
            raise GalleryEmptyError(f"gallery {self.path} holds no images yet. Index them: vitseek index {self.path}")
        if not queries:
            return []
        resolved = resolve(queries, self._catalog, chosen, lambda: self._model_of(chosen))
        rows = None if clause is None else matrix.rows_of(self._catalog.ids(clause[0], list(clause[1])))
        spare = max(len(one.own_ids) for one in resolved) if exclude_query else 0
        vectors = np.stack([one.vector for one in resolved])
        scores, found = top_k(matrix.rows, vectors, int(k) + spare, rows=rows)
        answers = []
        for one, row_scores, row_numbers in zip(resolved, scores, found, strict=True):
            hits = list(zip(matrix.ids[row_numbers].tolist(), row_scores.tolist(), strict=True))
            if exclude_query:
                hits = [hit for hit in hits if hit[0] not in one.own_ids]
            answers.append(self._matches(hits[: int(k)]))
        return answers if several else answers[0]

    def _matches(self, hits: list[tuple[int, float]]) -> list[Match]:
        records = {record.id: record for record in self._catalog.images([number for number, _ in hits])}
        return [
            Match(
                id=number,
                path=record.path,
                score=score,
                labels=record.labels,
                width=record.width,
                height=record.height,
                bytes=record.bytes,
                modified=record.modified,
            )
            for number, score in hits
            if (record := records.get(number)) is not None  # deleted by another process a moment ago
        ]

    # -- look

    def image(self, image_id: int) -> ImageRecord:
        """What is known of an image; ImageNotFoundError for an unknown id."""
        record = self._catalog.image(image_id)
        if record is None:
            raise ImageNotFoundError(f"no image {image_id} in gallery {self.path.name!r}")
        return record

    def image_id(self, path: PathLike) -> int | None:
        """The id of a file; None if it lies in a root but is not indexed, OutsideGalleryError if it lies in none."""
        absolute = Path(os.path.abspath(Path(path)))  # noqa: PTH100
        found = self._within(absolute)
        if found is None:
            raise self._outside(absolute)
        return self._catalog.image_id(found[0].id, found[1])

    def images(self, where: str | None = None, limit: int | None = None, offset: int = 0) -> Iterator[ImageRecord]:
        """Usable images that match a filter, by id."""
        if offset < 0 or (limit is not None and limit < 0):
            raise UsageError(f"limit and offset cannot be negative; they are {limit} and {offset}")
        clause = filters.parse(where).to_sql() if where else (None, ())
        ids = self._catalog.ids(clause[0], list(clause[1]))
        return self._records(ids[offset:] if limit is None else ids[offset : offset + limit])

    def unreadable(self) -> Iterator[ImageRecord]:
        """Files that could not be used, each with its reason."""
        return self._records(self._catalog.ids_with_status("unreadable"))

    def _records(self, ids: NDArray[np.int64]) -> Iterator[ImageRecord]:
        for start in range(0, len(ids), CHUNK):
            yield from self._catalog.images(ids[start : start + CHUNK].tolist())

    def count(self, where: str | None = None) -> int:
        """How many usable images match a filter."""
        clause = filters.parse(where).to_sql() if where else (None, ())
        return len(self._catalog.ids(clause[0], list(clause[1])))

    def vectors(self, space: str | int | None = None) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """(ids, matrix): the unit vectors that a search compares, shapes (n,) and (n, D), ids ascending.

        The matrix may be mapped from a file and read-only. For the features as the model gave them:
        :meth:`export_features`.
        """
        matrix = self._matrices.get(self._space(space))
        return matrix.ids, matrix.rows

    # -- labels, removal

    def add_labels(self, ids: Iterable[int], labels: Iterable[str] | str) -> None:
        """Give labels to images; they stay through re-indexing, renaming and editing of the files."""
        numbers = self._checked_ids(ids)
        self._catalog.add_labels(numbers, [_label(label) for label in _listed(labels)])

    def remove_labels(self, ids: Iterable[int], labels: Iterable[str] | str) -> None:
        """Take labels from images; a label that an image does not have is no error."""
        numbers = self._checked_ids(ids)
        self._catalog.remove_labels(numbers, [_label(label) for label in _listed(labels)])

    def _checked_ids(self, ids: Iterable[int]) -> list[int]:
        numbers = [int(number) for number in ([ids] if isinstance(ids, int) else ids)]
        found = {record.id for record in self._catalog.images(numbers)}
        for number in numbers:
            if number not in found:
                raise ImageNotFoundError(f"no image {number} in gallery {self.path.name!r}")
        return numbers

    def remove(self, items: Iterable[PathLike | int] | PathLike | int = (), *, where: str | None = None) -> int:
        """Take images out of the gallery and keep them out; the files are not touched.

        Parameters
        ----------
        items
            Ids, files, or folders. A folder that is a root leaves the gallery as a whole.
        where
            Also every image that matches this filter.

        Returns
        -------
        how many images left
        """
        listed: Iterable[Any] = [items] if isinstance(items, (int, str, os.PathLike)) else items
        with self._lock("removing"):
            ids: set[int] = set()
            whole: list[Root] = []
            for item in listed:
                if isinstance(item, (int, np.integer)):
                    ids.update(self._checked_ids([int(item)]))
                else:
                    below, root = self._below(Path(os.path.abspath(Path(item))))  # noqa: PTH100
                    ids.update(below)
                    whole.extend([root] if root else [])
            if where:
                clause = filters.parse(where).to_sql()
                ids.update(self._catalog.ids(clause[0], list(clause[1])).tolist())
            return self._take_out(sorted(ids), whole)

    def _below(self, path: Path) -> tuple[list[int], Root | None]:
        found = self._within(path)
        if found is None:
            raise self._outside(path)
        root, raw = found
        exact = self._catalog.image_id(root.id, raw)
        if exact is not None:
            return [exact], None
        ids = self._catalog.ids_below(root.id, raw + b"/" if raw else b"")
        if not ids and raw:
            raise ImageNotFoundError(f"{path} is not in gallery {self.path.name!r}: nothing to remove")
        return ids, root if not raw and root.path != self.path else None

    def _take_out(self, ids: list[int], whole: list[Root]) -> int:
        present = [record.id for record in self._catalog.images(ids) if record.status != "removed"]
        with self._catalog.database.writing() as connection:
            connection.executemany(
                "UPDATE images SET status = 'removed', reason = NULL WHERE id = ?", [(number,) for number in present]
            )
            connection.executemany("DELETE FROM roots WHERE id = ?", [(root.id,) for root in whole])
            drop_unused_contents(self._catalog)
            connection.execute("UPDATE meta SET value = CAST(value AS INTEGER) + 1 WHERE key = 'generation'")
        return len(present)

    def _within(self, path: Path) -> tuple[Root, bytes] | None:
        """The deepest root that holds a path, and the path relative to it."""
        holding = [root for root in self._catalog.roots() if path == root.path or path.is_relative_to(root.path)]
        if not holding:
            return None
        root = max(holding, key=lambda each: len(each.path.parts))
        relative = path.relative_to(root.path)
        return root, b"" if relative == Path() else os.fsencode(relative)

    def _outside(self, path: Path, hint: str = "") -> OutsideGalleryError:
        roots = ", ".join(str(root.path) for root in self._catalog.roots())
        return OutsideGalleryError(
            f"{display(os.fsencode(path))} is outside gallery {self.path.name!r}, which holds {roots}. {hint}".rstrip()
        )

    # -- state

    def status(self, *, thorough: bool = False) -> GalleryStatus:
        """The state of the gallery; ``thorough`` also reads every cache file whole."""
        database, catalog = self._catalog.database, self._catalog
        default = catalog.default_space()
        last = database.row("SELECT started, finished, report FROM runs ORDER BY id DESC LIMIT 1")
        problems = [Problem(record.path, record.reason or "") for record in self._first_unreadable()]
        writer = current_writer(self._layout.lock)
        return GalleryStatus(
            path=self.path,
            images=len(catalog.ids()),
            unreadable=len(catalog.ids_with_status("unreadable")),
            removed=len(catalog.ids_with_status("removed")),
            labels=catalog.label_counts(),
            problems=problems,
            roots=[self._root_status(root) for root in catalog.roots()],
            spaces=[self._space_status(space, default, thorough) for space in catalog.spaces()],
            disk_bytes=sum(file.stat().st_size for file in self._layout.index.rglob("*") if file.is_file()),
            schema=schema_version(),
            last_run={"started": last["started"], "finished": last["finished"]} if last else None,
            writer=str(writer) if writer else None,
        )

    def _first_unreadable(self) -> list[ImageRecord]:
        return self._catalog.images(self._catalog.ids_with_status("unreadable")[:20].tolist())

    def _root_status(self, root: Root) -> RootStatus:
        images = self._catalog.database.value(
            "SELECT count(*) FROM images WHERE root_id = ? AND status = 'ok'", (root.id,)
        )
        return RootStatus(root.path, int(images), root.path.is_dir())

    def _space_status(self, space: Space, default: Space | None, thorough: bool) -> SpaceStatus:
        key: SpaceKey = space.key
        return SpaceStatus(
            id=space.id,
            name=space.name,
            model=key.model,
            weights_sha256=key.weights_sha256,
            preprocessing=key.preprocessing,
            pooling=key.pooling,
            dim=key.dim,
            images=self._catalog.count_in_space(space.id),
            default=default is not None and default.id == space.id,
            imported=space.source is None,
            cache=self._matrices.state(space, thorough=thorough),
        )


def _load(model: PathLike) -> EmbeddingModel:
    from vitseek.engines.model import load

    loaded: EmbeddingModel = load(Path(model) if isinstance(model, os.PathLike) else model)
    return loaded


def _listed(labels: Iterable[str] | str) -> list[str]:
    return [labels] if isinstance(labels, str) else list(labels)


def _label(text: str) -> str:
    label = " ".join(text.split())
    if not label or not label.isprintable():
        raise UsageError(f"a label is printable text; this one is {text!r}")
    return label
