"""Random views of an image, and mixes of a batch, from Pillow and torch alone.

Functions of (image, generator): the same generator gives the same view. Papers: Inception crop (Szegedy et al., 2015),
RandAugment (Cubuk et al., 2020), random erasing (Zhong et al., 2020), mixup (Zhang et al., 2018), CutMix (Yun et al.,
2019).
"""

import dataclasses
import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from PIL import Image, ImageEnhance, ImageFilter, ImageOps
from torch import Tensor

Rng = np.random.Generator
RATIO = (3 / 4, 4 / 3)  # width to height of a random crop, of the Inception paper
CROP_TRIES = 10
MAX_MAGNITUDE = 10
GREY = (128, 128, 128)  # what RandAugment's geometric operations fill with


def random_resized_crop(
    image: Image.Image, size_px: int, rng: Rng, *, scale: tuple[float, float], ratio: tuple[float, float] = RATIO
) -> Image.Image:
    """Cut out a random part of the area, in a random shape, and resize it to a square; the centre if none fits."""
    width, height = image.size
    for _ in range(CROP_TRIES):
        area = width * height * rng.uniform(*scale)
        shape = math.exp(rng.uniform(math.log(ratio[0]), math.log(ratio[1])))
        crop_width, crop_height = round(math.sqrt(area * shape)), round(math.sqrt(area / shape))
        if 0 < crop_width <= width and 0 < crop_height <= height:
            left = int(rng.integers(0, width - crop_width + 1))
            top = int(rng.integers(0, height - crop_height + 1))
            break
    else:
        crop_width, crop_height = min(width, round(height * ratio[1])), min(height, round(width / ratio[0]))
        left, top = (width - crop_width) // 2, (height - crop_height) // 2
    box = (left, top, left + crop_width, top + crop_height)
    return image.resize((size_px, size_px), Image.Resampling.BICUBIC, box=box)


def random_flip(image: Image.Image, rng: Rng) -> Image.Image:
    """Mirror half of the images."""
    return ImageOps.mirror(image) if rng.random() < 0.5 else image


def color_jitter(
    image: Image.Image, rng: Rng, *, brightness: float, contrast: float, saturation: float, hue: float
) -> Image.Image:
    """Change brightness, contrast and saturation by up to these parts and the hue by up to a part of the circle."""

    def factor(strength: float) -> float:
        return float(rng.uniform(max(0.0, 1 - strength), 1 + strength))

    def turn(picture: Image.Image) -> Image.Image:
        shift = int(rng.uniform(-hue, hue) * 255)
        levels = np.array(picture.convert("HSV"))
        levels[..., 0] += np.array(shift % 256, dtype=np.uint8)  # wraps around, as hue does
        return Image.fromarray(levels, "HSV").convert("RGB")

    operations: list[Callable[[Image.Image], Image.Image]] = [
        lambda picture: ImageEnhance.Brightness(picture).enhance(factor(brightness)),
        lambda picture: ImageEnhance.Contrast(picture).enhance(factor(contrast)),
        lambda picture: ImageEnhance.Color(picture).enhance(factor(saturation)),
    ]
    if hue:
        operations.append(turn)
    for number in rng.permutation(len(operations)):
        image = operations[number](image)
    return image


def random_grayscale(image: Image.Image, rng: Rng, probability: float) -> Image.Image:
    """Take the colour away from some images."""
    return ImageOps.grayscale(image).convert("RGB") if rng.random() < probability else image


def random_blur(
    image: Image.Image, rng: Rng, probability: float, sigma: tuple[float, float] = (0.1, 2.0)
) -> Image.Image:
    """Blur some images with a Gaussian; ``sigma`` in pixels, of the DINO paper at 224 px."""
    return image.filter(ImageFilter.GaussianBlur(rng.uniform(*sigma))) if rng.random() < probability else image


def random_solarize(image: Image.Image, rng: Rng, probability: float) -> Image.Image:
    """Invert the light half of some images."""
    return ImageOps.solarize(image, 128) if rng.random() < probability else image


def _affine(*coefficients: Callable[[float, Image.Image], float]) -> Callable[[Image.Image, float], Image.Image]:
    def apply(image: Image.Image, amount: float) -> Image.Image:
        matrix = tuple(c(amount, image) for c in coefficients)
        return image.transform(image.size, Image.Transform.AFFINE, matrix, Image.Resampling.BICUBIC, fillcolor=GREY)

    return apply


def _zero(_amount: float, _image: Image.Image) -> float:
    return 0.0


def _one(_amount: float, _image: Image.Image) -> float:
    return 1.0


# name: (operation, amount at full magnitude, whether the amount has a random sign). Ranges of the RandAugment paper.
OPERATIONS: dict[str, tuple[Callable[[Image.Image, float], Image.Image], float, bool]] = {
    "identity": (lambda image, _: image, 0.0, False),
    "autocontrast": (lambda image, _: ImageOps.autocontrast(image), 0.0, False),
    "equalize": (lambda image, _: ImageOps.equalize(image), 0.0, False),
    "rotate": (lambda image, amount: image.rotate(amount, Image.Resampling.BICUBIC, fillcolor=GREY), 30.0, True),
    "solarize": (lambda image, amount: ImageOps.solarize(image, 256 - int(amount)), 256.0, False),
    "posterize": (lambda image, amount: ImageOps.posterize(image, 8 - int(amount)), 4.0, False),
    "color": (lambda image, amount: ImageEnhance.Color(image).enhance(1 + amount), 0.9, True),
    "contrast": (lambda image, amount: ImageEnhance.Contrast(image).enhance(1 + amount), 0.9, True),
    "brightness": (lambda image, amount: ImageEnhance.Brightness(image).enhance(1 + amount), 0.9, True),
    "sharpness": (lambda image, amount: ImageEnhance.Sharpness(image).enhance(1 + amount), 0.9, True),
    "shear-x": (_affine(_one, lambda a, _: a, _zero, _zero, _one, _zero), 0.3, True),
    "shear-y": (_affine(_one, _zero, _zero, lambda a, _: a, _one, _zero), 0.3, True),
    "translate-x": (_affine(_one, _zero, lambda a, image: a * image.width, _zero, _one, _zero), 0.45, True),
    "translate-y": (_affine(_one, _zero, _zero, _zero, _one, lambda a, image: a * image.height), 0.45, True),
}


def rand_augment(image: Image.Image, rng: Rng, *, operations: int, magnitude: float) -> Image.Image:
    """Apply random operations, one after another, each at ``magnitude`` (0 to 10) and with a random sign."""
    names = tuple(OPERATIONS)
    for _ in range(operations):
        operation, most, signed = OPERATIONS[names[rng.integers(len(names))]]
        amount = most * magnitude / MAX_MAGNITUDE
        image = operation(image, -amount if signed and rng.random() < 0.5 else amount)
    return image


def random_erasing(
    pixels: Tensor, rng: Rng, probability: float, *, area: tuple[float, float] = (0.02, 1 / 3), ratio: float = 0.3
) -> Tensor:
    """Replace a random rectangle of some images with noise; ``pixels`` (3, height, width) is changed in place."""
    if rng.random() >= probability:
        return pixels
    _, height, width = pixels.shape
    for _ in range(CROP_TRIES):
        wanted = height * width * rng.uniform(*area)
        shape = math.exp(rng.uniform(math.log(ratio), math.log(1 / ratio)))
        box_height, box_width = round(math.sqrt(wanted * shape)), round(math.sqrt(wanted / shape))
        if 0 < box_height < height and 0 < box_width < width:
            top, left = int(rng.integers(height - box_height + 1)), int(rng.integers(width - box_width + 1))
            noise = rng.standard_normal((3, box_height, box_width), dtype=np.float32)
            pixels[:, top : top + box_height, left : left + box_width] = torch.from_numpy(noise)
            break
    return pixels


def to_tensor(image: Image.Image, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """Normalised float32 (3, height, width) of an RGB image."""
    levels = torch.from_numpy(np.array(image)).permute(2, 0, 1)
    return (levels.float() / 255 - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None]


@dataclasses.dataclass(frozen=True)
class Mix:
    """Mixup or CutMix of a batch with itself in reverse order, whichever is drawn; 0 turns one off."""

    mixup: float
    cutmix: float
    num_classes: int
    smoothing: float = 0.0

    def __call__(self, pixels: Tensor, labels: Tensor, rng: Rng) -> tuple[Tensor, Tensor]:
        """Return mixed pixels (B, 3, height, width) and the probabilities (B, classes) to learn."""
        targets = self.soft(labels)
        choices = [name for name, strength in (("mixup", self.mixup), ("cutmix", self.cutmix)) if strength > 0]
        if not choices:
            return pixels, targets
        if choices[rng.integers(len(choices))] == "mixup":
            share = float(rng.beta(self.mixup, self.mixup))
            mixed = pixels * share + pixels.flip(0) * (1 - share)
        else:
            mixed, share = self._cut(pixels, float(rng.beta(self.cutmix, self.cutmix)), rng)
        return mixed, targets * share + targets.flip(0) * (1 - share)

    def soft(self, labels: Tensor) -> Tensor:
        """One-hot labels with the smoothing spread over all classes: (B,) -> (B, classes)."""
        low = self.smoothing / self.num_classes
        targets = torch.full((len(labels), self.num_classes), low, device=labels.device)
        return targets.scatter_(1, labels[:, None], 1 - self.smoothing + low)

    @staticmethod
    def _cut(pixels: Tensor, share: float, rng: Rng) -> tuple[Tensor, float]:
        """Paste a box of the reversed batch; the share kept is what the box, cut off at the border, leaves."""
        height, width = pixels.shape[-2:]
        side = math.sqrt(1 - share)
        row, column = int(rng.integers(height)), int(rng.integers(width))
        half_height, half_width = int(height * side) // 2, int(width * side) // 2
        top, bottom = max(row - half_height, 0), min(row + half_height, height)
        left, right = max(column - half_width, 0), min(column + half_width, width)
        mixed = pixels.clone()
        mixed[..., top:bottom, left:right] = pixels.flip(0)[..., top:bottom, left:right]
        return mixed, 1 - (bottom - top) * (right - left) / (height * width)
