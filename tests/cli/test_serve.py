"""`vitseek serve` before it serves: what it refuses, and how."""

import errno
import socket

import pytest
from typer.testing import CliRunner

from vitseek.cli.app import app
from vitseek.errors import GalleryEmptyError, GalleryNotFoundError, MissingExtraError, ServerStartError, UsageError
from vitseek.gallery.gallery import Gallery
from vitseek.web.options import WebOptions
from vitseek.web.server import _why_not, bind, page_address, refuse_unasked_exposure, serve


def run(*arguments: str):
    return CliRunner().invoke(app, ["serve", *arguments])


def test_help_has_examples():
    result = run("--help")
    assert result.exit_code == 0
    assert "vitseek serve --gallery photos --open" in result.output


def test_a_folder_without_an_index_is_an_error_that_says_how_to_make_one(tmp_path):
    result = run("--gallery", str(tmp_path))
    assert isinstance(result.exception, GalleryNotFoundError)
    assert "vitseek index" in str(result.exception)
    assert not (tmp_path / ".vitseek").exists()


def test_an_empty_gallery_is_an_error_that_says_what_to_do(tmp_path):
    with Gallery(tmp_path) as gallery, pytest.raises(GalleryEmptyError, match="vitseek index"):
        serve(gallery, WebOptions(port=0), say=lambda line: None)


def test_the_missing_extra_is_named(monkeypatch, tmp_path):
    monkeypatch.setattr("vitseek.cli.serve.find_spec", lambda name: None if name == "ninja" else object())
    result = run("--gallery", str(tmp_path))
    assert isinstance(result.exception, MissingExtraError)
    assert "pip install 'vitseek[web]'" in str(result.exception)
    assert "ninja" in str(result.exception)


@pytest.mark.parametrize(
    "arguments", [["--port", "70000"], ["--port", "-1"], ["--max-upload-mb", "0"], ["--max-megapixels", "0"]]
)
def test_numbers_out_of_range_are_wrong_use(arguments):
    assert run(*arguments).exit_code == 2


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.7.5", "photos.lan"])
def test_other_machines_are_let_in_only_if_that_was_said(host):
    with pytest.raises(UsageError, match="--allow-remote") as refused:
        refuse_unasked_exposure(WebOptions(host=host))
    assert "no login" in str(refused.value)
    refuse_unasked_exposure(WebOptions(host=host, allow_remote=True))


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "[::1]", "127.7.7.7"])
def test_this_machine_alone_needs_no_leave(host):
    refuse_unasked_exposure(WebOptions(host=host))


def test_a_taken_port_is_an_error_with_ways_out():
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(ServerStartError, match=f"port {port} is taken") as refused:
            bind(WebOptions(port=port))
    assert f"--port {port + 1}" in str(refused.value)
    assert "--port 0" in str(refused.value)


@pytest.mark.parametrize("host", ["203.0.113.7", "no-such-host.invalid"])
def test_an_address_of_another_machine_is_an_error(host):
    with pytest.raises(ServerStartError, match=r"--host 127\.0\.0\.1"):
        bind(WebOptions(host=host, port=0))


def test_a_reserved_port_is_explained():
    assert "from 1024 up" in _why_not(OSError(errno.EACCES, "Permission denied"), "127.0.0.1 port 80", 80)


def test_the_highest_port_has_no_neighbour_to_offer():
    assert "65536" not in _why_not(OSError(errno.EADDRINUSE, "in use"), "127.0.0.1 port 65535", 65535)


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("127.0.0.1", "http://127.0.0.1:8000/"),
        ("::1", "http://[::1]:8000/"),
        ("[::1]", "http://[::1]:8000/"),
        ("0.0.0.0", "http://127.0.0.1:8000/"),
        ("photos.lan", "http://photos.lan:8000/"),
    ],
)
def test_the_address_that_is_printed_can_be_opened(host, address):
    assert page_address(WebOptions(host=host)) == address
