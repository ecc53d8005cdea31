"""Draw the sample gallery: twelve kinds of pictures, every one different, the same for the same seed."""

import io
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from zlib import crc32

import numpy as np
from PIL import Image

from vitseek.errors import StorageError, UsageError
from vitseek.sample.animals import butterfly, cat, fish
from vitseek.sample.buildings import city, house
from vitseek.sample.canvas import Canvas
from vitseek.sample.landscapes import forest, mountains, sunset
from vitseek.sample.things import balloon, flower, sailboat, snowman

KINDS: Mapping[str, Callable[[Canvas], None]] = MappingProxyType(
    {
        "balloon": balloon,
        "butterfly": butterfly,
        "cat": cat,
        "city": city,
        "fish": fish,
        "flower": flower,
        "forest": forest,
        "house": house,
        "mountains": mountains,
        "sailboat": sailboat,
        "snowman": snowman,
        "sunset": sunset,
    }
)
SIZES = ((400, 300), (384, 288), (420, 280), (360, 300), (300, 400), (288, 384), (340, 340), (480, 360))
PNG_EVERY = 5
JPEG_QUALITY = 90


def draw_gallery(
    folder: str | os.PathLike[str],
    *,
    seed: int = 0,
    per_kind: int = 20,
    progress: Callable[[int, int], None] | None = None,
) -> list[Path]:
    """Draw ``per_kind`` pictures of each of `KINDS` into ``folder/<kind>/``, every fifth as PNG, the others as JPEG.

    A file that already holds exactly the same picture is left alone, so that an index of the folder stays fresh.

    Parameters
    ----------
    seed
        Another seed gives other pictures of the same kinds. A picture depends on the seed, its kind and its number
        only: asking for more of them does not change the first ones.
    progress
        Called after each picture with the number of those done and of all.

    Returns
    -------
    the paths, by kind and number

    Raises
    ------
    UsageError
        If ``per_kind`` is less than 1 or ``seed`` negative.
    StorageError
        If a picture cannot be written.
    """
    if per_kind < 1:
        raise UsageError(f"per_kind must be at least 1; it is {per_kind}.")
    if seed < 0:
        raise UsageError(f"seed must not be negative; it is {seed}.")
    paths = []
    for kind in KINDS:
        for number in range(per_kind):
            kind_of_file = "png" if number % PNG_EVERY == PNG_EVERY - 1 else "jpg"
            path = Path(folder) / kind / f"{kind}-{number + 1:02d}.{kind_of_file}"
            _write(path, _encoded(draw(kind, number, seed=seed), kind_of_file))
            paths.append(path)
            if progress:
                progress(len(paths), len(KINDS) * per_kind)
    return paths


def draw(kind: str, number: int, *, seed: int = 0) -> Image.Image:
    """One picture: number ``number`` of a kind."""
    rng = np.random.default_rng([seed, crc32(kind.encode()), number])
    canvas = Canvas(*SIZES[int(rng.integers(len(SIZES)))], rng)
    KINDS[kind](canvas)
    return canvas.finished()


def _encoded(picture: Image.Image, kind_of_file: str) -> bytes:
    buffer = io.BytesIO()
    if kind_of_file == "png":
        picture.save(buffer, "PNG", compress_level=3)  # grain hardly packs: more effort only takes longer
    else:
        picture.save(buffer, "JPEG", quality=JPEG_QUALITY)
    return buffer.getvalue()


def _write(path: Path, content: bytes) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_file() and path.read_bytes() == content:
            return
        unfinished = path.with_name(f".{path.name}.part")
        unfinished.write_bytes(content)
        unfinished.replace(path)
    except OSError as error:
        text = error.strerror or error
        raise StorageError(
            f"cannot write the sample picture {path}: {text}. Name another folder, or free some space."
        ) from error
