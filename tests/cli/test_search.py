"""`vitseek search` as a user calls it: what is printed where, in which form, and with which exit status."""

import csv
import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from PIL import Image

import vitseek
from tests.cli.tiny_model import write_tiny_model
from vitseek.cli import app


class Ran(NamedTuple):
    status: int
    out: bytes
    err: str

    @property
    def text(self):
        return self.out.decode("utf-8", "surrogateescape")


@pytest.fixture
def run(monkeypatch, capsysbinary):
    """Call the program in this process, as `vitseek search …` would."""

    def call(*arguments, stdin=b""):
        monkeypatch.setattr(sys, "argv", ["vitseek", "search", *map(str, arguments)])
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        status = 0
        try:
            app.main()
        except SystemExit as end:
            status = end.code or 0
        captured = capsysbinary.readouterr()
        return Ran(status, captured.out, captured.err.decode("utf-8", "surrogateescape"))

    return call


@pytest.fixture
def gallery(photos, tmp_path):
    """The seven photos, indexed with labels by a model of random weights."""
    with vitseek.Gallery(photos, model=str(write_tiny_model(tmp_path / "model"))) as opened:
        report = opened.index(labels_from_folders=True)
    assert report.images == 7
    return photos


@pytest.fixture
def query(tmp_path):
    """A picture that is not in the gallery."""
    pixels = np.random.default_rng(3).integers(0, 90, (59, 67, 3), dtype=np.uint8)
    pixels[..., 0] += 120
    path = tmp_path / "query.png"
    Image.fromarray(pixels).save(path)
    return path


def scores_by_hand(gallery, query):
    """Cosines of the query to every photo, straight from the model."""
    files = sorted(gallery.glob("*/*.png"))
    model = vitseek.load(str(gallery.parent / "model"))
    features = model.embed([str(query), *map(str, files)]).astype(np.float64)
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    return dict(zip(files, (features[1:] @ features[0]).tolist(), strict=True))


def test_json_holds_the_cosines_of_the_best_images_in_order(run, gallery, query):
    ran = run(query, "--gallery", gallery, "-k", 5, "--json")
    assert (ran.status, ran.err) == (0, "")
    document = json.loads(ran.out)
    assert document["gallery"] == str(gallery)
    assert document["model"] == "tiny-random"
    [result] = document["results"]
    wanted = sorted(scores_by_hand(gallery, query).items(), key=lambda pair: -pair[1])[:5]
    assert [match["path"] for match in result["matches"]] == [str(path) for path, _ in wanted]
    np.testing.assert_allclose([match["score"] for match in result["matches"]], [s for _, s in wanted], atol=1e-5)
    assert [match["rank"] for match in result["matches"]] == [1, 2, 3, 4, 5]
    assert all(match["labels"] == [Path(match["path"]).parent.name] for match in result["matches"])
    assert {(match["width"], match["height"]) for match in result["matches"]} == {(71, 53)}


def test_the_table_says_what_was_searched_and_shows_short_paths(run, gallery, query, monkeypatch):
    monkeypatch.chdir(gallery)
    ran = run("../query.png", "-k", 3)
    assert (ran.status, ran.err) == (0, "")
    title, header, *lines = ran.text.strip().splitlines()
    assert title == "../query.png: best 3 of 7 in photos (tiny-random)"
    assert header.split() == ["#", "score", "path", "labels", "pixels", "file"]
    assert len(lines) == 3
    rank, score, path, label, pixels, _size, unit = lines[0].split()
    assert (rank, label, pixels, unit) == ("1", path.split("/")[0], "71×53", "kB")
    assert -1 <= float(score) <= 1
    assert (gallery / path).is_file()


def test_several_queries_are_answered_in_their_order(run, gallery, query):
    inside = gallery / "blue" / "blue-2.png"
    ran = run(query, inside, "--gallery", gallery, "-k", 1, "--csv")
    rows = list(csv.DictReader(io.StringIO(ran.text)))
    assert [row["query"] for row in rows] == [str(query), str(inside)]
    assert rows[1]["path"] == str(inside)
    assert float(rows[1]["score"]) == pytest.approx(1, abs=1e-6)


def test_the_query_and_its_copies_can_be_left_out(run, gallery, tmp_path):
    copy = tmp_path / "copy.png"
    copy.write_bytes((gallery / "red" / "red-0.png").read_bytes())
    with_it = run(copy, "--gallery", gallery, "--paths").text.splitlines()
    without = run(copy, "--gallery", gallery, "--paths", "--exclude-query")
    assert with_it[0] == str(gallery / "red" / "red-0.png")
    assert without.text.splitlines() == with_it[1:]
    assert without.err == "the gallery holds 7 images, and the query is left out; 10 were asked for\n"


def test_a_filter_limits_what_is_found(run, gallery, query):
    ran = run(query, "--gallery", gallery, "--where", "label:blue not name:blue-1*", "--paths")
    assert sorted(Path(line).name for line in ran.text.splitlines()) == ["blue-0.png", "blue-2.png", "blue-3.png"]
    assert ran.err == "only 3 images pass the filter; 10 were asked for\n"


def test_nothing_found_is_said_and_exits_with_1(run, gallery, query):
    ran = run(query, "--gallery", gallery, "--where", "label:green")
    assert ran.status == 1
    assert ran.text.strip() == f"{query}: none of 0 that pass the filter in photos (tiny-random)"
    assert ran.err == "no image passes the filter; 10 were asked for\n"
    as_json = run(query, "--gallery", gallery, "--where", "label:green", "--json")
    assert as_json.status == 1
    [result] = json.loads(as_json.out)["results"]
    assert result == {"query": str(query), "parsed": f'file:"{query}"', "spaces": ["tiny-random"], "matches": []}


def test_more_than_the_gallery_holds_gives_all_and_says_so(run, gallery, query):
    ran = run(query, "--gallery", gallery, "-k", 1000, "--paths")
    assert ran.status == 0
    assert len(ran.text.splitlines()) == 7
    assert ran.err == "the gallery holds 7 images; 1,000 were asked for\n"


def test_paths_survive_xargs_whatever_the_names(run, photos, tmp_path, query):
    odd = ["two words.png", "line\nbreak.png", "quote\"'.png", os.fsdecode(b"latin1-\xe9.png"), "☃\U0001f600.png"]
    for number, name in enumerate(odd):
        Image.new("RGB", (31, 29), (number * 40, 90, 90)).save(photos / "red" / name)
    with vitseek.Gallery(photos, model=str(write_tiny_model(tmp_path / "model"))) as opened:
        opened.index()
    nul = run(query, "--gallery", photos, "-k", 12, "--paths", "-0")
    assert nul.err == ""
    found = {path.rpartition(b"/")[2] for path in nul.out.split(b"\0")[:-1]}
    assert {os.fsencode(name) for name in odd} <= found
    assert len(found) == 12
    lines = run(query, "--gallery", photos, "-k", 12, "--paths")
    assert "line\\nbreak.png has a line break: with --paths -0" in lines.err
    document = json.loads(run(query, "--gallery", photos, "-k", 12, "--json").out)
    assert {os.fsencode(Path(match["path"]).name) for match in document["results"][0]["matches"]} == found
    table = run(query, "--gallery", photos, "-k", 12).text
    assert "latin1-\\xe9.png" in table
    assert "line\\nbreak.png" in table


def test_stdin_is_a_query(run, gallery):
    inside = gallery / "red" / "red-1.png"
    ran = run("-", "--gallery", gallery, "-k", 1, stdin=inside.read_bytes())
    assert ran.text.startswith("stdin: best 1 of 7 in photos")
    assert str(Path("red") / "red-1.png") in ran.text
    assert run("-", "--gallery", gallery).err == "error: stdin: nothing came; '-' reads a picture from it\n"
    assert "give it once" in run("-", "-", "--gallery", gallery).err


def test_a_montage_is_saved_beside_the_output(run, gallery, query, tmp_path):
    target = tmp_path / "found.png"
    ran = run(query, "--gallery", gallery, "-k", 4, "--json", "--save", target)
    assert ran.err == f"saved {target}\n"
    json.loads(ran.out)
    with Image.open(target) as sheet:
        assert sheet.width > sheet.height > 200


def test_a_searched_picture_is_not_overwritten_by_the_montage(run, gallery, query):
    before = query.read_bytes()
    ran = run(query, "--gallery", gallery, "--save", query)
    assert ran.status == 2
    assert "choose another name" in ran.err
    assert query.read_bytes() == before


def test_the_gallery_is_named_when_it_was_chosen_for_the_user(run, gallery, query, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run(query).err.splitlines()[0].startswith(f"gallery: {gallery} (the last used")
    monkeypatch.chdir(gallery / "red")
    assert run(query, "-k", 1).err == f"gallery: {gallery}\n"
    monkeypatch.setenv("VITSEEK_GALLERY", str(gallery))
    assert run(query, "-k", 1, "--json").err == f"gallery: {gallery} (from VITSEEK_GALLERY)\n"


def test_without_a_gallery_the_way_to_make_one_is_shown(run, query, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ran = run(query)
    assert (ran.status, ran.out) == (1, b"")
    assert "vitseek index FOLDER" in ran.err


def test_another_model_than_the_gallerys_is_refused(run, gallery, query, tmp_path):
    other = write_tiny_model(tmp_path / "other", embed_dim=26, name="tiny-other")
    ran = run(query, "--gallery", gallery, "--model", other)
    assert ran.status == 1
    assert "tiny-random (22-d)" in ran.err
    assert "tiny-other (26-d)" in ran.err


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["nowhere.png"], 1, "error: nowhere.png: there is no such file. To search for these words: '\"nowhere.png\"'"),
        (["one.png+two.png"], 1, "Write + and - with a space on both sides"),
        (
            ["a red dress"],
            2,
            "'a red dress' is no file here, so it is searched as words. The model of",
        ),
        (["a red dress"], 2, "vitseek index GALLERY --model clip-"),
        (['"a red dress'], 2, 'error: query: this " is never closed\n  "a red dress\n  ^\n'),
        (["image:99"], 1, "no image 99"),
        (["image:x"], 2, "is no id"),
        ([""], 2, "the query is empty"),
        (['"red" - "red"'], 2, "understands pictures only"),
        (["QUERY + QUERY - 2 QUERY"], 2, "cancel each other"),
        (["http://127.0.0.1:9/cat.jpg"], 1, "this machine itself; only the public internet is asked"),
        (["https://example.org/cat.jpg", "--offline"], 1, "the network may not be used"),
        (["QUERY", "--balance", "0.5"], 2, "--balance belongs to --also"),
        (["QUERY", "--fusion", "ranks"], 2, "--fusion belongs to --also"),
        (["QUERY", "--also", "nope"], 1, "no space 'nope'; it has 'tiny-random'"),
        (["QUERY", "--also", "tiny-random"], 2, "both are 'tiny-random'"),
        (["QUERY", "--space", "nope"], 1, "no space 'nope'"),
        (["x" * 300 + ".png"], 1, "name too long"),
        (["FOLDER"], 1, "this is a folder; a query is an image file"),
        (["TEXT"], 1, "text.jpg"),
        (["QUERY", "-k", "0"], 2, "'-k'"),
        (["QUERY", "-k", "ten"], 2, "'-k'"),
        (["QUERY", "--json", "--csv"], 2, "only one of --json, --csv and --paths"),
        (["QUERY", "-0"], 2, "--null belongs to --paths"),
        (["QUERY", "--where", "label:"], 2, "error: filter: 'label' wants a value"),
        (["QUERY", "--where", ""], 2, "the filter is empty"),
        (["QUERY", "--save", "x.gif"], 2, "must end in .png"),
        (["QUERY", "--model", "nope"], 2, "nope"),
        ([], 2, "QUERY"),
    ],
)
def test_what_cannot_work_is_said_in_words(run, gallery, query, tmp_path, arguments, status, said):
    (tmp_path / "text.jpg").write_text("this is no picture")
    names = {"QUERY": str(query), "FOLDER": str(tmp_path), "TEXT": str(tmp_path / "text.jpg")}
    named = [re.sub("QUERY|FOLDER|TEXT", lambda found: names[found[0]], argument) for argument in arguments]
    ran = run(*named, "--gallery", gallery)
    said = said.replace("GALLERY", str(gallery))
    assert (ran.status, ran.out) == (status, b"")
    assert said.lower() in ran.err.lower()
    assert "Traceback" not in ran.err
    assert "unexpected" not in ran.err


def test_a_reader_that_stops_reading_is_no_error(gallery, query):
    command = f"'{sys.executable}' -m vitseek search '{query}' --gallery '{gallery}' --csv | head -n 1"
    ran = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True)
    assert ran.stdout.startswith('"query"')
    assert ran.stderr == "the gallery holds 7 images; 10 were asked for\n"
