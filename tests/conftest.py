"""Fixtures that several rooms share."""

import signal
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

SHARED = Path(__file__).resolve().parents[2] / "shared"


def pytest_configure() -> None:
    # A shell's background job starts with Ctrl-C ignored and hands that down; its tests need Python's own handler.
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """Real weights and photos beside the checkout; tests that use them are skipped without."""
    if not (SHARED / "data").is_dir():
        pytest.skip(f"no real photos and weights at {SHARED}")
    return SHARED


@pytest.fixture(scope="session")
def tiny_clip() -> Path:
    """A model with an image and a text tower that knows the twelve kinds of drawn pictures, trained by our recipe."""
    return Path(__file__).parent / "fixtures" / "tiny-clip" / "tiny-clip.safetensors"


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(20260)


@pytest.fixture
def photos(tmp_path: Path, rng: np.random.Generator) -> Path:
    """A folder of seven small, distinct pictures in two sub-folders."""
    folder = tmp_path / "photos"
    for kind, count in (("red", 3), ("blue", 4)):
        (folder / kind).mkdir(parents=True)
        for number in range(count):
            pixels = rng.integers(0, 90, (53, 71, 3), dtype=np.uint8)
            pixels[..., 0 if kind == "red" else 2] += 120
            Image.fromarray(pixels).save(folder / kind / f"{kind}-{number}.png")
    return folder


@pytest.fixture(autouse=True)
def private_home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Caches and state go to a throw-away place: no test reads or writes the user's own."""
    home = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("VITSEEK_CACHE", str(home / "cache"))
    monkeypatch.setenv("VITSEEK_STATE", str(home / "state"))
    monkeypatch.delenv("VITSEEK_GALLERY", raising=False)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    return home
