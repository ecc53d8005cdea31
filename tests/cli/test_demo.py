"""`vitseek demo`: what it draws where, what it prints, what it leaves alone."""

import io
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest
from PIL import Image

import vitseek
from tests.cli.tiny_model import write_tiny_model
from vitseek.cli import app, demo
from vitseek.sample import gallery as sample


@pytest.fixture
def model(tmp_path):
    return write_tiny_model(tmp_path / "model")


@pytest.fixture
def run(monkeypatch, capfd, tmp_path, model):
    """Call `vitseek demo … --no-serve` in an empty working directory with a small sample and a tiny model."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(demo, "PER_KIND", 2)

    def call(*arguments, serve=False):
        words = ["vitseek", "demo", "--model", model, *arguments, *([] if serve else ["--no-serve"])]
        monkeypatch.setattr(sys, "argv", [str(word) for word in words])
        monkeypatch.setattr(sys, "stdin", io.StringIO())
        status = 0
        try:
            app.main()
        except SystemExit as end:
            status = end.code or 0
        out, err = capfd.readouterr()
        return status, out, err

    return call


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """What a first run draws; drawing takes longer than all the rest."""
    folder = tmp_path_factory.mktemp("drawn")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(demo, "PER_KIND", 2)
        demo._draw(folder / "pictures")
        demo._held_out(folder / "queries")
    return folder


@pytest.fixture
def sample_folder(drawn, tmp_path):
    """The working directory after a first run was stopped before it indexed."""
    return Path(shutil.copytree(drawn, tmp_path / "demo-gallery"))


def test_the_sample_is_drawn_indexed_searched_and_shown(run, tmp_path):
    status, out, err = run("-k", 4)
    assert status == 0
    pictures = tmp_path / "demo-gallery" / "pictures"
    drawn = sorted(path for path in pictures.rglob("*.*") if ".vitseek" not in path.parts)
    assert len(drawn) == 2 * len(sample.KINDS) == 24
    title, _, *lines = out.splitlines()
    assert title == "demo-gallery/queries/balloon.png: best 4 of 24 in pictures (tiny-random)"
    assert all(line.split()[2].startswith("demo-gallery/pictures/") for line in lines[:4])
    same = sum(line.split()[3] == "balloon" for line in lines[:4])
    assert f"{same} of the 4 are of the query's kind, balloon." in lines
    assert "With a new picture of each of the 12 kinds:" in out
    assert "of 48 are of the query's kind" in out
    with Image.open(tmp_path / "demo-gallery" / "result.png") as result:
        assert result.width > 500
    assert "24 images, 24 of them new" in err
    assert "vitseek search demo-gallery/queries/balloon.png --gallery demo-gallery/pictures" in err


def test_the_queries_are_in_no_gallery(run, sample_folder):
    run()
    queries = sorted((sample_folder / "queries").iterdir())
    assert [path.stem for path in queries] == sorted(sample.KINDS)
    with vitseek.Gallery(sample_folder / "pictures", create=False) as gallery:
        best = gallery.search([str(path) for path in queries], k=1)
    assert max(matches[0].score for matches in best) < 1 - 1e-5


def test_a_second_run_draws_and_embeds_nothing_anew(run, sample_folder, monkeypatch):
    monkeypatch.setattr(sample, "draw_gallery", None)
    monkeypatch.setattr(sample, "draw", None)
    _, first, _ = run()
    status, again, err = run()
    assert (status, again) == (0, first)
    assert "already" in err
    assert "24 images, 0 of them new" in err


def test_an_interrupted_drawing_is_completed(run, sample_folder, monkeypatch):
    monkeypatch.setattr(sample, "KINDS", {kind: sample.KINDS[kind] for kind in ("balloon", "fish")})
    picture = sample_folder / "pictures" / "fish" / "fish-02.jpg"
    content = picture.read_bytes()
    picture.unlink()
    _, _, err = run()
    assert picture.read_bytes() == content
    assert "24 images" in err


def test_other_peoples_folders_are_not_drawn_into(run, tmp_path):
    (tmp_path / "demo-gallery").mkdir()
    (tmp_path / "demo-gallery" / "thesis.txt").write_text("mine")
    status, out, err = run()
    assert (status, out) == (2, "")
    assert "thesis.txt" in err
    assert "--folder DIR" in err
    assert [path.name for path in (tmp_path / "demo-gallery").iterdir()] == ["thesis.txt"]
    (tmp_path / "file").touch()
    assert "is a file" in run("--folder", "file")[2]


def test_a_real_folder_is_only_read_and_searched_with_one_of_its_own(run, photos, tmp_path):
    before = {path: path.stat().st_mtime_ns for path in photos.rglob("*.png")}
    status, out, _ = run("--gallery", photos, "-k", 3, "--save", tmp_path / "result.jpg")
    assert status == 0
    assert {path: path.stat().st_mtime_ns for path in photos.rglob("*.png")} == before
    assert not (tmp_path / "demo-gallery").exists()
    title, _, *lines = out.splitlines()
    query = Path(title.split(": best")[0])
    assert query in before
    assert str(query.relative_to(photos)) not in "".join(lines)  # left out of its own results
    assert f"of the query's kind, {query.parent.name}." in out
    assert (tmp_path / "result.jpg").is_file()


def test_labels_of_an_indexed_folder_stay_as_they_are(run, photos, model):
    with vitseek.Gallery(photos, model=str(model)) as gallery:
        gallery.index(labels_from_folders=False)
    status, out, _ = run("--gallery", photos)
    assert status == 0
    assert "of the query's kind" not in out
    with vitseek.Gallery(photos, create=False) as gallery:
        assert gallery.status().labels == {}


def test_any_picture_can_be_the_query(run, photos, tmp_path):
    query = tmp_path / "query.png"
    Image.new("RGB", (41, 37), (200, 30, 30)).save(query)
    _, out, _ = run("--gallery", photos, "--query", query, "-k", 2)
    assert out.startswith(f"{query}: best 2 of 7 in photos") or out.startswith("query.png: best 2 of 7 in photos")


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["--query", "nowhere.png"], 1, "there is no such file"),
        (["--gallery", "nowhere"], 1, "is not a folder"),
        (["-k", "0"], 2, "'-k'"),
        (["--save", "x.gif"], 2, "must end in"),
        (["--port", "70000"], 2, "--port"),
    ],
)
def test_mistakes_are_said_before_anything_is_drawn(run, tmp_path, arguments, status, said):
    found, out, err = run(*arguments)
    assert (found, out) == (status, "")
    assert said in err
    assert not (tmp_path / "demo-gallery").exists()


def test_a_folder_without_a_picture_says_so(run, tmp_path):
    (tmp_path / "empty").mkdir()
    status, _, err = run("--gallery", "empty")
    assert status == 1
    assert "there is no usable image in" in err


def test_without_the_web_packages_the_search_is_shown_and_the_way_to_the_page(run, monkeypatch, photos):
    monkeypatch.setattr(demo, "WEB_MODULES", ("json", "no_such_package_of_ours"))
    status, out, err = run("--gallery", photos, serve=True)
    assert status == 0
    assert "best 6 of 7" in out
    assert "no_such_package_of_ours" in err
    assert "pip install 'vitseek[web]', then: vitseek serve --gallery photos --open" in err


def test_the_usual_port_is_taken_only_when_it_is_free(monkeypatch):
    with socket.socket() as busy:
        busy.bind(("127.0.0.1", 0))
        busy.listen()
        monkeypatch.setattr(demo, "USUAL_PORT", busy.getsockname()[1])
        assert demo._free_port() == 0
    assert demo._free_port() == demo.USUAL_PORT


@pytest.mark.parametrize(
    ("environ", "platform", "shown"),
    [
        ({"DISPLAY": ":0"}, "linux", True),
        ({"WAYLAND_DISPLAY": "wayland-0"}, "linux", True),
        ({}, "linux", False),
        ({"DISPLAY": ":0", "CI": "true"}, "linux", False),
        ({"DISPLAY": ":10", "SSH_CONNECTION": "10.0.0.1 1 10.0.0.2 22"}, "linux", False),
        ({}, "darwin", True),
        ({"CI": "1"}, "darwin", False),
        ({}, "win32", True),
    ],
)
def test_a_browser_is_opened_only_where_somebody_sees_it(environ, platform, shown):
    assert demo.can_show_a_browser(environ.get, platform) is shown


@pytest.mark.server
def test_the_page_answers_after_the_search(photos, model, tmp_path):
    pytest.importorskip("django")
    command = [sys.executable, "-m", "vitseek", "demo", "--gallery", photos, "--model", model, "--port", "0"]
    process = subprocess.Popen(
        [*map(str, command), "--no-browser"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path
    )
    try:
        address, deadline = None, time.monotonic() + 60
        while address is None and time.monotonic() < deadline:
            line = process.stderr.readline()
            assert line, "the server ended before it said where it is"
            address = next((word for word in line.split() if word.startswith("http://127.0.0.1:")), None)
        with urllib.request.urlopen(address, timeout=30) as page:
            assert page.status == 200
            assert b"vitseek" in page.read().lower()
    finally:
        process.terminate()
        out, _ = process.communicate(timeout=30)
    assert "best 6 of 7 in photos" in out
    assert process.returncode == 0
