"""From a file to its hash and pixels: what a worker thread does, with every failure as a reason."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vitseek.errors import ImageError, ImageTooLargeError, MissingDecoderError
from vitseek.gallery.budget import PixelBudget, Share
from vitseek.gallery.identity import FileStamp, content_hash, now_ns
from vitseek.gallery.stores.scan import Job
from vitseek.gallery.walk import reason_of
from vitseek.preprocess import formats
from vitseek.preprocess.decode import ORIENTATION_TAG
from vitseek.preprocess.image import ImagePreprocessing, decode, to_pixels
from vitseek.preprocess.quiet import quiet_pillow

# EXIF 2.32: the IFD with the camera's data, and the time of exposure in it.
EXIF_IFD = 0x8769
DATE_TIME_ORIGINAL = 0x9003
SIDEWAYS = {5, 6, 7, 8}  # values of Orientation that exchange width and height


@dataclass(frozen=True, slots=True)
class Reading:
    """A looked-at file: a hash, with pixels unless the content is known already; or a reason.

    ``retry``: the reason lies outside the file (no permission, a disk error), so it is tried again every time.
    """

    job: Job
    checked_ns: int
    digest: bytes | None = None
    pixels: NDArray[np.float32] | None = None
    width: int = 0
    height: int = 0
    taken: str | None = None
    reason: str | None = None
    retry: bool = False


def read_image(
    root: Path,
    job: Job,
    preprocessing: Callable[[], ImagePreprocessing],
    is_known: Callable[[bytes], bool],
    budget: PixelBudget,
) -> Reading:
    """Hash a file, and decode it within the budget unless ``is_known`` says that its content has a vector."""
    checked_ns = now_ns()
    path = root / os.fsdecode(job.raw_path)
    try:
        with path.open("rb") as file:
            stamp = FileStamp.of(os.fstat(file.fileno()))
            job = Job(job.root_id, job.raw_path, stamp)  # what is read now, not what was listed earlier
            digest = content_hash(file)
            if is_known(digest):
                return Reading(job, checked_ns, digest)
            with budget.share() as share:
                return _decoded(file, job, checked_ns, digest, preprocessing(), share)
    except OSError as error:
        return Reading(job, checked_ns, reason=reason_of(error), retry=True)


def _decoded(
    file: BinaryIO, job: Job, checked_ns: int, digest: bytes, preprocessing: ImagePreprocessing, share: Share
) -> Reading:
    try:
        image = decode(file, before_loading=share.take)
        pixels = to_pixels(image, preprocessing)
    except (MissingDecoderError, ImageTooLargeError) as error:  # an installed decoder or a raised limit may help
        return Reading(job, checked_ns, reason=error.reason, retry=True)
    except ImageError as error:
        return Reading(job, checked_ns, reason=error.reason)
    return Reading(job, checked_ns, digest, pixels, image.width, image.height, date_taken(file, job.raw_path))


def date_taken(file: BinaryIO, name: bytes = b"") -> str | None:
    """When the camera took the picture, 'YYYY-MM-DDTHH:MM:SS' in its local time; None if it does not say."""
    image = _header(file, name)
    return None if image is None else _taken(image)


def image_facts(file: BinaryIO, name: bytes = b"") -> tuple[int, int, str | None] | None:
    """(width, height, taken) from the header alone, EXIF orientation applied; None if it is no image."""
    image = _header(file, name)
    if image is None:
        return None
    width, height = image.size
    try:
        turned = image.getexif().get(ORIENTATION_TAG) in SIDEWAYS
    except Exception:  # Pillow's EXIF parser fails in many ways on odd data; then nothing is known of a turn
        turned = False
    return (height, width, _taken(image)) if turned else (width, height, _taken(image))


def _header(file: BinaryIO, name: bytes) -> Image.Image | None:
    file.seek(0)
    prefix = file.read(formats.SNIFF_BYTES)
    suffix = Path(os.fsdecode(name)).suffix.lower()
    with quiet_pillow():
        for _, factory in formats.candidates(prefix, suffix):
            file.seek(0)
            try:
                return factory(file, "")
            except Exception:  # noqa: S112  # not of this format; Pillow's plug-ins raise whatever they like
                continue
    return None


def _taken(image: Image.Image) -> str | None:
    with quiet_pillow():
        try:
            value = image.getexif().get_ifd(EXIF_IFD).get(DATE_TIME_ORIGINAL)
            return datetime.strptime(str(value)[:19], "%Y:%m:%d %H:%M:%S").isoformat()
        except Exception:  # no date, or one that is none: it is a nicety
            return None
