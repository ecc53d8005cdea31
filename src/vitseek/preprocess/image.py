"""From a decoded picture to the pixels a model takes: policies, crops, normalisation."""

import hashlib
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from functools import lru_cache
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vitseek.errors import ConfigError
from vitseek.preprocess.colour import to_rgb
from vitseek.preprocess.decode import DEFAULT_LIMIT_PIXELS, ImageSource, decode, source_name
from vitseek.preprocess.formats import IMAGE_SUFFIXES

__all__ = [
    "DEFAULT_LIMIT_PIXELS",
    "IMAGENET_MEAN",
    "IMAGENET_STD",
    "IMAGE_SUFFIXES",
    "POLICIES",
    "ImagePreprocessing",
    "ImageSource",
    "decode",
    "preprocess",
    "source_name",
    "to_pixels",
]

Pixels = NDArray[np.float32]
Report = Callable[[str], None]
Policy = Literal["official", "center-crop", "short-side"]
Resize = Literal["shortest-edge", "exact", "max-patches"]
CropRounding = Literal["floor", "half-even", "corner"]
Interpolation = Literal["nearest", "bilinear", "bicubic", "lanczos"]

POLICIES: tuple[Policy, ...] = get_args(Policy)
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

FILTERS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}
GREY_LEVELS = 256
MAX_ASPECT = 8
"""Longest side of a "short-side" picture, in short sides: the cost of attention grows with its square."""
LIMIT_RESIZED_PIXELS = 2**24
"""A one-pixel-wide strip enlarged to a short side of 256 would fill gigabytes; beyond this only the crop is made."""
NATIVE_PRECISION, NATIVE_MAX_SCALE = 1e-5, 100.0
"""Where the search for the scale of ``max-patches`` ends and begins: a picture is enlarged a hundredfold at most."""
PIXEL_RULES = 1
"""Part of `ImagePreprocessing.key`: raise it when the same settings give other pixels than before."""


@dataclass(frozen=True, kw_only=True)
class ImagePreprocessing:
    """How a picture becomes a model's input. Two equal descriptions give the same pixels, byte for byte.

    Parameters
    ----------
    policy
        ``official``: resize, then crop the centre, as the checkpoint's authors did. ``center-crop``: no resize, cut
        the centre out; smaller pictures are padded with black. ``short-side``: the whole picture, aspect kept.
    size_px
        Side of the square that the model sees; for ``short-side``, the short side.
    resize, resize_px
        ``official`` only: bring the short side (``shortest-edge``) or both sides (``exact``) to ``resize_px``, then
        crop to ``size_px``; or show the whole picture in its own proportions, as large as ``max_patches`` allow
        (``max-patches``, "native resolution": SigLIP 2 NaFlex).
    interpolation
        Pillow's filter; all of them widen when shrinking (antialias), except ``nearest``.
    mean, std
        Per channel, on the scale 0…1.
    patch_size_px
        ``short-side`` and ``max-patches`` make both sides multiples of it.
    max_patches
        Patches that ``max-patches`` may make.
    crop_rounding
        When an odd number of pixels is cut off: ``floor`` as transformers' processors, ``half-even`` as
        torchvision's ``CenterCrop`` and with it timm. ``corner`` cuts from the right and the bottom only, as a
        convolution drops what fills no patch: SigLIP so400m has 14 px patches and pictures of 384 px.
    """

    policy: Policy = "official"
    size_px: int = 224
    resize: Resize = "shortest-edge"
    resize_px: int = 256
    interpolation: Interpolation = "bicubic"
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    patch_size_px: int = 16
    crop_rounding: CropRounding = "floor"
    max_patches: int = 256

    def __post_init__(self) -> None:
        for name, allowed in (
            ("policy", POLICIES),
            ("resize", get_args(Resize)),
            ("interpolation", tuple(FILTERS)),
            ("crop_rounding", get_args(CropRounding)),
        ):
            if getattr(self, name) not in allowed:
                raise ConfigError(f"preprocessing: {name} must be one of {allowed}; it is {getattr(self, name)!r}.")
        for name in ("size_px", "resize_px", "patch_size_px", "max_patches"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                unit = " of pixels" if name.endswith("_px") else ""
                raise ConfigError(f"preprocessing: {name} must be a positive whole number{unit}; it is {value!r}.")
        for name in ("mean", "std"):
            values = tuple(float(value) for value in getattr(self, name))
            if len(values) != 3 or not all(map(math.isfinite, values)) or (name == "std" and min(values) <= 0):
                raise ConfigError(
                    f"preprocessing: {name} must be three finite numbers, one per channel"
                    f"{', above 0' if name == 'std' else ''}; it is {values}."
                )
            object.__setattr__(self, name, values)

    def with_policy(self, policy: str) -> "ImagePreprocessing":
        """The same size, filter and normalisation under another policy; ConfigError for an unknown one."""
        return replace(self, policy=policy)  # type: ignore[arg-type]  # __post_init__ checks it

    def with_size(self, size_px: int) -> "ImagePreprocessing":
        """The same part of each picture at another resolution; ConfigError where a picture's own size decides."""
        if self.policy == "official" and self.resize == "max-patches":
            raise ConfigError(f"pictures keep their proportions here and have no one size: leave size_px={size_px} out")
        return replace(self, size_px=size_px, resize_px=max(size_px, round(self.resize_px * size_px / self.size_px)))

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values; `from_dict` is the inverse."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "ImagePreprocessing":
        """Read what `to_dict` wrote; absent keys take their defaults, unknown ones are refused with ConfigError."""
        known = {field.name for field in fields(cls)}
        if unknown := sorted(set(values) - known):
            raise ConfigError(f"preprocessing: unknown {', '.join(unknown)}; known are {', '.join(sorted(known))}.")
        try:
            return cls(**values)
        except (TypeError, ValueError) as error:
            raise ConfigError(f"preprocessing: {error}") from error

    def key(self) -> str:
        """A short stable identity: equal for descriptions that give equal pixels, and different otherwise."""
        facts = self.to_dict() | {"rules": PIXEL_RULES}
        native = self.policy == "official" and self.resize == "max-patches"
        unused = {
            "official": {"size_px", "resize_px", "crop_rounding"} if native else {"patch_size_px"},
            "center-crop": {"patch_size_px", "resize", "resize_px", "interpolation"},
            "short-side": {"resize", "resize_px", "crop_rounding"},
        }[self.policy] | (set() if native else {"max_patches"})
        text = json.dumps({name: value for name, value in facts.items() if name not in unused}, sort_keys=True)
        size = f"{self.max_patches}patches" if native else self.size_px
        return f"{self.policy}-{size}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"


def preprocess(
    source: ImageSource,
    preprocessing: ImagePreprocessing,
    *,
    limit_pixels: int | None = None,
    report: Report | None = None,
) -> Pixels:
    """`decode`, then `to_pixels`: shape (3, height, width), normalised float32."""
    return to_pixels(decode(source, limit_pixels=limit_pixels), preprocessing, report=report)


def to_pixels(image: Image.Image, preprocessing: ImagePreprocessing, *, report: Report | None = None) -> Pixels:
    """Resize, crop and normalise a decoded picture.

    Parameters
    ----------
    image
        What `decode` returned. Other modes are converted to RGB; an EXIF orientation is not looked at here.
    report
        Called with a sentence when the policy had to do something that the user should know, such as padding.

    Returns
    -------
    shape (3, height, width), float32: square for ``official`` (but for ``max-patches``) and ``center-crop``
    """
    image = to_rgb(image)
    if preprocessing.policy == "official" and preprocessing.resize == "max-patches":
        framed = image.resize(_native_size(image, preprocessing), FILTERS[preprocessing.interpolation])
    elif preprocessing.policy == "official":
        framed = _resized_and_cropped(image, preprocessing)
    elif preprocessing.policy == "center-crop":
        framed = _cropped(image, preprocessing, report)
    else:
        framed = _fitted(image, preprocessing, report)
    return _normalised(framed, preprocessing.mean, preprocessing.std)


def _native_size(image: Image.Image, preprocessing: ImagePreprocessing) -> tuple[int, int]:
    """(width, height) in pixels of the largest whole number of patches that keeps the proportions and the limit.

    Sides are rounded up to patches, so the scale that just fits can only be searched for. It is halved down to the
    same width of interval as in transformers (``image_processing_siglip2.py``): of two pictures whose best scales lie
    closer together, only the reference can say which gets one patch more.
    """

    def sides_at(scale: float) -> tuple[int, int]:
        width, height = (math.ceil(side * scale / patch) * patch for side in image.size)
        return width, height

    patch = preprocessing.patch_size_px
    fits, too_large = NATIVE_PRECISION / 10, NATIVE_MAX_SCALE
    while too_large - fits >= NATIVE_PRECISION:
        scale = (fits + too_large) / 2
        width, height = sides_at(scale)
        if (width // patch) * (height // patch) <= preprocessing.max_patches:
            fits = scale
        else:
            too_large = scale
    return sides_at(fits)


def _resized_and_cropped(image: Image.Image, preprocessing: ImagePreprocessing) -> Image.Image:
    target, size = preprocessing.resize_px, preprocessing.size_px
    width, height = resized = target, target
    if preprocessing.resize == "shortest-edge":
        # Rounded down in floating point, as transformers and torchvision do.
        short = min(image.size)
        width, height = resized = int(target * image.width / short), int(target * image.height / short)
    if width * height > LIMIT_RESIZED_PIXELS and max(resized) > size:
        return _resized_crop(image, resized, preprocessing)
    return _center_crop(image.resize(resized, FILTERS[preprocessing.interpolation]), size, preprocessing.crop_rounding)


def _resized_crop(image: Image.Image, resized: tuple[int, int], preprocessing: ImagePreprocessing) -> Image.Image:
    """Resize only what the crop will show: the same picture to within a rounding of the filter, without the rest."""
    size, rounding = preprocessing.size_px, preprocessing.crop_rounding
    kept = min(resized[0], size), min(resized[1], size)
    starts = [_crop_start(side, part, rounding) for side, part in zip(resized, kept, strict=True)]
    scale = [before / after for before, after in zip(image.size, resized, strict=True)]
    left, top = (start * factor for start, factor in zip(starts, scale, strict=True))
    right, bottom = ((start + part) * factor for start, part, factor in zip(starts, kept, scale, strict=True))
    box = (left, top, min(right, image.width), min(bottom, image.height))
    return _center_crop(image.resize(kept, FILTERS[preprocessing.interpolation], box=box), size, rounding)


def _cropped(image: Image.Image, preprocessing: ImagePreprocessing, report: Report | None) -> Image.Image:
    size = preprocessing.size_px
    if report and min(image.size) < size:
        report(f"{image.width} × {image.height} px is smaller than the {size} px crop: padded with black")
    return _center_crop(image, size, preprocessing.crop_rounding)


def _center_crop(image: Image.Image, size: int, rounding: str) -> Image.Image:
    if image.size == (size, size):
        return image
    left, top = (_crop_start(side, size, rounding) for side in image.size)
    return image.crop((left, top, left + size, top + size))  # Pillow fills what lies outside with black


def _crop_start(side: int, size: int, rounding: str) -> int:
    """First pixel of the crop; negative where the picture is smaller and black comes first.

    ``floor`` is transformers' ``center_crop``: it puts the odd pixel of padding first. ``half-even`` is torchvision's,
    ``int(round((side - size) / 2))``, which puts it last. ``corner`` is no centre at all.
    """
    if rounding == "corner":
        return 0
    if rounding == "floor":
        return (side - size) // 2
    return round((side - size) / 2) if side >= size else -((size - side) // 2)


def _fitted(image: Image.Image, preprocessing: ImagePreprocessing, report: Report | None) -> Image.Image:
    """The whole picture, its short side at the target, both sides whole patches; very long ones lose their ends."""
    width, height = image.size
    short = min(width, height)
    if max(width, height) > MAX_ASPECT * short:
        if report:
            report(f"{width} × {height} px is longer than {MAX_ASPECT} to 1: only the middle is used")
        kept_width, kept_height = min(width, MAX_ASPECT * short), min(height, MAX_ASPECT * short)
        left, top = (width - kept_width) // 2, (height - kept_height) // 2
        image = image.crop((left, top, left + kept_width, top + kept_height))
    size, patch = preprocessing.size_px, preprocessing.patch_size_px
    target = _whole_patches(image.width * size / short, patch), _whole_patches(image.height * size / short, patch)
    return image.resize(target, FILTERS[preprocessing.interpolation])


def _whole_patches(length: float, patch: int) -> int:
    """The multiple of the patch nearest to a length (halves go up), at least one patch."""
    return max(patch, math.floor(length / patch + 0.5) * patch)


def _normalised(image: Image.Image, mean: tuple[float, ...], std: tuple[float, ...]) -> Pixels:
    levels = np.asarray(image)
    table = _normalised_levels(mean, std)
    pixels = np.empty((3, *levels.shape[:2]), dtype=np.float32)
    for channel in range(3):
        np.take(table[channel], levels[..., channel], out=pixels[channel], mode="clip")
    return pixels


@lru_cache(maxsize=32)
def _normalised_levels(mean: tuple[float, ...], std: tuple[float, ...]) -> Pixels:
    """What each of the 256 grey levels becomes, per channel: shape (3, 256).

    Rounded where transformers rounds: the product with 1/255 in float64, all else in float32.
    """
    levels = (np.arange(GREY_LEVELS, dtype=np.float64) * (1 / (GREY_LEVELS - 1))).astype(np.float32)
    table = (levels - np.array(mean, np.float32)[:, None]) / np.array(std, np.float32)[:, None]
    table.flags.writeable = False
    return table
