"""The real server, started as a person starts it, spoken to over a socket."""

import http.client
import json
import signal
import socket
import stat
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from tests.web.conftest import KINDS, draw, png
from tests.web.running import RunningServer, command, environment, serving
from vitseek.gallery.gallery import Gallery

pytestmark = pytest.mark.server

LIMIT = 1024 * 1024


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Pictures indexed with the model that the package brings along."""
    folder = tmp_path_factory.mktemp("served") / "pictures"
    for kind, colour in KINDS.items():
        (folder / kind).mkdir(parents=True)
        for number in range(4):
            draw(colour, number, (211, 197)).save(folder / kind / f"{number}.png")
    with Gallery(folder) as gallery:
        gallery.index(labels_from_folders=True)
    return folder


@pytest.fixture(scope="module")
def server(folder, home):
    with serving(folder, home, ["--max-upload-mb", "1"]) as running:
        yield running


def connect(server: RunningServer) -> socket.socket:
    parts = urlsplit(server.address)
    return socket.create_connection((parts.hostname, parts.port), timeout=20)


def answer_of(connection: socket.socket) -> tuple[int, bytes]:
    response = http.client.HTTPResponse(connection)
    response.begin()
    return response.status, response.read()


def test_an_upload_finds_itself_over_http(server, folder):
    content = (folder / "moss" / "2.png").read_bytes()
    body = httpx.post(f"{server.address}api/v1/search", files={"image": ("leaf.png", content)}, data={"k": 3}).json()
    assert body["results"][0]["image"]["path"] == "moss/2.png"
    assert body["results"][0]["score"] == pytest.approx(1.0, abs=1e-4)
    assert body["model"] == "vitseek-tiny"


def test_the_secret_key_is_made_with_tight_rights(server, home):
    assert stat.S_IMODE((home / "state" / "web-secret-key").stat().st_mode) == 0o600


def test_an_upload_that_is_too_large_is_answered_before_it_is_sent(server):
    with connect(server) as connection:
        connection.sendall(
            b"POST /api/v1/search HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 999999999\r\n"
            b"Content-Type: multipart/form-data; boundary=x\r\n\r\n"
        )
        status, body = answer_of(connection)
    assert status == 413
    assert "too large" in json.loads(body)["error"]


def test_who_sends_all_of_a_too_large_upload_first_still_gets_the_answer(server):
    body = b"--x\r\nContent-Disposition: form-data; name=image; filename=a.png\r\n\r\n" + bytes(8 * LIMIT)
    with connect(server) as connection:
        head = f"POST /api/v1/search HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {len(body)}\r\n"
        connection.sendall(head.encode() + b"Content-Type: multipart/form-data; boundary=x\r\n\r\n")
        for start in range(0, len(body), 65536):  # a browser reads only after it has written
            connection.sendall(body[start : start + 65536])
            time.sleep(0.001)
        status, _ = answer_of(connection)
    assert status == 413


def test_a_chunked_upload_without_an_end_is_cut_at_the_limit(server):
    with connect(server) as connection:
        connection.sendall(
            b"POST /api/v1/search HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n"
            b"Content-Type: multipart/form-data; boundary=x\r\n\r\n"
        )
        for _ in range(40):
            connection.sendall(b"10000\r\n" + bytes(65536) + b"\r\n")
        status, body = answer_of(connection)
    assert status == 413
    assert "too large" in json.loads(body)["error"]


def test_the_server_goes_on_after_refused_and_broken_requests(server):
    for rubbish in (
        b"\x00\x01\x02\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"POST /search HTTP/1.1\r\nContent-Length: -5\r\n\r\n",
    ):
        with connect(server) as connection:
            connection.sendall(rubbish)
            connection.recv(100)
    assert httpx.get(f"{server.address}healthz").json()["images"] == 12


def test_a_foreign_host_header_is_refused_by_the_real_server(server):
    response = httpx.get(server.address, headers={"Host": "evil.example"})
    assert response.status_code == 400
    assert response.headers["Server"] == "vitseek"


def test_many_uploads_at_once_are_served_or_told_to_wait_and_pages_stay_quick(server):
    content = png(draw((40, 80, 190), 3, (997, 991)))

    def search(number: int) -> int:
        url = f"{server.address}api/v1/search"
        return httpx.post(url, files={"image": ("sea.png", content)}, timeout=120).status_code

    with ThreadPoolExecutor(14) as pool:
        searches = [pool.submit(search, number) for number in range(28)]
        waits = []
        while not all(one.done() for one in searches):
            start = time.perf_counter()
            assert httpx.get(f"{server.address}healthz", timeout=60).status_code == 200
            waits.append(time.perf_counter() - start)
            time.sleep(0.05)
        codes = [one.result() for one in searches]
    assert set(codes) <= {200, 429}
    assert codes.count(200) >= 6
    assert max(waits) < 10


def test_a_taken_port_is_said_with_what_to_do_and_before_the_model_is_loaded(server, folder, home):
    port = urlsplit(server.address).port
    result = subprocess.run(
        command("serve", "--gallery", str(folder), "--port", str(port)),
        capture_output=True,
        text=True,
        env=environment(home),
        timeout=60,
    )
    assert result.returncode == 1
    assert f"127.0.0.1 port {port} is taken by another program" in result.stderr
    assert f"--port {port + 1}" in result.stderr
    assert "Loading" not in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_stops_cleanly_when_it_is_told_to(folder, home, number):
    with serving(folder, home) as running:
        assert httpx.get(f"{running.address}healthz").status_code == 200
        assert running.stop(number) == 0
        address = running.address
    assert running.lines[-1] == "Stopped."
    assert not any("Traceback" in line for line in running.lines)
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{address}healthz")


def test_every_address_of_the_machine_only_with_a_warning(folder, home):
    with serving(folder, home, ["--host", "0.0.0.0", "--allow-remote", "--allow-host", "photos.lan"]) as running:
        port = urlsplit(running.address).port
        assert any(line.startswith("warning: there is no login") for line in running.lines)
        for host, status in ((f"photos.lan:{port}", 200), ("evil.example", 400), (f"127.0.0.1:{port}", 200)):
            assert httpx.get(f"{running.address}healthz", headers={"Host": host}).status_code == status


def test_a_gallery_on_a_read_only_disk_keeps_its_copies_elsewhere(folder, tmp_path, monkeypatch):
    from vitseek.web import server as module

    monkeypatch.setattr(Path, "touch", refuse)
    place = module.thumbnail_folder(folder)
    assert place.is_relative_to(module.cache_dir())
    monkeypatch.undo()
    assert module.thumbnail_folder(folder) == folder / ".vitseek" / "thumbnails"


def refuse(*args: object, **kwargs: object) -> None:
    raise PermissionError(30, "Read-only file system")
