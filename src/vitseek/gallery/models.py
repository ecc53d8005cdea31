"""Which model and which space a call means, and each model loaded once."""

import os
import shlex
import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vitseek.errors import ConfigError, GalleryEmptyError, GalleryMismatchError, TextUnsupportedError
from vitseek.gallery.shortcuts import Shortcuts
from vitseek.gallery.spaces import (
    CALIBRATED,
    Downloading,
    EmbeddingModel,
    Sample,
    Space,
    SpaceKey,
    describe,
    has_text,
    load_model,
    mismatch,
    relatives,
)
from vitseek.gallery.stores.catalog import Catalog

if TYPE_CHECKING:
    from vitseek.engines.calibration import Calibration
    from vitseek.engines.model import Model

EXACT = Shortcuts()
WORDS_POOLING = "embedding"  # the only features that a text tower's can be compared with
WORDS_NOTE = "understands_words:"  # and the space's id, in the table of facts about the gallery
SHOWN_MODELS = 4

ModelLike = EmbeddingModel | str | os.PathLike[str]


class Models:
    """The models of a gallery's spaces, loaded when first needed; safe from several threads.

    Parameters
    ----------
    given
        The model that the caller wants to use, if any: its space is searched then, and filled.
    shortcuts
        What computes, and how a space that is filled is made.
    """

    def __init__(
        self,
        catalog: Catalog,
        gallery: Path,
        given: ModelLike | None,
        *,
        offline: bool | None,
        downloading: Downloading | None = None,
        shortcuts: Shortcuts = EXACT,
    ) -> None:
        self._catalog = catalog
        self._gallery = gallery
        self._given = given
        self._offline = offline
        self._downloading = downloading
        self._shortcuts = shortcuts
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
                self._given = model = self.load(self._given)
                space = next((space for space in spaces if space.key == model.space()), None)
                if space is not None:
                    self._loaded[space.id] = model
                    return space
                if near := relatives(spaces, model.space()):  # made in another precision: its model is loaded anew
                    return near[0]
                raise mismatch(self._gallery, spaces, model.space())
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
                calibration = None
                if space.key.precision.startswith(CALIBRATED):
                    calibration = self._catalog.calibration(space.key.precision.removeprefix(CALIBRATED))
                self._loaded[space.id] = load_model(
                    space, self._gallery, offline=self._offline, downloading=self._downloading,
                    engine=self._shortcuts.engine, calibration=calibration,
                )  # fmt: skip
            return self._loaded[space.id]

    def held(self, space: Space) -> EmbeddingModel | None:
        """The same if it is loaded already."""
        with self._mutex:
            return self._loaded.get(space.id)

    def understands_words(self, space: Space) -> bool:
        """Whether words can be searched in a space; its model is loaded only if nothing else tells.

        Raises
        ------
        WeightsError, GalleryMismatchError
            If only the model could tell, and it cannot be loaded.
        """
        with self._mutex:
            if space.id in self._loaded:
                return has_text(self._loaded[space.id])
        if space.source is None or space.key.pooling != WORDS_POOLING:
            return False
        noted = self._catalog.meta(f"{WORDS_NOTE}{space.id}")
        if noted is not None:
            return noted == "1"
        from vitseek.zoo import ZOO

        if space.source in ZOO:
            return getattr(ZOO[space.source], "text", None) is not None
        return has_text(self.of(space))

    def words_space(self) -> Space | None:
        """Where words are searched when no space is named: the default space, or the first other that understands them.

        A model that the caller wants to use is the only choice.
        """
        default = self.space(None)
        others = [] if self._given is not None else [space for space in self._catalog.spaces() if space != default]
        return next((space for space in (default, *others) if self.understands_words(space)), None)

    def no_words(self, space: Space, *, typed: str = "") -> TextUnsupportedError:
        """What to say when words meet a space that does not understand them: why, and each way out.

        Parameters
        ----------
        typed
            The words, if they stood without quotes and may be a mistyped file name.
        """
        from vitseek.zoo import ZOO

        able = [row for row in ZOO.values() if getattr(row, "text", None) is not None]
        first = f"{typed!r} is no file here, so it is searched as words. " if typed else ""
        why = f"The model of space {space.name!r} understands pictures only"
        others = [other for other in self._catalog.spaces() if other.id != space.id]
        elsewhere = next((other for other in others if self.understands_words(other)), None)
        if elsewhere is not None:
            return TextUnsupportedError(
                f"{first}{why}; space {elsewhere.name!r} of this gallery understands words. "
                f"Search there: leave --space and --model away, or write --space {elsewhere.name}",
                elsewhere=True,
            )
        names = ", ".join(row.name for row in able[:SHOWN_MODELS])
        more = f" ({len(able) - SHOWN_MODELS} more: vitseek models)" if len(able) > SHOWN_MODELS else ""
        way = (
            f"vitseek index {shlex.quote(str(self._gallery))} --model {able[0].name}"
            if able
            else "vitseek index PATH --model FILE"
        )
        known = f" Models that do: {names}{more}." if able else ""
        return TextUnsupportedError(
            f"{first}{why}.{known} Add such a space beside this one, and words are searched there by themselves: {way}"
        )

    def note_words(self, space: Space, model: EmbeddingModel) -> None:
        """Write down whether a space understands words, so that a search need not load its model to know."""
        key, value = f"{WORDS_NOTE}{space.id}", str(int(has_text(model)))
        if self._catalog.meta(key) != value:
            self._catalog.set_meta(key, value)

    def wanted(self) -> EmbeddingModel | None:
        """The model that the caller wants to use, whether or not it has a space here; None: the gallery's own."""
        if self._given is None:
            return None
        with self._mutex:
            self._given = model = self.load(self._given)
            return model

    def to_fill(self, wanted: ModelLike | None, sample: Sample = lambda count: []) -> Space:
        """The space to index into; a model without a space gets one. Loads the default space's model only in `of`.

        Parameters
        ----------
        sample
            Gives so many pictures of the gallery, or fewer: for a precision that is calibrated on them.
        """
        wanted = self._given if wanted is None else wanted
        if wanted is None:
            default = self._catalog.default_space()
            if default is not None and not self._shortcuts:
                return default
            wanted = self._usual(default)
        with self._mutex:
            calibrated = self._shortcuts.precision == CALIBRATED.rstrip("-")
            model = self._calibrated(wanted, sample) if calibrated else self.load(wanted)
            key = model.space()
            space = next((space for space in self._catalog.spaces() if space.key == key), None)
            if space is None:
                space = self._catalog.add_space(
                    key,
                    source=getattr(model, "source", None) or model.name,
                    policy=model.preprocessing.policy,
                    size_px=self._shortcuts.size_px,
                )
            self._loaded[space.id] = model
            self.note_words(space, model)
            return space

    @staticmethod
    def _usual(default: Space | None) -> str | Path:
        """What ``vitseek.load`` takes for the model of the default space, or for the one that everybody has."""
        if default is not None and default.source is not None:
            return default.source if default.source == default.key.model else Path(default.source)
        from vitseek.zoo import DEFAULT_MODEL

        return DEFAULT_MODEL

    def loader(self) -> "Callable[..., Model]":
        """``vitseek.load`` for the model that the caller wants, or that of the default space.

        Raises
        ------
        ConfigError
            If the caller gave a model that is loaded already: it cannot be loaded in another way.
        """
        from vitseek.engines.model import load

        default = self._catalog.default_space()
        given = self._usual(default) if self._given is None else self._given
        if not isinstance(given, (str, os.PathLike)):
            raise ConfigError("a model that is loaded already cannot be tuned: give its name or file")
        own = default if self._given is None else None  # as the space has it
        return partial(
            load, given, offline=self._offline, progress=self._downloading,
            preprocess=own.policy if own else None, pooling=own.key.pooling if own else None,
        )  # fmt: skip

    def _calibrated(self, wanted: ModelLike, sample: Sample) -> EmbeddingModel:
        """A model with the calibration that its space here has already, or a new one on pictures of the gallery."""
        from vitseek.engines.calibration import PICTURES, Calibration

        plain = self.load(wanted, precision="float32")
        calibrate = getattr(plain, "calibrate", None)
        if calibrate is None or not isinstance(wanted, (str, os.PathLike)):
            raise ConfigError("precision 'int8-static' is for models by name or file: the gallery calibrates them")
        key = plain.space()
        near = relatives(self._catalog.spaces(), key)
        digests = [
            space.key.precision.removeprefix(CALIBRATED)
            for space in near
            if space.key.preprocessing == key.preprocessing and space.key.precision.startswith(CALIBRATED)
        ]
        known = self._catalog.calibration(digests[0]) if digests else None
        if known is not None:
            return self.load(wanted, calibration=Calibration.from_bytes(known))
        calibration = calibrate(sample(2 * PICTURES))  # some may be unreadable
        model = self.load(wanted, calibration=calibration)
        self._catalog.keep_calibration(calibration.digest(), calibration.to_bytes())
        return model

    def imported(self, facts: Mapping[str, str], name: str, dim: int) -> Space:
        """The space for vectors that come without a model: as their file describes it, or by a name.

        Raises
        ------
        GalleryMismatchError
            If a space of this name holds vectors of another width, or of a model.
        """
        # Files lack what was added to the key after they were written: it was always as by default.
        told: dict[str, Any] = {**SpaceKey._field_defaults, **facts}
        if set(SpaceKey._fields) <= set(told) and told["dim"] == str(dim):
            key = SpaceKey(**{field: told[field] for field in SpaceKey._fields})._replace(dim=dim)
        else:
            key = SpaceKey(name, "", "", "", dim)
        spaces = self._catalog.spaces()
        for space in spaces:
            if space.key == key:
                return space
            if space.name == key.model and not (space.key.weights_sha256 and key.weights_sha256):
                raise GalleryMismatchError(
                    f"gallery {self._gallery.name!r} has a space {space.name!r} with {describe(space.key)} vectors; "
                    f"the file's are {dim}-d and need another name: vitseek features import FILE.npz --name NAME"
                )
        return self._catalog.add_space(key, source=key.model if key.weights_sha256 else None, policy=None)

    def forget(self, space: Space) -> None:
        """Let go of the model of a space that is gone."""
        with self._mutex:
            self._loaded.pop(space.id, None)

    def load(
        self, wanted: ModelLike, *, precision: str | None = None, calibration: "Calibration | None" = None
    ) -> EmbeddingModel:
        """A model as it is, or by what ``vitseek.load`` takes."""
        if not isinstance(wanted, (str, os.PathLike)):
            return wanted
        from vitseek.engines.model import load

        chosen = self._shortcuts
        if precision is not None:
            chosen = replace(chosen, precision=precision, engine=None)
        path = os.fspath(wanted)
        loaded: EmbeddingModel = load(
            Path(path) if isinstance(wanted, os.PathLike) else path,
            engine=chosen.engine,
            precision=chosen.precision or "float32",
            calibration=calibration,
            reduction=chosen.reduction or "none",
            size_px=chosen.size_px,
            offline=self._offline,
            progress=self._downloading,
        )
        return loaded


def empty(gallery: Path) -> GalleryEmptyError:
    """What to say of a gallery without a single vector."""
    return GalleryEmptyError(
        f"gallery {gallery} holds no images yet. Index them: vitseek index {shlex.quote(str(gallery))}"
    )
