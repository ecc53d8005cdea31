"""Decoded images, and the order in which a run sees them.

Everything random is drawn from ``(seed, epoch, index of the image)``. So a resumed run, a run with other workers and a
run on several machines all see the same crops, and no state of a random generator needs to be saved.
"""

import concurrent.futures
import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from vitseek.engines.cores import usable_cores
from vitseek.errors import ImageError, TrainingError, UsageError
from vitseek.preprocess.image import ImagePreprocessing, decode, to_pixels
from vitseek.train.sources import ImageList, Skipped

Key = tuple[int, int]  # (epoch, index of the image)
Sample = dict[str, Any]
Batch = dict[str, Any]
View = Callable[[Image.Image, np.random.Generator], Sample]
Told = Callable[[int, int], None]  # done, total
RESIZE_SHARE = 0.875  # the centre crop's part of the resized short side: 224 of 256 px, in nearly every paper


class Pictures:
    """Images in memory as RGB bytes, reduced to what the crops need; those over the limit are decoded at each use."""

    def __init__(self, paths: Sequence[Path], decoded: Sequence[NDArray[np.uint8] | None], short_side_px: int) -> None:
        self.paths = list(paths)
        self.short_side_px = short_side_px
        self._decoded = list(decoded)

    def __len__(self) -> int:
        return len(self.paths)

    def subset(self, indices: Sequence[int]) -> "Pictures":
        """The pictures at ``indices``, sharing their memory."""
        chosen = list(indices)
        return Pictures([self.paths[i] for i in chosen], [self._decoded[i] for i in chosen], self.short_side_px)

    def __getitem__(self, index: int) -> Image.Image:
        """The image, RGB, upright.

        Raises
        ------
        TrainingError
            If a file that was readable when the run started no longer is.
        """
        pixels = self._decoded[index]
        if pixels is not None:
            return Image.fromarray(pixels)
        try:
            return _reduced(decode(self.paths[index]), self.short_side_px)
        except ImageError as error:
            raise TrainingError(
                f"{self.paths[index]} could be read when the run started and cannot now: {error}. "
                "Put it back and go on with --resume"
            ) from error


def load_pictures(
    images: ImageList, *, short_side_px: int, limit_mb: int, told: Told | None = None
) -> tuple[ImageList, Pictures]:
    """Decode every image once: it is checked, reduced to ``short_side_px`` and kept while memory lasts.

    Returns
    -------
    The images that can be read, with all that cannot in ``skipped``, and their pictures.
    """
    limit_bytes = limit_mb * 2**20

    def attempt(path: Path) -> NDArray[np.uint8] | Skipped:
        try:
            return np.asarray(_reduced(decode(path), short_side_px))
        except ImageError as error:
            return Skipped(path, str(getattr(error, "reason", error)))

    kept: list[int] = []
    decoded: list[NDArray[np.uint8] | None] = []
    skipped: list[Skipped] = []
    used = 0
    for index, found in enumerate(_in_threads(attempt, images.paths)):
        if isinstance(found, Skipped):
            skipped.append(found)
        else:
            kept.append(index)
            fits = used + found.nbytes <= limit_bytes
            used += found.nbytes if fits else 0
            decoded.append(found if fits else None)
        if told:
            told(index + 1, len(images))
    readable = images.subset(kept)
    readable.skipped = images.skipped + skipped
    return readable, Pictures(readable.paths, decoded, short_side_px)


def _in_threads(attempt: Callable[[Path], Any], paths: Sequence[Path]) -> Iterator[Any]:
    """Results in the order of ``paths``; Pillow decodes without the interpreter's lock. A few are in flight at most."""
    workers = min(8, usable_cores())
    with concurrent.futures.ThreadPoolExecutor(workers) as pool:
        for start in range(0, len(paths), 16 * workers):
            yield from pool.map(attempt, paths[start : start + 16 * workers])


def _reduced(image: Image.Image, short_side_px: int) -> Image.Image:
    short = min(image.size)
    if short <= short_side_px:
        return image
    scale = short_side_px / short
    size = max(1, round(image.width * scale)), max(1, round(image.height * scale))
    return image.resize(size, Image.Resampling.BICUBIC, reducing_gap=2.0)


class Augmented(Dataset[Sample]):
    """Random views of pictures: item ``(epoch, index)`` is the same every time it is asked for."""

    def __init__(
        self,
        pictures: Pictures,
        view: View,
        *,
        seed: int,
        labels: Sequence[int] | None = None,
        more: Callable[[int, np.random.Generator], Sample] | None = None,
    ) -> None:
        self.pictures, self.view, self.seed, self.labels, self.more = pictures, view, seed, labels, more

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, key: Key) -> Sample:
        epoch, index = key
        rng = np.random.default_rng((self.seed, epoch, index))
        sample = {**self.view(self.pictures[index], rng), "index": index}
        if self.labels is not None:
            sample["label"] = self.labels[index]
        if self.more is not None:
            sample.update(self.more(index, rng))
        return sample


class Still:
    """Images exactly as the runtime will preprocess them, for evaluation: bytes in memory, normalised when asked."""

    def __init__(self, images: ImageList, preprocessing: ImagePreprocessing, told: Told | None = None) -> None:
        self.labels = torch.tensor(images.labels)
        self.preprocessing = preprocessing
        mean, std = (np.array(v, np.float32)[:, None, None] for v in (preprocessing.mean, preprocessing.std))

        def attempt(path: Path) -> NDArray[np.uint8]:
            return np.asarray(np.rint((to_pixels(decode(path), preprocessing) * std + mean) * 255), dtype=np.uint8)

        self.levels = torch.empty((len(images), 3, preprocessing.size_px, preprocessing.size_px), dtype=torch.uint8)
        for index, levels in enumerate(_in_threads(attempt, images.paths)):
            self.levels[index] = torch.from_numpy(levels)
            if told:
                told(index + 1, len(images))

    def __len__(self) -> int:
        return len(self.labels)

    def batches(self, size: int, device: torch.device | str = "cpu") -> Iterator[tuple[Tensor, Tensor]]:
        """Yield (pixels (B, 3, height, width), labels (B,)) in order."""
        mean, std = (
            torch.tensor(v).reshape(3, 1, 1).to(device) for v in (self.preprocessing.mean, self.preprocessing.std)
        )
        for start in range(0, len(self), size):
            levels = self.levels[start : start + size].to(device)
            yield (levels.float() / 255 - mean) / std, self.labels[start : start + size].to(device)


def preprocessing_for(
    image_size: int, mean: tuple[float, float, float], std: tuple[float, float, float], patch_size: int
) -> ImagePreprocessing:
    """How a model trained at ``image_size`` sees images at evaluation and at runtime: short side, then centre crop."""
    return ImagePreprocessing(
        size_px=image_size, resize_px=round(image_size / RESIZE_SHARE), mean=mean, std=std, patch_size_px=patch_size
    )


class Order:
    """The order of the images: a new permutation every epoch, cut into batches, each cut over parts and processes.

    The last, shorter batch of an epoch is left out; as the permutation changes, no image is left out for long.
    """

    def __init__(
        self, count: int, batch_size: int, *, seed: int, accumulate: int = 1, rank: int = 0, size: int = 1
    ) -> None:
        share = accumulate * size
        if batch_size % share:
            raise UsageError(
                f"--batch-size {batch_size} cannot be split over {size} processes and {accumulate} parts; "
                f"use {max(share, batch_size // share * share)}"
            )
        if count < share:
            raise TrainingError(f"{count} training images are too few for {size} processes and {accumulate} parts")
        self.count, self.seed, self.accumulate, self.rank, self.size = count, seed, accumulate, rank, size
        self.batch_size = min(batch_size, count // share * share)

    @property
    def steps(self) -> int:
        """Steps an epoch."""
        return self.count // self.batch_size

    def parts(self, epoch: int, first_step: int = 0) -> Iterator[list[Key]]:
        """Keys of each part that this process computes, from a step of an epoch on: ``accumulate`` parts a step."""
        order = np.random.default_rng((self.seed, epoch)).permutation(self.count)
        part_size = self.batch_size // self.accumulate
        for start in range(first_step * self.batch_size, self.steps * self.batch_size, part_size):
            mine = order[start : start + part_size][self.rank :: self.size]
            yield [(epoch, int(index)) for index in mine]


def batches(dataset: Dataset[Sample], order: Order, epoch: int, first_step: int, workers: int) -> Iterator[Batch]:
    """Load the parts of an epoch, in the background if there are workers."""
    parts = list(order.parts(epoch, first_step))
    generator = torch.Generator().manual_seed(0)  # else the loader draws from the global one
    loader = DataLoader(
        dataset, batch_sampler=parts, num_workers=workers, generator=generator, pin_memory=torch.cuda.is_available()
    )
    return iter(loader)


def storage_side(image_size: int, min_scale: float) -> int:
    """Short side to keep in memory: the smallest crop is enlarged no more than twice, the whole image not at all."""
    return math.ceil(image_size * min(max(0.5 / math.sqrt(min_scale), 1.2), 2.0))
