"""The images of a distillation: drawn by shares of their sources, seen in random views, answers of the teacher kept."""

import dataclasses
import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from vitseek.errors import TrainingError, UsageError
from vitseek.train import augment
from vitseek.train.data import Key, Pictures, Sample, Told
from vitseek.train.sources import ImageList

JITTER = {"brightness": 0.3, "contrast": 0.3, "saturation": 0.45, "hue": 0.0}
GREYED = 0.05  # part of the views without colour
CACHED = 1  # tells the random numbers of kept views from those of fresh ones
BATCH = 32  # images that the teacher answers to at once
Answer = Callable[[Tensor], Tensor]


@dataclasses.dataclass(frozen=True)
class View:
    """A random crop, mirrored and recoloured."""

    size_px: int
    min_scale: float
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    def __call__(self, image: Image.Image, rng: np.random.Generator) -> Sample:
        """Return ``{"pixels": (3, size, size)}``, normalised."""
        image = augment.random_resized_crop(image, self.size_px, rng, scale=(self.min_scale, 1.0))
        image = augment.color_jitter(augment.random_flip(image, rng), rng, **JITTER)
        return {"pixels": augment.to_tensor(augment.random_grayscale(image, rng, GREYED), self.mean, self.std)}


class Drawn(Dataset[Sample]):
    """Views of images: item ``(epoch, index)`` is the same every time it is asked for.

    Parameters
    ----------
    shares
        How often images are drawn: (indices, share) of each source; ``None`` takes every image once an epoch.
    count
        Items an epoch; ``None`` for as many as there are images.
    cache
        The teacher's answers, (views, images, tokens, width): then one of these fixed views is drawn, and its answer
        comes along as ``"target"``.
    """

    def __init__(
        self,
        pictures: Pictures,
        view: View,
        *,
        seed: int,
        shares: Sequence[tuple[NDArray[np.int64], float]] | None = None,
        count: int | None = None,
        cache: NDArray[np.float16] | None = None,
    ) -> None:
        self.pictures, self.view, self.seed, self.cache = pictures, view, seed, cache
        self.shares, self.count = shares, count

    def __len__(self) -> int:
        return self.count or len(self.pictures)

    def __getitem__(self, key: Key) -> Sample:
        epoch, item = key
        rng = np.random.default_rng((self.seed, epoch, item))
        index = item
        if self.shares is not None:
            indices, _ = self.shares[int(rng.choice(len(self.shares), p=[share for _, share in self.shares]))]
            index = int(rng.choice(indices))
        elif self.count is not None:
            index = int(rng.integers(len(self.pictures)))
        if self.cache is None:
            return {**self.view(self.pictures[index], rng), "index": index}
        number = int(rng.integers(len(self.cache)))
        sample = kept_view(self.pictures, self.view, index, number, self.seed)
        return {**sample, "index": index, "target": torch.from_numpy(np.array(self.cache[number, index]))}


def kept_view(pictures: Pictures, view: View, index: int, number: int, seed: int) -> Sample:
    """Fixed view ``number`` of an image."""
    return view(pictures[index], np.random.default_rng((seed, CACHED, number, index)))


def compute_targets(
    path: Path,
    key: str,
    pictures: Pictures,
    view: View,
    answer: Answer,
    *,
    views: int,
    seed: int,
    told: Told | None = None,
) -> NDArray[np.float16]:
    """Ask the teacher about every fixed view of every image, or map the answers of an earlier run from the disk.

    Parameters
    ----------
    path
        File of the answers, (views, images, tokens, width) in float16; ``path`` with ``.json`` says what they are of.
    key
        What the answers depend on; a file with another key is computed anew.

    Raises
    ------
    TrainingError
        If the disk has no room for them.
    """
    note = path.with_suffix(".json")
    wanted = {"key": key, "views": views}
    if path.is_file() and note.is_file() and json.loads(note.read_text(encoding="utf-8")) == wanted:
        return np.load(path, mmap_mode="r")  # type: ignore[no-any-return]
    path.parent.mkdir(parents=True, exist_ok=True)
    note.unlink(missing_ok=True)
    count = len(pictures)
    shape = tuple(answer(kept_view(pictures, view, 0, 0, seed)["pixels"][None]).shape[1:])
    needed, free = 2 * views * count * int(np.prod(shape)), shutil.disk_usage(path.parent).free
    if needed > free:
        raise TrainingError(
            f"no disk left for the teacher's answers: {path.parent} has {free / 2**30:.1f} GiB free, and {views} views "
            f"of {count} images need {needed / 2**30:.1f} GiB. Lower --cache-views, or leave it at 0: then the teacher "
            "answers during training"
        )
    partial = path.with_suffix(".partial")
    answers = np.lib.format.open_memmap(partial, mode="w+", dtype=np.float16, shape=(views, count, *shape))
    for number in range(views):
        for start in range(0, count, BATCH):
            rows = range(start, min(start + BATCH, count))
            pixels = torch.stack([kept_view(pictures, view, index, number, seed)["pixels"] for index in rows])
            answers[number, start : rows.stop] = answer(pixels).float().cpu().numpy()
            if told:
                told(number * count + rows.stop, views * count)
    answers.flush()
    del answers
    partial.replace(path)
    note.write_text(json.dumps(wanted), encoding="utf-8")
    return np.load(path, mmap_mode="r")  # type: ignore[no-any-return]


def shares_of(mix: str, images: ImageList) -> list[tuple[NDArray[np.int64], float]]:
    """Read ``photos=0.7,products=0.3``: sub-folders of the data and how often their images are drawn.

    Raises
    ------
    UsageError
        If it cannot be read, names no sub-folder, or leaves one out.
    """
    shares: dict[str, float] = {}
    for part in mix.split(","):
        name, _, number = part.partition("=")
        try:
            shares[name.strip()] = float(number)
        except ValueError as error:
            raise UsageError(f"--mix {mix!r}: {part!r} is not NAME=SHARE, as in photos=0.7,products=0.3") from error
    known = set(images.classes)
    if set(shares) != known:
        raise UsageError(
            f"--mix names {', '.join(sorted(shares))}, and the sub-folders of --data are "
            f"{', '.join(sorted(known)) or 'none'}: name each of them, with 0 for one that is not wanted"
        )
    if min(shares.values()) < 0 or sum(shares.values()) <= 0:
        raise UsageError(f"--mix {mix!r}: shares are 0 or more, and not all of them 0")
    labels, total = np.array(images.labels), sum(shares.values())
    found = [(np.flatnonzero(labels == number), shares[name] / total) for number, name in enumerate(images.classes)]
    return [(indices, share) for indices, share in found if share > 0 and len(indices)]
