"""Fixtures of the gallery tests."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.gallery.fake_model import FakeModel
from vitseek.gallery.gallery import Gallery

Draw = Callable[[Path, int], Path]


@pytest.fixture
def model() -> FakeModel:
    return FakeModel()


@pytest.fixture
def gallery(photos: Path, model: FakeModel) -> Iterator[Gallery]:
    """Seven indexed pictures, labelled by their folders."""
    with Gallery(photos, model=model) as opened:
        opened.index(labels_from_folders=True)
        yield opened


@pytest.fixture
def draw() -> Draw:
    """Make a small picture of its own kind at a path."""

    def make(path: Path, seed: int) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(seed).integers(0, 255, (17, 23, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path)
        return path

    return make
