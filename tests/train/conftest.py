"""Small pictures and small runs for the tests of training."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image


@pytest.fixture
def classes(tmp_path: Path) -> Path:
    """A folder of three classes with 11, 7 and 5 pictures; the class is the colour."""
    rng = np.random.default_rng(7)
    folder = tmp_path / "classes"
    for channel, (name, count) in enumerate((("red", 11), ("green", 7), ("blue", 5))):
        (folder / name).mkdir(parents=True)
        for number in range(count):
            pixels = rng.integers(0, 90, (37, 41, 3), dtype=np.uint8)
            pixels[..., channel] += 120
            Image.fromarray(pixels).save(folder / name / f"{number}.png")
    return folder


@pytest.fixture
def small(classes: Path, tmp_path: Path) -> Callable[..., Any]:
    """Options of a recipe for a run of a second or two on the three classes; keywords change them."""
    from vitseek.train.options import RECIPES

    def options(recipe: str, **given: Any) -> Any:
        numbers = {"data": classes, "out": tmp_path / "run", "image_size": 16, "batch_size": 5, "epochs": 2}
        if recipe != "finetune":
            numbers |= {"patch_size": 4, "width": 24, "depth": 2, "heads": 2}
        return RECIPES[recipe][0].smoke(**{**numbers, **given})

    return options
