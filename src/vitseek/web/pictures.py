"""Small copies of pictures, as WebP."""

import io
from pathlib import Path

from PIL import Image
from PIL.JpegImagePlugin import JpegImageFile

from vitseek.preprocess.decode import decode
from vitseek.preprocess.formats import SNIFF_BYTES, candidates

QUALITY = 82  # WebP, 0…100; below 80 flat gradients show bands
METHOD = 2  # WebP effort, 0…6: 4 is a tenth smaller and takes twice as long

JPEG_START = b"\xff\xd8\xff"

TALL = 1.25  # height by width from which a picture is laid out by its height; the style sheet has the same figure

# What every current browser shows by itself; anything else is converted.
BROWSER_TYPES = {
    "JPEG": "image/jpeg",
    "PNG": "image/png",
    "GIF": "image/gif",
    "WEBP": "image/webp",
    "AVIF": "image/avif",
}


def browser_type(prefix: bytes, suffix: str) -> str | None:
    """Content type of a file that a browser may be given as it is, judged by its first bytes; else None."""
    found = candidates(prefix[:SNIFF_BYTES], suffix.lower())
    return BROWSER_TYPES.get(found[0][0]) if found else None


def small_copy(path: Path, side_px: int, *, limit_pixels: int) -> bytes:
    """Decode a file and return it as WebP whose longer side is at most ``side_px``; small pictures keep their size."""
    return shrink(_jpeg_at_reduced_size(path, side_px) or decode(path, limit_pixels=limit_pixels), side_px)[0]


def _jpeg_at_reduced_size(path: Path, side_px: int) -> Image.Image | None:
    """A JPEG decoded at half, a quarter or an eighth of its size: a 12-megapixel photo takes a fifth of the time.

    None for other formats and for whatever goes wrong: decoding it whole gives the picture, or says why not.
    """
    try:
        with path.open("rb") as file:
            if file.read(len(JPEG_START)) != JPEG_START:
                return None
            file.seek(0)
            image = JpegImageFile(file, "")
            image.draft("RGB", (side_px * 2, side_px * 2))
            return decode(image)
    except Exception:  # Pillow's plug-ins fail in many ways on damaged files
        return None


def shrink(picture: Image.Image, side_px: int) -> tuple[bytes, tuple[int, int]]:
    """WebP data and (width, height) of an RGB picture made to fit a square."""
    small = picture.copy()
    small.thumbnail((side_px, side_px), Image.Resampling.LANCZOS, reducing_gap=2.0)
    target = io.BytesIO()
    small.save(target, "WEBP", quality=QUALITY, method=METHOD)
    return target.getvalue(), small.size


def fitted_size(width: int, height: int, side_px: int) -> tuple[int, int]:
    """The size that `shrink` gives a picture, for the page to reserve its place."""
    scale = min(1.0, side_px / max(width, height))
    return max(1, round(width * scale)), max(1, round(height * scale))
