"""Pictures for ``--smoke``: shapes in colours, drawn anew on every machine, with labels and captions.

A class is a shape in its colour; place, size and background vary. They need no network and no data set, and a model of
a few thousand parameters learns them in seconds, so that a smoke run shows a loss that falls.
"""

import csv
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

KINDS = {
    "disc": ("red", (210, 40, 40)),
    "square": ("green", (40, 170, 60)),
    "triangle": ("blue", (50, 70, 210)),
    "cross": ("yellow", (225, 200, 40)),
    "ring": ("black", (20, 20, 20)),
    "stripes": ("purple", (150, 50, 190)),
}
SIDE_PX = 64


def draw_pictures(folder: Path, *, seed: int, per_class: int = 24) -> Path:
    """Draw ``folder/SHAPE/*.png`` and ``folder/captions.csv``; nothing happens if they are there.

    Returns
    -------
    The folder.
    """
    captions = folder / "captions.csv"
    if captions.is_file():
        return folder
    rng = np.random.default_rng(seed)
    rows: list[tuple[str, str]] = []
    for shape, (colour, levels) in KINDS.items():
        (folder / shape).mkdir(parents=True, exist_ok=True)
        for number in range(per_class):
            radius = int(rng.integers(12, 24))
            x, y = (int(v) for v in rng.integers(radius, SIDE_PX - radius, 2))
            name = f"{shape}/{number}.png"
            _picture(shape, levels, x, y, radius, rng).save(folder / name)
            size, side = "small" if radius < 18 else "large", "left" if x < SIDE_PX / 2 else "right"
            rows += [(name, f"A {size} {colour} {shape} on the {side} ."), (name, f"There is a {colour} {shape} .")]
    with captions.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("image", "caption"), *rows])
    return folder


def _picture(
    shape: str, colour: tuple[int, int, int], x: int, y: int, radius: int, rng: np.random.Generator
) -> Image.Image:
    image = Image.fromarray(_gradient(rng))
    draw = ImageDraw.Draw(image)
    box = (x - radius, y - radius, x + radius, y + radius)
    thick = max(4, radius // 3)
    if shape == "disc":
        draw.ellipse(box, fill=colour)
    elif shape == "square":
        draw.rectangle(box, fill=colour)
    elif shape == "triangle":
        draw.polygon([(x, y - radius), (x - radius, y + radius), (x + radius, y + radius)], fill=colour)
    elif shape == "cross":
        draw.line((x - radius, y, x + radius, y), fill=colour, width=thick)
        draw.line((x, y - radius, x, y + radius), fill=colour, width=thick)
    elif shape == "ring":
        draw.ellipse(box, outline=colour, width=thick)
    else:
        for row in range(y - radius, y + radius, 2 * thick):
            draw.rectangle((x - radius, row, x + radius, row + thick - 1), fill=colour)
    return image


def _gradient(rng: np.random.Generator) -> "np.ndarray[Any, np.dtype[np.uint8]]":
    """A light ground whose brightness changes smoothly in some direction: what a masked patch can be guessed from."""
    rows, columns = np.mgrid[0:SIDE_PX, 0:SIDE_PX] / SIDE_PX - 0.5
    angle = rng.uniform(0, 2 * np.pi)
    light = 200 + 50 * (rows * np.sin(angle) + columns * np.cos(angle))
    return np.repeat(light[..., None], 3, axis=2).astype(np.uint8)
