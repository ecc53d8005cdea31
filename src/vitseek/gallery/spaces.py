"""Which model made which vectors. Vectors of different spaces never meet."""

import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from vitseek.engines.base import SpaceKey as SpaceKey
from vitseek.errors import GalleryMismatchError
from vitseek.preprocess.image import ImagePreprocessing, ImageSource

Downloading = Callable[[str, int, int | None], None]
"""Called with file name, bytes so far and bytes in all while weights are downloaded."""

Sample = Callable[[int], Sequence[Path]]
"""Gives so many pictures of a gallery, or as many as there are."""

CALIBRATED = "int8-static-"  # begins the precision of a space whose model was calibrated; the digest follows


class EmbeddingModel(Protocol):
    """What a gallery needs of a model; :class:`vitseek.engines.model.Model` is one."""

    @property
    def name(self) -> str: ...
    @property
    def preprocessing(self) -> ImagePreprocessing: ...
    def embed(self, images: Sequence[ImageSource]) -> NDArray[np.float32]: ...
    def embed_pixels(self, pixels: NDArray[np.float32]) -> NDArray[np.float32]: ...
    def space(self) -> SpaceKey: ...


class ReadingModel(EmbeddingModel, Protocol):
    """A model that understands words too, where ``has_text`` says so."""

    @property
    def has_text(self) -> bool: ...
    def embed_texts(
        self, texts: Sequence[str], *, report: Callable[[str], None] | None = None
    ) -> NDArray[np.float32]: ...


def has_text(model: EmbeddingModel) -> bool:
    """Whether a model's features can be compared with words."""
    return bool(getattr(model, "has_text", False))


@dataclass(frozen=True, slots=True)
class Space:
    """One set of vectors in a gallery.

    ``source`` is what ``vitseek.load`` takes to get the model back; None for imported vectors without a model.
    ``size_px`` is the side of its pictures where that is not the model's own.
    """

    id: int
    name: str
    key: SpaceKey
    source: str | None
    policy: str | None
    size_px: int | None
    epoch: int


def free_name(key: SpaceKey, taken: Sequence[str]) -> str:
    """The shortest name that tells a new space from the existing ones; one that is not exact always says so."""
    model = "/".join([key.model, *shortcuts(key)])
    for name in (model, f"{model}/{key.preprocessing}", f"{model}/{key.pooling}"):
        if name not in taken:
            return name
    return f"{key.model}/{key.preprocessing}/{key.pooling}/{key.weights_sha256[:12]}/{key.precision}/{key.reduction}"


def shortcuts(key: SpaceKey) -> list[str]:
    """What makes a space's vectors less exact than float32 of all tokens; nothing if they are."""
    precision = CALIBRATED.rstrip("-") if key.precision.startswith(CALIBRATED) else key.precision
    return [word for word, usual in ((precision, "float32"), (key.reduction, "none")) if word != usual]


def describe(key: SpaceKey) -> str:
    """A space in a message: the model, its width, and where it is not exact."""
    return f"{key.model} ({', '.join([f'{key.dim}-d', *shortcuts(key)])})"


def relatives(spaces: Sequence[Space], key: SpaceKey) -> list[Space]:
    """Spaces of the same model that differ from ``key`` at most in what was done for speed."""

    def exact(one: SpaceKey) -> tuple[object, ...]:
        return one.model, one.weights_sha256, one.pooling, one.dim

    return [space for space in spaces if exact(space.key) == exact(key)]


def differences(ours: SpaceKey, theirs: SpaceKey) -> str:
    """In words, what two spaces disagree on."""
    parts = [
        f"{field.replace('_', ' ')} {_short(left)} against {_short(right)}"
        for field, left, right in zip(SpaceKey._fields, ours, theirs, strict=True)
        if left != right
    ]
    return ", ".join(parts)


def mismatch(gallery: Path, spaces: Sequence[Space], query: SpaceKey) -> GalleryMismatchError:
    """The refusal to mix, with both ways out."""
    held = " and ".join(f"{describe(space.key)}" for space in spaces)
    same = next((space for space in spaces if space.key.model == query.model), None)
    why = f" They differ in: {differences(same.key, query)}." if same else ""
    usable = next((space.source for space in spaces if space.source), None)
    search = f"Search with --model {usable}, or add" if usable else "Add"
    return GalleryMismatchError(
        f"gallery {gallery.name!r} holds {held} vectors, but the query uses {describe(query)}.{why} "
        f"{search} a second space: vitseek index {shlex.quote(str(gallery))} --model {shlex.quote(query.model)}"
    )


def load_model(
    space: Space,
    gallery: Path,
    *,
    offline: bool | None = None,
    downloading: Downloading | None = None,
    engine: str | None = None,
    calibration: bytes | None = None,
) -> EmbeddingModel:
    """The model that made a space's vectors, checked against the recorded weights and preprocessing.

    Parameters
    ----------
    calibration
        What the catalog holds under the digest in the space's precision.

    Raises
    ------
    GalleryMismatchError
        If the space was imported without a model, or its model is not what it was.
    """
    if space.source is None:
        raise GalleryMismatchError(
            f"the vectors {space.name!r} ({space.key.dim}-d) of gallery {gallery.name!r} were imported, and which "
            "model made them is not known. Search with a feature vector or an image of the gallery, or import them "
            "again and name the model: vitseek features import FILE.npz --model NAME"
        )
    calibrated = space.key.precision.startswith(CALIBRATED)
    if calibrated and calibration is None:
        raise GalleryMismatchError(
            f"the calibration of space {space.name!r} of gallery {gallery.name!r} is lost, so no picture can be "
            f"compared with its vectors. Make them again: vitseek spaces remove {shlex.quote(space.name)}, then "
            f"vitseek index {shlex.quote(str(gallery))} --model {shlex.quote(space.source)} --precision int8-static"
        )
    from vitseek.engines.available import PRECISIONS, engine_for
    from vitseek.engines.calibration import Calibration
    from vitseek.engines.model import load

    precision = CALIBRATED.rstrip("-") if calibrated else space.key.precision
    if engine is not None and precision not in PRECISIONS.get(engine, (precision,)):
        engine = None  # the engine asked for is for other spaces of this gallery
    model: EmbeddingModel = load(
        space.source,
        preprocess=space.policy,
        pooling=space.key.pooling,
        engine=engine_for(precision, engine),
        precision=precision,
        calibration=None if calibration is None else Calibration.from_bytes(calibration),
        reduction=space.key.reduction,
        size_px=space.size_px,
        offline=offline,
        progress=downloading,
    )
    found = model.space()
    if found != space.key and found._replace(precision=space.key.precision) == space.key:
        why = " ".join(getattr(model, "late_notes", []))
        raise GalleryMismatchError(
            f"space {space.name!r} of gallery {gallery.name!r} holds vectors in {precision}, which cannot be computed "
            f"here: {why}. Add a space in float32: vitseek index {shlex.quote(str(gallery))} "
            f"--model {shlex.quote(space.source)} --precision float32"
        )
    if found != space.key:
        raise GalleryMismatchError(
            f"the model {space.source!r} is no longer the one that made the vectors of gallery {gallery.name!r}: "
            f"{differences(space.key, found)}. Put the old weights back, or add the new ones as a second "
            f"space: vitseek index {shlex.quote(str(gallery))} --model {shlex.quote(space.source or space.key.model)}"
        )
    return model


def _short(value: object) -> str:
    text = str(value)
    return f"{text[:12]}…" if len(text) > 40 else text or "(none)"
