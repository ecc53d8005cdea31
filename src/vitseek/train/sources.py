"""Which images a run trains on: a folder of classes, a folder of anything, or a CSV file.

Nothing is decoded here. Files that do not exist are skipped, counted and listed; what makes a run pointless (one class,
an empty class, a label that training does not know) is an error before the first step.
"""

import csv
import dataclasses
import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from vitseek.errors import TrainingError, UsageError
from vitseek.preprocess.image import IMAGE_SUFFIXES

NO_LABEL = -1
LISTED = 10  # names in a message before "and N more"


@dataclasses.dataclass(frozen=True)
class Skipped:
    """A file that was left out, and why."""

    path: Path
    reason: str


@dataclasses.dataclass
class ImageList:
    """Files with their labels; ``labels`` are indices into ``classes``, or :data:`NO_LABEL`."""

    paths: list[Path]
    labels: list[int]
    classes: tuple[str, ...] = ()
    skipped: list[Skipped] = dataclasses.field(default_factory=list)
    captions: list[tuple[str, ...]] = dataclasses.field(default_factory=list)

    def __len__(self) -> int:
        return len(self.paths)

    @property
    def labelled(self) -> bool:
        """Whether there are at least two classes."""
        return len(self.classes) > 1

    def subset(self, indices: Iterable[int]) -> "ImageList":
        """The files at ``indices``, in that order, without the list of skipped files."""
        chosen = list(indices)
        return ImageList(
            [self.paths[i] for i in chosen],
            [self.labels[i] for i in chosen],
            self.classes,
            captions=[self.captions[i] for i in chosen] if self.captions else [],
        )

    def fingerprint(self) -> str:
        """A short hash of names, labels and captions: equal if a resumed run sees the same images."""
        digest = hashlib.sha256(repr(self.classes).encode())
        for index, path in enumerate(self.paths):
            caption = self.captions[index] if self.captions else ()
            digest.update(f"{path.name}\0{self.labels[index]}\0{caption}\n".encode(errors="surrogateescape"))
        return digest.hexdigest()[:16]


def read_labelled(source: Path, *, classes: Sequence[str] | None = None) -> ImageList:
    """Read a folder ``SOURCE/CLASS/*.jpg`` or a CSV file with the columns ``path,label``.

    Parameters
    ----------
    classes
        The classes that training knows; ``None`` takes them from the source, sorted.

    Raises
    ------
    UsageError
        If the source does not exist or the CSV file lacks a column.
    TrainingError
        If there is one class only, a class without an image, an empty label, or a label that is not in ``classes``.
    """
    rows, skipped = _csv_rows(source) if source.is_file() else (_folder_rows(source), [])
    names = tuple(sorted({label for _, label in rows})) if classes is None else tuple(classes)
    if unknown := sorted({label for _, label in rows} - set(names)):
        raise TrainingError(
            f"{source} has labels that the training images do not have: {_listed(unknown)} "
            f"(training has {_listed(names)}). Correct the labels, or add images of them to --data"
        )
    _check_classes(source, names)
    index = {name: number for number, name in enumerate(names)}
    return ImageList([path for path, _ in rows], [index[label] for _, label in rows], names, skipped)


def read_images(source: Path) -> ImageList:
    """Read every image below a folder, or the ``path`` column of a CSV file; classes are kept where there are any."""
    if source.is_file():
        rows, skipped = _csv_rows(source, labels=False)
    else:
        _check_folder(source)
        rows, skipped = [(path, _class_of(path, source)) for path in _images_below(source)], []
    if not rows:
        raise TrainingError(f"no image in {source}. {_FORMATS}")
    names = tuple(sorted({label for _, label in rows if label}))
    index = {name: number for number, name in enumerate(names)}
    return ImageList([path for path, _ in rows], [index.get(label, NO_LABEL) for _, label in rows], names, skipped)


def read_captions(source: Path, images: Path | None = None) -> ImageList:
    """Read a CSV file ``image,caption`` with one or several rows an image.

    Parameters
    ----------
    images
        Folder that the names are in; ``None`` tries the CSV file's own folder and ``images/`` or ``Images/`` in it.

    Raises
    ------
    UsageError
        If the file does not exist or lacks a column.
    TrainingError
        If no named image exists.
    """
    if not source.is_file():
        raise UsageError(f"{source} is not a file: image-caption pairs are a CSV file with the columns image,caption")
    captions: dict[str, list[str]] = {}
    for _, row in _read_csv(source, ("image", "caption")):
        if text := row["caption"].strip():
            captions.setdefault(row["image"], []).append(text)
    folders = [images] if images else [source.parent, source.parent / "images", source.parent / "Images"]
    found: ImageList = ImageList([], [])
    for name, texts in captions.items():
        path = next((folder / name for folder in folders if (folder / name).is_file()), None)
        if path is None:
            found.skipped.append(Skipped(folders[0] / name, "does not exist"))
        else:
            found.paths.append(path)
            found.labels.append(NO_LABEL)
            found.captions.append(tuple(texts))
    if not found.paths:
        raise TrainingError(
            f"none of the {len(captions)} images that {source} names exists in {_listed(map(str, folders))}. "
            "Say where they are with --images"
        )
    return found


def hold_out_indices(images: ImageList, part: float, seed: int) -> tuple[list[int], list[int]]:
    """Split off ``part`` of every class, one image at least; the same split for the same seed and files.

    Returns
    -------
    Indices of what is kept and of what is held out, each in order.

    Raises
    ------
    UsageError
        If ``part`` is not between 0 and 1.
    TrainingError
        If a class has one image only.
    """
    if not 0.0 < part < 1.0:
        raise UsageError(f"--holdout is a part between 0 and 1, not {part:g}")
    rng = np.random.default_rng(seed)
    kept: list[int] = []
    held: list[int] = []
    for label in sorted(set(images.labels)):
        members = [i for i, other in enumerate(images.labels) if other == label]
        if len(members) < 2:
            name = images.classes[label] if label >= 0 else "the data"
            raise TrainingError(
                f"{name!r} has a single image ({images.paths[members[0]]}): nothing can be held out for validation. "
                "Add images, or give --validation"
            )
        count = min(max(1, round(part * len(members))), len(members) - 1)
        shuffled = rng.permutation(members).tolist()
        held += shuffled[:count]
        kept += shuffled[count:]
    return sorted(kept), sorted(held)


def check_every_class_has_images(images: ImageList, source: Path) -> None:
    """Refuse a class whose images all turned out unreadable."""
    counts = Counter(images.labels)
    if images.labelled and (empty := [n for i, n in enumerate(images.classes) if not counts[i]]):
        raise TrainingError(
            f"class {_listed(empty)} of {source} has no readable image. Put images there, or remove the class"
        )
    if not images.paths:
        raise TrainingError(f"no image of {source} can be read; the reasons are in skipped.txt of the run's folder")


_FORMATS = f"Formats: {', '.join(sorted(suffix.lstrip('.') for suffix in IMAGE_SUFFIXES))}"


def _folder_rows(source: Path) -> list[tuple[Path, str]]:
    _check_folder(source)
    folders = sorted(entry for entry in source.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    found = {folder.name: _images_below(folder) for folder in folders}
    if not folders:
        raise TrainingError(
            f"{source} has no class folders. A classifier needs {source}/CLASS/*.jpg, or a CSV file with the columns "
            "path,label"
        )
    if empty := [name for name, paths in found.items() if not paths]:
        raise TrainingError(
            f"class {_listed(empty)} of {source} has no image. Put images there, or remove the folder. {_FORMATS}"
        )
    return [(path, name) for name, paths in found.items() for path in paths]


def _check_folder(source: Path) -> None:
    if not source.is_dir():
        raise UsageError(f"{source} does not exist: --data is a folder of images or a CSV file")


def _images_below(folder: Path) -> list[Path]:
    """Every image file below a folder, in one order on every machine; hidden files and folders are left out."""
    return sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in IMAGE_SUFFIXES
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
        and path.is_file()
    )


def _class_of(path: Path, source: Path) -> str:
    parts = path.relative_to(source).parts
    return parts[0] if len(parts) > 1 else ""


def _csv_rows(source: Path, *, labels: bool = True) -> tuple[list[tuple[Path, str]], list[Skipped]]:
    rows: list[tuple[Path, str]] = []
    skipped: list[Skipped] = []
    unlabelled: list[str] = []
    for line, row in _read_csv(source, ("path", "label") if labels else ("path",)):
        path = source.parent / row["path"]  # an absolute path stays absolute
        label = row.get("label", "").strip()
        if labels and not label:
            unlabelled.append(str(line))
        elif path.is_file():
            rows.append((path, label))
        else:
            skipped.append(Skipped(path, "does not exist"))
    if unlabelled:
        raise TrainingError(
            f"{source} has rows without a label: line {_listed(unlabelled)}. Fill them in, or remove them"
        )
    if not rows:
        raise TrainingError(
            f"{source} names {len(skipped)} images and none of them exists (the first: "
            f"{skipped[0].path if skipped else 'none'}). Paths are relative to the CSV file's folder"
        )
    return rows, skipped


def _read_csv(source: Path, columns: Sequence[str]) -> Iterable[tuple[int, dict[str, str]]]:
    """Yield (line number, row); a byte-order mark and short rows are allowed."""
    try:
        with source.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            missing = [name for name in columns if name not in (reader.fieldnames or ())]
            if missing:
                raise UsageError(
                    f"{source} lacks the column {', '.join(missing)}: its first line must be {','.join(columns)}, "
                    f"and is {','.join(reader.fieldnames or ()) or 'empty'}"
                )
            for row in reader:
                yield reader.line_num, {key: value or "" for key, value in row.items() if isinstance(key, str)}
    except (UnicodeDecodeError, csv.Error) as error:
        raise UsageError(f"{source} is not a CSV file in UTF-8: {error}") from error


def _check_classes(source: Path, names: Sequence[str]) -> None:
    if len(names) < 2:
        raise TrainingError(
            f"{source} has one class only, {_listed(names)}: a classifier needs two or more. "
            f"Is {source.parent} the folder that you mean?"
        )


def _listed(names: Iterable[str]) -> str:
    every = list(names)
    more = f" and {len(every) - LISTED} more" if len(every) > LISTED else ""
    return ", ".join(repr(name) for name in every[:LISTED]) + more
