"""Compare features with a reference from another implementation."""

import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.lib import format as npy

from vitseek.errors import CorruptWeightsError, PickledWeightsError, ShapeError, UsageError
from vitseek.weights.arrays import AnyArray
from vitseek.weights.npz import read_npz
from vitseek.weights.pickled import refuse_pickles

FEATURE_NAMES = ("features", "embeddings", "feature", "embedding")  # looked for where an npz has several arrays


@dataclass(frozen=True)
class Difference:
    """How far one image's features are from the reference.

    All in float64. ``cosine`` is NaN where one of the two is all zeros.
    """

    max_abs: float
    mean_abs: float
    mse: float
    cosine: float

    def within(self, tolerance: float) -> bool:
        """Whether every number agrees to the tolerance; never with a NaN in it."""
        return self.max_abs <= tolerance


def compare(features: AnyArray, reference: AnyArray) -> list[Difference]:
    """The difference of each row of two arrays of equal shape, (images, width)."""
    ours, theirs = features.astype(np.float64), reference.astype(np.float64)
    error = np.abs(ours - theirs)
    lengths = np.linalg.norm(ours, axis=1) * np.linalg.norm(theirs, axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        cosines = (ours * theirs).sum(axis=1) / lengths
    return [
        Difference(float(row.max()), float(row.mean()), float((row**2).mean()), float(cosine))
        for row, cosine in zip(error, cosines, strict=True)
    ]


def read_reference(file: Path, *, array: str | None = None, images: int, width: int) -> AnyArray:
    """Read reference features, shape (images, width), from a ``.npy`` or ``.npz`` file without unpickling anything.

    Parameters
    ----------
    array
        Which array of an npz; by default its only one, or one that is called like features.
    images, width
        What the shape must be; a single vector stands for one image.

    Raises
    ------
    UsageError
        If there is no such file or array.
    PickledWeightsError, CorruptWeightsError
        If the file holds Python objects, or is damaged.
    ShapeError
        If the shape is another; the message names both.
    """
    if not file.is_file():
        raise UsageError(f"no reference at {file}: give a .npy or .npz file with one row of features for each image.")
    features = _one_of(file, array) if zipfile.is_zipfile(file) else _npy(file)
    if features.dtype.kind not in "fiu":
        raise ShapeError(f"{file} holds {features.dtype}, wanted numbers.")
    if features.ndim == 1 and images == 1:
        features = features[np.newaxis]
    if features.shape != (images, width):
        raise ShapeError(
            f"{file} has shape {features.shape}, wanted {(images, width)}: {_why(features, images, width)}"
        )
    return features


def _why(features: AnyArray, images: int, width: int) -> str:
    if features.ndim == 2 and features.shape[0] != images:
        return f"it holds {features.shape[0]} images and {images} were given; give the same images in the same order."
    if features.ndim == 2:
        return f"the model's features have {width} numbers; take another model, or another --pooling."
    return "one row of features for each image."


def _npy(file: Path) -> AnyArray:
    refuse_pickles(file)
    try:
        with file.open("rb") as stream:
            version = npy.read_magic(stream)
            header = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
            _, _, dtype = header(stream)
        if not dtype.hasobject:
            loaded: AnyArray = np.load(file, allow_pickle=False)
            return loaded
    except (ValueError, EOFError, OSError, SyntaxError) as error:
        raise CorruptWeightsError(f"{file} is no .npy file, or a damaged one ({error}).") from error
    raise PickledWeightsError(
        f"{file} holds pickled Python objects, and reading a pickle can run any code in it; vitseek never does. "
        "Save the features again as numbers: numpy.save('reference.npy', numpy.asarray(features, dtype='float32'))."
    )


def _one_of(file: Path, array: str | None) -> AnyArray:
    stored = read_npz(file)
    names: Sequence[str] = [array] if array else list(stored)
    if array is None and len(stored) > 1:
        names = [name for name in FEATURE_NAMES if name in stored]
    if len(names) != 1 or names[0] not in stored:
        wanted = f"no array called {array!r}" if array else "several arrays"
        raise UsageError(f"{file} holds {wanted}: name one of {', '.join(stored)} with --array.")
    return stored[names[0]].read()
