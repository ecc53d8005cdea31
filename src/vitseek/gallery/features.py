"""Features in and out as .npz: two arrays, ``paths`` (n,) and ``features`` (n, D)."""

import os
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vitseek.errors import FeaturesError, GalleryMismatchError, StorageError
from vitseek.gallery.folders import Folders
from vitseek.gallery.identity import FileStamp, content_hash, now_ns
from vitseek.gallery.reading import image_facts
from vitseek.gallery.spaces import EmbeddingModel, Space
from vitseek.gallery.stores.catalog import Catalog, Root
from vitseek.gallery.stores.scan import Job, Outcome, Scan

FEATURE_NAMES = ("features", "gallery_features", "embeddings", "feats", "vectors", "arr_0")
PATH_NAMES = ("paths", "gallery_paths", "image_paths", "filenames", "files", "names", "arr_1")
SAMPLES = 3  # images that a named model embeds again, to see that the features are its own
SAME_COSINE = 0.999
ROWS_AT_ONCE = 512


@dataclass
class ImportReport:
    """What an import did. ``read`` says which arrays were taken for what; ``missing`` counts rows without a file."""

    space: str
    read: str
    imported: int = 0
    missing: int = 0
    outside: int = 0
    problems: list[str] = field(default_factory=list)
    checked: str | None = None


def export(catalog: Catalog, space: Space, file: Path) -> int:
    """Write the features of a space as the model gave them, with paths relative to the root where there is one root.

    Returns
    -------
    how many images
    """
    ids: list[NDArray[np.int64]] = []
    parts: list[NDArray[np.float32]] = []
    for some, vectors in catalog.stream_vectors(space):
        ids.append(some)
        parts.append(vectors)
    features = np.concatenate(parts) if parts else np.empty((0, space.key.dim), np.float32)
    records = catalog.images(np.concatenate(ids).tolist() if ids else [])
    single = len(catalog.roots()) == 1
    # Text with Python's escapes for undecodable bytes: read back, it names the same file.
    names = [str(record.path.relative_to(record.root) if single else record.path) for record in records]
    labels = [", ".join(record.labels) for record in records]
    facts = {name: str(value) for name, value in zip(space.key._fields, space.key, strict=True)}
    arrays: dict[str, Any] = {
        "features": features,
        "paths": np.array(names, np.str_),
        "labels": np.array(labels, np.str_),
    }
    arrays |= {name: np.array(text) for name, text in facts.items()}
    temporary = file.with_name(f".{file.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as out:
            np.savez(out, allow_pickle=False, **arrays)
        temporary.replace(file)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise StorageError(f"{file} could not be written: {error.strerror or error}") from error
    return len(records)


def load(file: Path) -> tuple[NDArray[np.float32], list[str], dict[str, str], str]:
    """Read features and paths: (features, paths, facts about their space, which arrays were taken).

    Raises
    ------
    FeaturesError
        If the file is no .npz, holds pickled objects, or has no pair of arrays that fit.
    """
    arrays = _arrays(file)
    fields = {name: str(array) for name, array in arrays.items() if array.ndim == 0 and array.dtype.kind in "US"}
    features_name = _pick(arrays, FEATURE_NAMES, lambda array: array.ndim == 2 and array.dtype.kind in "fiu")
    paths_name = _pick(arrays, PATH_NAMES, lambda array: array.ndim == 1 and array.dtype.kind in "US")
    described = ", ".join(f"{name} {array.dtype} {array.shape}" for name, array in arrays.items()) or "nothing"
    if features_name is None or paths_name is None:
        raise FeaturesError(
            f"{file} holds {described}. Wanted: features (n, D) of numbers and paths (n,) of text, "
            "as np.savez(file, features=…, paths=…) writes them."
        )
    features, paths = arrays[features_name], arrays[paths_name]
    if len(features) != len(paths):
        raise FeaturesError(
            f"{file}: {features_name} has {len(features)} rows and {paths_name} {len(paths)}; "
            "each image needs one of both"
        )
    if features.shape[1] == 0 or not np.isfinite(features).all():
        broken = np.flatnonzero(~np.isfinite(features).all(axis=1))
        detail = f"row {broken[0]} ({paths[broken[0]]}) holds NaN or infinity" if len(broken) else "they have width 0"
        raise FeaturesError(f"{file}: the features {features_name} cannot be searched: {detail}")
    texts = [os.fsdecode(path) if isinstance(path, bytes) else str(path) for path in paths.tolist()]
    read = f"{features_name} {features.shape} {features.dtype}, {paths_name} {paths.shape}"
    return features.astype(np.float32), texts, fields, read


def _arrays(file: Path) -> dict[str, NDArray[Any]]:
    try:
        with file.open("rb") as stream:
            start = stream.read(4)
        if start[:1] not in (b"P", b"\x93", b"\x80"):  # zip, .npy, pickle: NumPy takes anything else for a pickle
            raise FeaturesError(f"{file} is not a readable .npz file: it does not begin like one")
        archive = np.load(file, allow_pickle=False)
        if isinstance(archive, np.ndarray):
            raise FeaturesError(f"{file} holds one array, not paths and features; save both with np.savez")
        with archive:
            return {name: archive[name] for name in archive.files}
    except ValueError as error:
        if "pickle" in str(error):
            raise FeaturesError(
                f"{file} holds Python objects, which are not read because loading them can run code. "
                "Save the paths as text: np.savez(file, features=features, paths=np.array(paths, dtype=str))"
            ) from error
        raise FeaturesError(f"{file} is not a readable .npz file: {error}") from error
    except (OSError, EOFError, zipfile.BadZipFile, KeyError) as error:
        raise FeaturesError(
            f"{file} is not a readable .npz file: {getattr(error, 'strerror', None) or error}"
        ) from error


def _pick(arrays: dict[str, NDArray[Any]], names: Sequence[str], fits: Callable[[NDArray[Any]], bool]) -> str | None:
    """The array of a usual name, or else the only one that fits."""
    fitting = [name for name, array in arrays.items() if fits(array)]
    named = [name for name in names if name in fitting]
    if named:
        return named[0]
    return fitting[0] if len(fitting) == 1 else None


def locate_files(paths: Sequence[str], folders: Folders, beside: Path) -> list[Path | None]:
    """The file each path means: as it stands, or relative to a root, to its parent, or to the .npz file."""
    roots = [root.path for root in folders.all()]
    return [_locate(path, [*roots, *(root.parent for root in roots), beside]) for path in paths]


def _locate(text: str, bases: Sequence[Path]) -> Path | None:
    path = Path(text)
    if path.is_absolute():
        return path if path.is_file() else None
    return next((base / path for base in bases if (base / path).is_file()), None)


class Importer:
    """Brings foreign features into a space; the caller holds the write lock."""

    def __init__(self, catalog: Catalog, folders: Folders, space: Space, read: str) -> None:
        self._catalog = catalog
        self._folders = folders
        self._space = space
        self.report = ImportReport(space.name, read)

    def run(self, features: NDArray[np.float32], paths: Sequence[str], beside: Path) -> ImportReport:
        """Save each row whose file lies in a root of the gallery; the others are counted and named."""
        files = locate_files(paths, self._folders, beside)
        with Scan(self._catalog, self._space.id) as scan:
            pending: list[Outcome] = []
            for path, file, vector in zip(paths, files, features, strict=True):
                outcome = self._outcome(path, file, vector)
                if outcome is not None:
                    pending.append(outcome)
                if len(pending) >= ROWS_AT_ONCE:
                    scan.save(pending, folder_labels=False, overwrite=True)
                    pending = []
            scan.save(pending, folder_labels=False, overwrite=True)
        return self.report

    def _outcome(self, path: str, file: Path | None, vector: NDArray[np.float32]) -> Outcome | None:
        if file is None:
            self.report.missing += 1
            self._note(f"{path}: no such file in the folders of the gallery")
            return None
        found: tuple[Root, bytes] | None = self._folders.within(file)
        if found is None:
            self.report.outside += 1
            self._note(f"{path}: outside the folders of the gallery")
            return None
        root, raw = found
        checked_ns = now_ns()
        try:
            with file.open("rb") as stream:
                job = Job(root.id, raw, FileStamp.of(os.fstat(stream.fileno())))
                digest = content_hash(stream)
                facts = image_facts(stream, raw)
        except OSError as error:
            self.report.missing += 1
            self._note(f"{path}: {error.strerror or error}")
            return None
        if facts is None:
            self.report.missing += 1
            self._note(f"{path}: not a readable image")
            return None
        self.report.imported += 1
        return Outcome(job, checked_ns, digest, *facts, vector=vector)

    def _note(self, problem: str) -> None:
        if len(self.report.problems) < 20:
            self.report.problems.append(problem)


def compare_with_model(
    model: EmbeddingModel, features: NDArray[np.float32], files: Sequence[Path | None], name: str
) -> str:
    """Embed a few of the images and compare: are these features the model's own?

    Returns
    -------
    a sentence with the lowest cosine

    Raises
    ------
    GalleryMismatchError
        If width or direction differ.
    """
    dim = model.space().dim
    if features.shape[1] != dim:
        raise GalleryMismatchError(f"{name} holds {features.shape[1]}-d features, but {model.name} makes {dim}-d ones")
    present = [(number, file) for number, file in enumerate(files) if file is not None]
    chosen = present[:: max(1, len(present) // SAMPLES)][:SAMPLES]
    if not chosen:
        return "no image was at hand to compare with the model"
    ours = np.asarray(model.embed([file for _, file in chosen]), np.float64)
    theirs = features[[number for number, _ in chosen]].astype(np.float64)
    lengths = np.linalg.norm(ours, axis=1) * np.linalg.norm(theirs, axis=1)
    cosines = (ours * theirs).sum(axis=1) / np.where(lengths == 0, 1, lengths)
    worst = int(np.argmin(cosines))
    if cosines[worst] < SAME_COSINE:
        raise GalleryMismatchError(
            f"{name} does not hold features of {model.name}: for {chosen[worst][1]} the cosine with the "
            f"model's own is {cosines[worst]:.4f}, and {SAME_COSINE} is wanted. Was another preprocessing used? "
            "Import without --model to search with vectors and gallery images only."
        )
    return f"{len(chosen)} images embedded again agree: lowest cosine {cosines[worst]:.6f}"
