"""Which model and which space a call means, and each model loaded once."""

import os
import threading
from pathlib import Path

from vitseek.errors import GalleryEmptyError, GalleryMismatchError
from vitseek.gallery.spaces import EmbeddingModel, Space, key_of, load_model, mismatch
from vitseek.gallery.stores.catalog import Catalog

ModelLike = EmbeddingModel | str | os.PathLike[str]


class Models:
    """The models of a gallery's spaces, loaded when first needed; safe from several threads.

    Parameters
    ----------
    given
        The model that the caller wants to use, if any: its space is searched then, and filled.
    """

    def __init__(self, catalog: Catalog, gallery: Path, given: ModelLike | None, *, offline: bool | None) -> None:
        self._catalog = catalog
        self._gallery = gallery
        self._given = given
        self._offline = offline
        self._loaded: dict[int, EmbeddingModel] = {}
        self._mutex = threading.RLock()

    def space(self, wanted: str | int | None) -> Space:
        """The space that a search means: the named one, that of the given model, or the default.

        Raises
        ------
        GalleryEmptyError
            If the gallery has no space yet.
        GalleryMismatchError
            If it has none of this name or model.
        """
        if wanted is not None:
            return self.named(wanted)
        spaces = self._catalog.spaces()
        if not spaces:
            raise empty(self._gallery)
        if self._given is not None:
            with self._mutex:
                self._given = model = self._load(self._given)
                space = next((space for space in spaces if space.key == key_of(model)), None)
                if space is None:
                    raise mismatch(self._gallery, spaces, key_of(model))
                self._loaded[space.id] = model
                return space
        return self._catalog.default_space() or spaces[0]

    def named(self, name: str | int) -> Space:
        spaces = self._catalog.spaces()
        for space in spaces:
            if name in (space.name, space.id):
                return space
        names = ", ".join(repr(space.name) for space in spaces) or "none yet"
        raise GalleryMismatchError(f"gallery {self._gallery.name!r} has no space {name!r}; it has {names}.")

    def of(self, space: Space) -> EmbeddingModel:
        """The model that made a space's vectors."""
        with self._mutex:
            if space.id not in self._loaded:
                self._loaded[space.id] = load_model(space, self._gallery, offline=self._offline)
            return self._loaded[space.id]

    def to_fill(self, wanted: ModelLike | None) -> tuple[Space, EmbeddingModel]:
        """The space to index into and its model; a model without a space gets one."""
        wanted = self._given if wanted is None else wanted
        if wanted is None:
            default = self._catalog.default_space()
            if default is not None:
                return default, self.of(default)
            from vitseek.zoo import DEFAULT_MODEL

            wanted = DEFAULT_MODEL
        with self._mutex:
            model = self._load(wanted)
            key = key_of(model)
            space = next((space for space in self._catalog.spaces() if space.key == key), None)
            if space is None:
                space = self._catalog.add_space(key, source=source_of(wanted), policy=model.preprocessing.policy)
            self._loaded[space.id] = model
            return space, model

    def _load(self, wanted: ModelLike) -> EmbeddingModel:
        if not isinstance(wanted, (str, os.PathLike)):
            return wanted
        from vitseek.engines.model import load

        path = os.fspath(wanted)
        loaded: EmbeddingModel = load(Path(path) if isinstance(wanted, os.PathLike) else path, offline=self._offline)
        return loaded


def source_of(wanted: ModelLike) -> str:
    """What loads a model again, from anywhere: a zoo name, or the absolute path of its file."""
    if isinstance(wanted, (str, os.PathLike)):
        path = Path(wanted)
        return str(path.absolute()) if path.exists() else os.fspath(wanted)
    source = getattr(wanted, "source", None)
    return str(source) if source else wanted.name


def empty(gallery: Path) -> GalleryEmptyError:
    """What to say of a gallery without a single vector."""
    return GalleryEmptyError(f"gallery {gallery} holds no images yet. Index them: vitseek index {gallery}")
