"""Any Pillow mode to 8-bit RGB, the way a person would see the picture."""

import numpy as np
from PIL import Image, ImageCms

from vitseek.preprocess.quiet import quiet_pillow

WHITE = (255, 255, 255)
MAX_8_BIT = 255
MAX_16_BIT = 65535


def to_rgb(image: Image.Image) -> Image.Image:
    """Return the picture in mode ``RGB``; transparency shows white, 16-bit and float greys are scaled, not clipped.

    An RGB picture is returned as it is. Colour profiles are not applied: neither do the processors that the models
    were trained with.
    """
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    with quiet_pillow():
        if image.mode.startswith("I;16"):
            return _grey(np.asarray(image, dtype=np.float32), MAX_16_BIT)
        if image.mode in ("I", "F"):
            levels = np.asarray(image, dtype=np.float64)
            return _grey(*_rescaled(levels, integer=image.mode == "I"))
        if image.has_transparency_data:
            picture = image.convert("RGBA")
            canvas = Image.new("RGB", picture.size, WHITE)
            canvas.paste(picture, mask=picture.getchannel("A"))
            return canvas
        if image.mode == "LAB":
            profiles = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
            transform = ImageCms.buildTransform(*profiles, "LAB", "RGB")
            converted = ImageCms.applyTransform(image, transform)
            assert converted is not None  # only an in-place transform returns nothing
            return converted
        return image.convert("RGB")


def _rescaled(levels: np.ndarray, *, integer: bool) -> tuple[np.ndarray, float]:
    """Grey levels from 0 and the level that stands for white, for modes whose range is not declared.

    Integers count as 8-bit or 16-bit if they fit, floats as 0…1 or 0…255; everything else (depth maps, scientific
    data) is stretched between its extremes.
    """
    levels = np.nan_to_num(levels, nan=0.0, posinf=0.0, neginf=0.0)
    low, high = float(levels.min()), float(levels.max())
    for white in (MAX_8_BIT, MAX_16_BIT) if integer else (1, MAX_8_BIT):
        if low >= 0 and high <= white:
            return levels, white
    return levels - low, (high - low) or 1.0


def _grey(levels: np.ndarray, white: float) -> Image.Image:
    scaled = np.rint(levels * (MAX_8_BIT / white)).astype(np.uint8)
    return Image.fromarray(scaled).convert("RGB")
