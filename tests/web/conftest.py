"""One gallery of drawn pictures, and a client of the page over it."""

import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from django.test import Client
from PIL import Image

from tests.web.colours import ColourModel
from vitseek.gallery.gallery import Gallery
from vitseek.sample.gallery import draw_gallery
from vitseek.web.application import configure
from vitseek.web.options import WebOptions
from vitseek.web.site import ENVIRON_KEY, Site

KINDS = {"dusk red": (200, 60, 40), "moss": (50, 140, 60), "sea": (40, 80, 190)}
PER_KIND = 7
DRAWN_PER_KIND = 3
OPTIONS = WebOptions(upload_limit_bytes=300_000, limit_pixels=1_000_000, port=8000)
ODD_NAME = b'odd "quoted" \xff \xf0\x9f\x90\xb1 <b>.png'


def draw(colour: tuple[int, int, int], seed: int, size: tuple[int, int] = (131, 97)) -> Image.Image:
    """A soft gradient of one colour with a disc at a random place."""
    rng = np.random.default_rng(seed)
    width, height = size
    rows, columns = np.mgrid[:height, :width]
    pixels = np.array(colour, np.float32) * (0.6 + 0.4 * rows / height)[..., None]
    x, y = rng.integers(0, width), rng.integers(0, height)
    pixels[(columns - x) ** 2 + (rows - y) ** 2 < (min(size) // 4) ** 2] = rng.integers(120, 255, 3)
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def png(image: Image.Image) -> bytes:
    target = io.BytesIO()
    image.save(target, "PNG")
    return target.getvalue()


@pytest.fixture(scope="session", autouse=True)
def _django(tmp_path_factory: pytest.TempPathFactory) -> None:
    # Django's settings are of the whole process; the key must not come from the user's own state.
    os.environ["VITSEEK_STATE"] = str(tmp_path_factory.mktemp("web-state"))
    configure(OPTIONS)


@pytest.fixture(scope="session")
def web_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("gallery") / "Holiday & <Home>"
    for kind, colour in KINDS.items():
        (folder / kind).mkdir(parents=True)
        for number in range(PER_KIND):
            size = (131, 97) if number % 2 else (89, 149)
            draw(colour, number, size).save(folder / kind / f"{kind}-{number}.jpg", quality=92)
    (folder / os.fsdecode(ODD_NAME)).write_bytes(png(draw((240, 200, 60), 11)))
    return folder


@pytest.fixture(scope="session")
def indexed(web_folder: Path) -> Path:
    with Gallery(web_folder, model=ColourModel()) as gallery:
        report = gallery.index(labels_from_folders=True)
    assert report.images == len(KINDS) * PER_KIND + 1
    return web_folder


@pytest.fixture
def gallery(indexed: Path) -> Iterator[Gallery]:
    with Gallery(indexed, model=ColourModel(), create=False) as opened:
        yield opened


@pytest.fixture
def site(gallery: Gallery, tmp_path: Path) -> Site:
    return Site.over(gallery, OPTIONS, thumbnails=tmp_path / "thumbnails")


class Browser(Client):
    """Django's client with the server's host name; it reads answers without raising what the server caught."""

    def __init__(self, site: Site, **kwargs: Any) -> None:
        kwargs.setdefault("raise_request_exception", False)
        super().__init__(**kwargs, HTTP_HOST="127.0.0.1:8000", **{ENVIRON_KEY: site})


@pytest.fixture
def client(site: Site) -> Browser:
    return Browser(site)


@pytest.fixture(scope="session")
def drawn(tmp_path_factory: pytest.TempPathFactory, tiny_clip: Path) -> Path:
    """Drawn pictures in two spaces: the default one knows pictures only, tiny-clip also words. Two are labelled."""
    folder = tmp_path_factory.mktemp("drawn") / "drawn"
    draw_gallery(folder, seed=77, per_kind=DRAWN_PER_KIND)
    with Gallery(folder, model="vitseek-tiny") as opened:
        opened.index(labels_from_folders=True)
    with Gallery(folder) as opened:
        opened.index(model=tiny_clip)
        cat, city = (next(opened.images(f"label={kind}")).id for kind in ("cat", "city"))
        opened.add_labels([cat], ["kitten"], probabilities=[0.871], source="zero-shot")
        opened.add_labels([city], ["night", "day"], probabilities=[0.625, 0.003], source="zero-shot")
    return folder


@pytest.fixture
def two_spaces(drawn: Path) -> Iterator[Gallery]:
    with Gallery(drawn, create=False) as opened:
        yield opened


@pytest.fixture
def reading_site(two_spaces: Gallery, tmp_path: Path) -> Site:
    return Site.over(two_spaces, OPTIONS, thumbnails=tmp_path / "thumbnails")


@pytest.fixture
def reader(reading_site: Site) -> Browser:
    """A client of a page whose gallery understands words."""
    return Browser(reading_site)


@pytest.fixture
def careful_client(site: Site) -> Browser:
    """A client whose forms need their token, as browsers do."""
    return Browser(site, enforce_csrf_checks=True)
