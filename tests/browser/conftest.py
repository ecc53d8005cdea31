"""A browser, and a served gallery of the drawn sample pictures."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.web.running import RunningServer, serving
from vitseek.gallery.gallery import Gallery
from vitseek.sample.gallery import draw_gallery

if TYPE_CHECKING:
    from playwright.sync_api import Browser

PER_KIND = 4
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture(scope="session")
def chromium() -> "Iterator[Browser]":
    """Debian's chromium, or the one that CHROMIUM names; Playwright's own is not downloaded."""
    path = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
    if path is None:
        pytest.fail("no chromium: install Debian's package, or name one in CHROMIUM=/path")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sample gallery, indexed with the model that the package brings along."""
    folder = tmp_path_factory.mktemp("browser") / "sample"
    draw_gallery(folder, per_kind=PER_KIND)
    with Gallery(folder) as gallery:
        gallery.index(labels_from_folders=True)
    return folder


@pytest.fixture(scope="session")
def server(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    with serving(pictures, tmp_path_factory.mktemp("browser-home"), ["--max-upload-mb", "1"]) as running:
        yield running


@pytest.fixture(scope="session")
def captioned(tmp_path_factory: pytest.TempPathFactory, tiny_clip: Path) -> Path:
    """Other drawn pictures in two spaces: the default one knows pictures only, tiny-clip words too."""
    folder = tmp_path_factory.mktemp("browser-words") / "captioned"
    draw_gallery(folder, seed=77, per_kind=PER_KIND)
    with Gallery(folder) as gallery:
        gallery.index(model="vitseek-tiny", labels_from_folders=True)
        gallery.index(model=tiny_clip)
        gallery.classify_zero_shot(["a cat", "a snowman", "a city", "a flower", "a forest"])
    return folder


@pytest.fixture(scope="session")
def reading_server(captioned: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    with serving(captioned, tmp_path_factory.mktemp("browser-words-home")) as running:
        yield running


class Faults(list[str]):
    """What the page complained about in the browser's console."""


@pytest.fixture
def open_page(chromium, server):
    """Open the start page in a fresh context; a script error or a refused resource fails the test at its end."""
    yield from opening(chromium, server)


@pytest.fixture
def open_reading(chromium, reading_server):
    """The same for the gallery that reads words."""
    yield from opening(chromium, reading_server)


def opening(chromium, server):
    contexts, faults = [], Faults()

    def open_it(address: str = "", *, width: int = 1280, height: int = 860, expect: tuple[object, ...] = (), **options):
        context = chromium.new_context(
            viewport={"width": width, "height": height}, **{"locale": "en-US", "reduced_motion": "reduce", **options}
        )
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(20_000)
        page.on("pageerror", lambda error: faults.append(f"script error: {error}"))
        page.on("console", lambda message: message.type == "error" and faults.append(message.text))
        page.on("request", lambda request: _only_own(request.url, server.address, faults))
        page.expected_faults = expect
        page.goto(server.address + address)
        return page

    yield open_it
    expected = {one for context in contexts for page in context.pages for one in page.expected_faults}
    for context in contexts:
        context.close()
    unexpected = [
        fault
        for fault in faults
        if not any(f"status of {one}" in fault or str(one) in fault.split() for one in expected)
    ]
    assert not unexpected


def _only_own(url: str, address: str, faults: Faults) -> None:
    if not url.startswith((address, "blob:", "data:")):
        faults.append(f"a request left for {url}")
