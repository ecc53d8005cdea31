"""The gallery: a folder of images and its index, as one object."""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, Unpack, overload

import numpy as np
from numpy.typing import NDArray

from vitseek.errors import GalleryNotFoundError, ImageNotFoundError, UsageError
from vitseek.gallery import place
from vitseek.gallery.folders import Folders, PathLike, absolute
from vitseek.gallery.labelling import Labelling
from vitseek.gallery.labels import Labels
from vitseek.gallery.lock import Holder, WriteLock
from vitseek.gallery.matrix import MatrixCache
from vitseek.gallery.models import ModelLike, Models
from vitseek.gallery.place import Layout
from vitseek.gallery.queries import Query, expression, is_several
from vitseek.gallery.records import GalleryStatus, ImageRecord, IndexReport
from vitseek.gallery.removing import remove_space
from vitseek.gallery.searching import Searcher, SearchKeywords, SearchOptions
from vitseek.gallery.shortcuts import Shortcuts
from vitseek.gallery.spaces import Downloading, EmbeddingModel, Sample, Space
from vitseek.gallery.status import check, status
from vitseek.gallery.stores.catalog import Catalog, Root
from vitseek.gallery.stores.sqlite import Database
from vitseek.search.results import Match

# What only some calls need is imported in them: a cold search imports none of it.
if TYPE_CHECKING:
    from vitseek.gallery.features import ImportReport
    from vitseek.gallery.indexing import Progress
    from vitseek.gallery.tuning import Tuning

RECORDS_AT_ONCE = 1000


class Gallery(Labelling):
    """Images of one or several folders, their labels and vectors; close it, or use it in a ``with`` block.

    Reading is safe from several threads and processes at once, also while one of them indexes.

    Parameters
    ----------
    path
        The gallery folder; the index is ``path/.vitseek/``.
    roots
        Folders to index besides those that the index knows. A new gallery without any indexes ``path`` itself.
    create
        Make the index if there is none; otherwise that is an error.
    model
        A model, or what ``vitseek.load`` takes. By default the one that made the gallery's vectors.
    offline
        Never touch the network when a model is loaded.
    downloading
        Called with file name, bytes so far and bytes in all (or None) while a model is downloaded.
    engine
        What computes the features of models that are loaded here; see ``vitseek.load``.
    speed
        How a space that is filled is made: ``"exact"``, ``"fast"`` or ``"faster"``; see
        :class:`vitseek.gallery.shortcuts.Shortcuts`. By default as the space is, and exactly if it is new.
    precision, reduction, size_px
        The same in detail; see ``vitseek.load``. "int8-static" is calibrated on pictures of the gallery.
    lock_timeout_s
        How long writing calls wait for another writing process.
    waiting
        Called with the other process (or None, if it cannot be told) when there is one to wait for.

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
        model: ModelLike | None = None,
        offline: bool | None = None,
        downloading: Downloading | None = None,
        engine: str | None = None,
        speed: str | None = None,
        precision: str | None = None,
        reduction: str | None = None,
        size_px: int | None = None,
        lock_timeout_s: float = 10.0,
        waiting: Callable[[Holder | None], None] | None = None,
    ) -> None:
        self.path = absolute(path)
        self._layout = Layout(self.path)
        self._lock_timeout_s = lock_timeout_s
        self._waiting = waiting
        self._offline = offline
        exists = self._layout.exists()
        if not self.path.is_dir():
            raise GalleryNotFoundError(f"{self.path} is not a folder. Is the disk mounted, and the name right?")
        if not exists and not create:
            raise GalleryNotFoundError(f"{self.path} has no index. Make one with: vitseek index {self.path}")
        if not exists:
            self._layout.create()
        read_only = not os.access(self._layout.index, os.W_OK)
        database = Database(self._layout.database, read_only=read_only)
        self._catalog = Catalog(database, self.path)
        self._folders = Folders(self._catalog, self.path)
        self._matrices = MatrixCache(self._catalog, self._layout)
        self._models = Models(
            self._catalog, self.path, model, offline=offline, downloading=downloading,
            shortcuts=Shortcuts.of(speed, engine=engine, precision=precision, reduction=reduction, size_px=size_px),
        )  # fmt: skip
        self._searcher = Searcher(self._catalog, self._matrices, self._models)
        self._labels = Labels(self._catalog)
        try:
            for root in map(absolute, roots or ()):
                self._folders.add(root)
            if not read_only and not self._folders.all():
                self._folders.add(self.path)
        except BaseException:
            database.close()
            raise

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

    @property
    def model(self) -> EmbeddingModel:
        """The model of the space that is searched by default, loaded on first use."""
        return self._models.of(self._models.space(None))

    def model_of(self, space: str | int | None = None) -> EmbeddingModel:
        """The model of a space, loaded on first use."""
        return self._models.of(self._models.space(space))

    @property
    def roots(self) -> list[Path]:
        """The folders that are indexed."""
        return [root.path for root in self._folders.all()]

    def space(self, name: str | int | None = None) -> Space:
        """Which vectors a search compares: the named space, that of the given model, or the default one."""
        return self._models.space(name)

    def use_space(self, name: str | int) -> None:
        """Make another space the default one."""
        self._catalog.set_meta("default_space", str(self._models.named(name).id))

    def remove_space(self, name: str | int) -> int:
        """Delete the vectors of a space; images, labels and the other spaces stay.

        If it was the default one, the space with the most vectors becomes it.

        Returns
        -------
        how many images had a vector in it

        Raises
        ------
        UsageError
            If it is the gallery's only space.
        GalleryLockedError, GalleryMismatchError
        """
        with self._lock("removing a space"):
            gone = self._models.named(name)
            others = [space for space in self._catalog.spaces() if space.id != gone.id]
            if not others:
                raise UsageError(
                    f"{gone.name!r} is the only space of gallery {self.path.name!r}, and without it nothing can be "
                    "searched. Add another first: vitseek index --model NAME"
                )
            count = self._catalog.count_in_space(gone.id)
            default = self._catalog.default_space()
            fullest = max(others, key=lambda space: self._catalog.count_in_space(space.id))
            remove_space(self._catalog, gone, default=fullest if default is None or default == gone else None)
            self._matrices.remove(gone)
            self._models.forget(gone)
            return count

    # -- index

    def index(
        self,
        paths: Iterable[PathLike] | PathLike | None = None,
        *,
        model: ModelLike | None = None,
        batch_size: int = 16,
        workers: int | None = None,
        labels_from_folders: bool | None = None,
        forget_missing: bool = False,
        restore_removed: bool = False,
        retry_unreadable: bool = False,
        rehash: bool = False,
        progress: "Progress | None" = None,
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
        from vitseek.gallery.indexing import Indexer, IndexOptions

        for name, value in (("batch_size", batch_size), ("workers", workers)):
            if value is not None and value < 1:
                raise UsageError(f"{name} must be at least 1; it is {value}")
        with self._lock("indexing"):
            scopes = self._folders.scopes([paths] if isinstance(paths, (str, os.PathLike)) else paths)
            if labels_from_folders is not None:
                self._catalog.set_meta("labels_from_folders", str(int(labels_from_folders)))
            options = IndexOptions(
                batch_size=batch_size,
                workers=workers,
                folder_labels=self.labels_from_folders,
                forget_missing=forget_missing,
                restore_removed=restore_removed,
                retry_unreadable=retry_unreadable,
                rehash=rehash,
            )
            if labels_from_folders is False:
                self._catalog.remove_folder_labels()
            new_notes: list[str] = []

            def choose(sample: Sample) -> Space:
                known = len(self._catalog.spaces())
                space = self._models.to_fill(model, sample)
                if len(self._catalog.spaces()) > known:
                    new_notes.extend(getattr(self._models.of(space), "notes", []))
                return space

            indexer = Indexer(
                self._catalog,
                choose=choose,
                load=self._models.of,
                options=options,
                gallery=self.path,
                progress=progress,
            )
            report = indexer.run(scopes, complete=self._folders.is_everything(scopes))
            if indexer.space is not None:
                late = getattr(self._models.held(indexer.space), "late_notes", [])
                # A precision is tried out before there is a space, so what came of it may be in both.
                report.notes += [*dict.fromkeys(new_notes + late), *self._write_cache(indexer.space)]
        if report.images:  # a slip, such as indexing an empty folder, must not hide the gallery that is in use
            place.remember(self.path)
        return report

    def _write_cache(self, space: Space) -> list[str]:
        try:
            self._matrices.write(space)
        except OSError as error:
            return [f"the search cache could not be written ({error.strerror}); searching takes longer without it"]
        return []

    def _lock(self, job: str) -> WriteLock:
        return WriteLock(self._layout.lock, job, timeout_s=self._lock_timeout_s, waiting=self._waiting)

    # -- search

    @overload
    def search(self, query: list[Any] | tuple[Any, ...], **options: Unpack[SearchKeywords]) -> list[list[Match]]: ...
    @overload
    def search(self, query: Query, **options: Unpack[SearchKeywords]) -> list[Match]: ...
    def search(self, query: Any, **options: Unpack[SearchKeywords]) -> list[Match] | list[list[Match]]:
        """The images that match best, best first.

        Parameters
        ----------
        query
            Text: words, a file, an address, or a combination such as ``cat.jpg + "at night" - 0.5 "snow"``, as
            :mod:`vitseek.search.query` describes it. Or an image (a ``Path``, bytes, a stream, a Pillow image), the id
            of one, a feature vector (D,), an ``Expression``. Several of these in a list, or a matrix (n, D), give a
            list of results each.
        k
            How many, 10 by default; with fewer images in the gallery, all of them.
        where
            A filter such as ``label:dress width>=800``: see :mod:`vitseek.search.where`.
        exclude_query
            Leave out the pictures of the query and their copies (same content).
        space
            Search this space. By default words are searched in the default space if it understands them, else in the
            first that does; everything else in the default space.
        also
            Search this second space too.
        balance
            How much the second space counts, 0 to 1 (0.5); the first one counts 1 - balance. At 0 and 1 only one is
            searched.
        fusion
            How two spaces are joined: "scores" (standard scores, the default) or "ranks" (reciprocal ranks); see
            :func:`vitseek.search.fusion.fuse`.
        addresses
            Which http(s) addresses a query may name: "public" ones (the default), "any" (also of this machine and its
            network), or "none".
        files
            Whether a query may name files of this machine; False for queries of other people, such as a server's.
        report
            Called with a sentence about how the query was understood, where that is not obvious.

        Returns
        -------
        matches. Their score is the cosine of the two vectors, −1 to 1; in a search of two spaces it is a mean of
        standard scores or of reciprocal ranks.

        Raises
        ------
        UsageError, FilterSyntaxError, QuerySyntaxError, TextUnsupportedError, GalleryEmptyError, GalleryMismatchError,
        UnreadableImageError, AddressError, ImageNotFoundError
        """
        checked = SearchOptions(**options, offline=bool(self._offline))
        several = is_several(query)
        queries = [expression(one) for one in (query if several else [query])]
        answers = self._searcher.search(queries, checked)
        return answers if several else answers[0]

    def space_of(self, query: Query, space: str | int | None = None) -> Space:
        """The space that :meth:`search` compares a query in, if ``also`` names no second one."""
        return self._searcher.space_of(expression(query), space)

    def spaces_of(self, query: Query, **options: Unpack[SearchKeywords]) -> tuple[Space, ...]:
        """The space, or the two, that :meth:`search` compares a query in; options that do not matter are ignored."""
        return self._searcher.plan(expression(query), SearchOptions(**options), lambda _: None)

    def words_space(self) -> Space | None:
        """The space in which words are searched; None if no model of this gallery understands them."""
        return self._models.words_space()

    # -- look

    def image(self, image_id: int) -> ImageRecord:
        """What is known of an image; ImageNotFoundError for an unknown id."""
        record = self._catalog.image(image_id)
        if record is None:
            raise ImageNotFoundError(f"no image {image_id} in gallery {self.path.name!r}")
        return record

    def image_id(self, path: PathLike) -> int | None:
        """The id of a file; None if it lies in a root but is not indexed, OutsideGalleryError if it lies in none."""
        found = self._folders.within(absolute(path))
        if found is None:
            raise self._folders.outside(absolute(path))
        return self._catalog.image_id(found[0].id, found[1])

    def images(self, where: str | None = None, limit: int | None = None, offset: int = 0) -> Iterator[ImageRecord]:
        """Usable images that match a filter, by id."""
        if offset < 0 or (limit is not None and limit < 0):
            raise UsageError(f"limit and offset cannot be negative; they are {limit} and {offset}")
        ids = self._matching(where)
        return self._records(ids[offset:] if limit is None else ids[offset : offset + limit])

    def tune(
        self,
        *,
        images: int = 128,
        agreement: float = 0.95,
        chosen: Iterable[Shortcuts] | None = None,
        progress: Callable[[str, int, int], None] | None = None,
    ) -> "Tuning":
        """Measure what is faster than exact features here, and what it costs; see :func:`vitseek.gallery.tuning.tune`.

        Parameters
        ----------
        images
            How many to measure with, evenly taken from the gallery.
        """
        from vitseek.gallery.tuning import tune

        ids = self._catalog.ids()
        places = np.linspace(0, len(ids) - 1, min(images, len(ids))).round().astype(np.int64)
        sample = self._catalog.images(ids[places].tolist()) if len(ids) else []
        return tune(
            self._models.loader(),
            [record.path for record in sample],
            [record.labels[0] if record.labels else None for record in sample],
            chosen=chosen,
            agreement=agreement,
            progress=progress,
        )

    def unreadable(self) -> Iterator[ImageRecord]:
        """Files that could not be used, each with its reason."""
        return self._records(self._catalog.ids_with_status("unreadable"))

    def _records(self, ids: NDArray[np.int64]) -> Iterator[ImageRecord]:
        for start in range(0, len(ids), RECORDS_AT_ONCE):
            yield from self._catalog.images(ids[start : start + RECORDS_AT_ONCE].tolist())

    def count(self, where: str | None = None) -> int:
        """How many usable images match a filter."""
        return len(self._matching(where))

    def _matching(self, where: str | None) -> NDArray[np.int64]:
        if not where:
            return self._catalog.ids()
        from vitseek.search import where as filters

        return self._catalog.ids(*filters.parse(where).to_sql())

    def vectors(self, space: str | int | None = None) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """(ids, matrix): the unit vectors that a search compares, shapes (n,) and (n, D), ids ascending.

        The matrix may be mapped from a file and read-only. For the features as the model gave them:
        :meth:`export_features`.
        """
        matrix = self._matrices.get(self._models.space(space))
        return matrix.ids, matrix.rows

    # -- removal

    def _checked_ids(self, ids: Iterable[int]) -> list[int]:
        numbers = [int(number) for number in ([ids] if isinstance(ids, int) else ids)]
        found = {record.id for record in self._catalog.images(numbers)}
        for number in numbers:
            if number not in found:
                raise ImageNotFoundError(f"no image {number} in gallery {self.path.name!r}")
        return numbers

    def select(self, items: Iterable[PathLike | int] | PathLike | int = (), *, where: str | None = None) -> list[int]:
        """Ids of the named images, of all below the named folders, and of those that match a filter."""
        return self._selected(items, where)[0]

    def _selected(
        self, items: Iterable[PathLike | int] | PathLike | int, where: str | None
    ) -> tuple[list[int], list[Root]]:
        listed: Iterable[Any] = [items] if isinstance(items, (int, np.integer, str, os.PathLike)) else items
        ids: set[int] = set()
        roots: list[Root] = []
        for item in listed:
            if isinstance(item, (int, np.integer)):
                ids.update(self._checked_ids([int(item)]))
            else:
                below, root = self._folders.images_at(absolute(item))
                ids.update(below)
                roots.extend([root] if root else [])
        if where:
            ids.update(self._matching(where).tolist())
        kept = self._catalog.images(sorted(ids))
        return [record.id for record in kept if record.status != "removed"], roots

    def remove(self, items: Iterable[PathLike | int] | PathLike | int = (), *, where: str | None = None) -> int:
        """Take images out of the gallery and keep them out; the files are not touched.

        Parameters
        ----------
        items
            Ids, files, or folders. A folder that is a root (but not the gallery's own) leaves as a whole.
        where
            Also every image that matches this filter.

        Returns
        -------
        how many images left; ``index(restore_removed=True)`` takes them back
        """
        with self._lock("removing"):
            ids, roots = self._selected(items, where)
            self._catalog.remove(ids, roots)
            return len(ids)

    # -- features in and out

    def export_features(self, path: PathLike, *, space: str | int | None = None) -> int:
        """Write the features of a space to an .npz file: ``features`` (n, D) as the model gave them, ``paths`` (n,).

        Returns
        -------
        how many images
        """
        from vitseek.gallery import features

        return features.export(self._catalog, self._models.space(space), absolute(path))

    def import_features(
        self, path: PathLike, *, space: str | None = None, model: ModelLike | None = None
    ) -> "ImportReport":
        """Take features from an .npz file for the images of this gallery's folders.

        Parameters
        ----------
        path
            With an array of features (n, D) and one of paths (n,), absolute or relative to a root.
        space
            What to call them, when no model is named; by default the name of the file.
        model
            The model that made them; a few images are embedded again to see that it did. Without it, searching works
            with vectors and images of the gallery only.

        Raises
        ------
        FeaturesError, GalleryMismatchError, GalleryLockedError
        """
        from vitseek.gallery import features

        file = absolute(path)
        values, paths, facts, read = features.load(file)
        with self._lock("importing features"):
            checked = None
            if model is not None:
                loaded = self._models.load(model)
                files = features.locate_files(paths, self._folders, file.parent)
                checked = features.compare_with_model(loaded, values, files, file.name)
                target = self._models.to_fill(loaded)
            else:
                target = self._models.imported(facts, space or file.stem, values.shape[1])
            report = features.Importer(self._catalog, self._folders, target, read).run(values, paths, file.parent)
            report.checked = checked
            self._write_cache(target)
        return report

    # -- state

    def status(self) -> GalleryStatus:
        """Counts per folder, space and label, unreadable files, who is writing."""
        return status(self._catalog, self._layout, self._matrices, self._models.understands_words)

    def check(self) -> list[str]:
        """Read everything; what does not hold together, in words. Empty when all is well."""
        return check(self._catalog, self._matrices)

    def rebuild(self) -> None:
        """Make the cache of every space anew."""
        with self._lock("rebuilding"):
            for space in self._catalog.spaces():
                self._matrices.write(space)
