"""Words, over a socket: read at the start, several at once, and a server whose text model is gone."""

from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from shutil import copy
from threading import Thread

import httpx
import pytest

from tests.web.conftest import DRAWN_PER_KIND, draw, png
from tests.web.running import serving
from vitseek.gallery.gallery import Gallery
from vitseek.sample.gallery import draw_gallery

pytestmark = pytest.mark.server


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def server(drawn, home):
    with serving(drawn, home) as running:
        yield running


def test_words_are_answered_and_several_at_once_agree(server):
    def kinds(_number: int) -> list[str]:
        answer = httpx.get(f"{server.address}api/v1/search", params={"q": "a snowman", "k": DRAWN_PER_KIND}, timeout=60)
        return [row["image"]["labels"][0] for row in answer.json()["results"]]

    with ThreadPoolExecutor(5) as pool:  # fewer than the door lets in and lets wait
        assert list(pool.map(kinds, range(20))) == [["snowman"] * DRAWN_PER_KIND] * 20
    assert not [line for line in server.lines if "error" in line.lower()]


def test_a_text_model_that_is_gone_leaves_the_search_by_pictures(tmp_path, tiny_clip, home):
    model = tmp_path / "model"
    model.mkdir()
    for part in tiny_clip.parent.glob("tiny-clip*"):
        copy(part, model / part.name)
    folder = tmp_path / "pictures"
    draw_gallery(folder, seed=5, per_kind=1)
    with Gallery(folder) as gallery:
        gallery.index(model="vitseek-tiny")
        gallery.index(model=model / tiny_clip.name)
    for part in model.iterdir():
        part.unlink()
    with serving(folder, home) as running:
        assert any("searching by words will not work" in line for line in running.lines)
        assert httpx.get(f"{running.address}?image=1").status_code == 200
        words = httpx.get(f"{running.address}api/v1/search", params={"q": "a cat"})
        assert words.status_code == 503
        assert "tiny-clip" in words.json()["error"]
        upload = httpx.post(
            f"{running.address}api/v1/search", files={"image": ("x.png", png(draw((40, 80, 190), 5)))}, data={"k": 3}
        )
        assert len(upload.json()["results"]) == 3


def test_addresses_of_this_machine_are_refused_also_when_addresses_are_allowed(drawn, home):
    asked = []

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_error(404)

        def log_message(self, *_arguments: object) -> None:
            """Silence."""

    inside = HTTPServer(("127.0.0.1", 0), Answer)
    Thread(target=inside.serve_forever, daemon=True).start()
    try:
        with serving(drawn, home, ["--allow-addresses"]) as running:
            query = f"http://127.0.0.1:{inside.server_port}/cat.jpg"
            answer = httpx.get(f"{running.address}api/v1/search", params={"q": query}, timeout=60)
            assert answer.status_code == 422
            assert answer.json()["error"].startswith("No picture can be had from this address.")
    finally:
        inside.shutdown()
        inside.server_close()
    assert asked == []
