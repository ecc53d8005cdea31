"""`vitseek search` with words, combinations, addresses and two spaces, through a small model that really reads."""

import csv
import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import vitseek
from tests.cli.tiny_model import write_tiny_model
from tests.download.picture_server import picture, serve
from vitseek.sample import draw_gallery
from vitseek.search.montage import MAT

PER_KIND = 3
KINDS = 12


@pytest.fixture(scope="module")
def drawn(tmp_path_factory, tiny_clip_path):
    """Thirty-six drawn pictures in two spaces; the default one, of random weights, knows pictures only."""
    home = tmp_path_factory.mktemp("words")
    folder = home / "drawn"
    draw_gallery(folder, seed=11, per_kind=PER_KIND)
    patch = pytest.MonkeyPatch()
    patch.setenv("VITSEEK_STATE", str(home / "state"))
    with vitseek.Gallery(folder) as opened:
        opened.index(model=str(write_tiny_model(home / "model")), labels_from_folders=True)
        opened.index(model=str(tiny_clip_path))
    patch.undo()
    return folder


@pytest.fixture(scope="module")
def tiny_clip_path():
    return Path(__file__).resolve().parents[1] / "fixtures" / "tiny-clip" / "tiny-clip.safetensors"


@pytest.fixture
def search(run_command, drawn):
    return lambda *arguments: run_command("search", *arguments, "--gallery", drawn)


def found(ran):
    [result] = json.loads(ran.out)["results"]
    return [match["labels"][0] for match in result["matches"]]


@pytest.mark.parametrize(("words", "kind"), [("a snowman", "snowman"), ("a cat", "cat"), ("tall buildings", "city")])
def test_words_find_pictures_of_what_they_name(search, words, kind):
    ran = search(words, "-k", PER_KIND, "--json")
    assert found(ran) == [kind] * PER_KIND
    assert ran.err == ("words are searched in space 'tiny-clip'; the default one, 'tiny-random', knows pictures only\n")
    document = json.loads(ran.out)
    assert document["model"] == "tiny-clip"
    assert document["results"][0]["parsed"] == f'"{words}"'
    assert document["results"][0]["spaces"] == ["tiny-clip"]


def test_the_table_names_the_model_that_was_searched(search, drawn):
    text = search("a snowman", "-k", 1).out
    assert text.startswith("a snowman: best 1 of 36 in drawn (tiny-clip)\n")
    path = drawn / "cat" / "cat-01.jpg"
    both = search(path, "-k", 1, "--also", "tiny-clip", "--balance", "0.25").out
    assert both.startswith(f"{path}: best 1 of 36 in drawn (0.75 tiny-random + 0.25 tiny-clip)\n")


def test_a_long_text_is_not_repeated_whole_above_its_matches(search):
    title = search("a snowman " * 90, "-k", 1).out.splitlines()[0]
    assert title.startswith("a snowman a snowman")
    assert "…: best 1 of" in title
    assert len(title) < 300


def test_a_combination_has_pictures_of_both(search, drawn):
    query = f'{drawn / "cat" / "cat-01.jpg"} + "a snowman"'
    kinds = found(search(query, "-k", 6, "--json"))
    assert set(kinds) == {"cat", "snowman"}
    without = found(search(f'{drawn / "cat" / "cat-01.jpg"} - 3 "a cat"', "-k", 6, "--json"))
    assert without.count("cat") < PER_KIND


def test_a_query_may_begin_with_a_minus(search):
    first = found(search("a cat", "-k", 36, "--json"))
    ran = search('- "a cat"', "-k", 36, "--json")
    assert found(ran) == first[::-1]
    assert "least like it" in ran.err
    assert search("-x").status == 2  # what looks like an option is one


def test_csv_and_paths_take_words_too(search, drawn):
    rows = list(csv.DictReader(io.StringIO(search("a cat", '"a fish"', "-k", 2, "--csv").out)))
    assert [(row["query"], row["labels"]) for row in rows] == [("a cat", "cat")] * 2 + [('"a fish"', "fish")] * 2
    paths = search("a cat", "-k", 2, "--paths").out.splitlines()
    assert paths == [row["path"] for row in rows[:2]]


def test_remarks_go_to_stderr_once(search, drawn, monkeypatch):
    monkeypatch.chdir(drawn)
    (drawn / "cat" / "notes").write_text("no picture")
    monkeypatch.chdir(drawn / "cat")
    ran = search('"notes"', '"notes" + 0 "a cat"', "--json", "-k", 1)
    (drawn / "cat" / "notes").unlink()
    assert ran.err.splitlines() == [
        '"notes" is in quotes and searched as words; there is a file of this name: file:"notes" searches with it',
        '"a cat" has the weight 0 and takes no part',
        "words are searched in space 'tiny-clip'; the default one, 'tiny-random', knows pictures only",
    ]


def test_the_montage_of_words_has_no_query_picture(search, drawn, tmp_path):
    words, both = tmp_path / "words.png", tmp_path / "both.png"
    assert search("a cat", "-k", 2, "--save", words, "--paths").status == 0
    query = f'{drawn / "cat" / "cat-01.jpg"} + "a snowman"'
    assert search(query, "-k", 2, "--save", both, "--paths").status == 0
    with Image.open(words) as one, Image.open(both) as other:
        assert one.size == other.size
        assert one.getpixel((40, 40)) == MAT  # the words stand on it, in the middle
        inside = np.asarray(one.convert("L"))[100:180, 60:220]
        assert inside.min() < 60
        assert other.getpixel((140, 140)) != MAT
    by_id = tmp_path / "id.png"
    assert search("0.5 image:7", "-k", 1, "--save", by_id, "--paths").status == 0
    with Image.open(by_id) as sheet:
        assert sheet.getpixel((140, 140)) != MAT


def test_a_space_that_knows_pictures_only_shows_the_way_out(search):
    ran = search("a cat", "--space", "tiny-random")
    assert (ran.status, ran.out) == (2, "")
    assert "space 'tiny-clip' of this gallery understands words" in ran.err
    assert search("a cat", "--space", "tiny-clip", "--json", "-k", 1).err == ""


@pytest.mark.parametrize("fusion", ["scores", "ranks"])
def test_two_spaces_are_joined(search, drawn, fusion):
    path = drawn / "fish" / "fish-02.jpg"
    ran = search(path, "--also", "tiny-clip", "--fusion", fusion, "--json", "-k", 3)
    document = json.loads(ran.out)
    assert document["fusion"] == {"method": fusion, "balance": 0.5}
    assert document["results"][0]["spaces"] == ["tiny-random", "tiny-clip"]
    assert document["results"][0]["matches"][0]["path"] == str(path)
    only = search("a cat", "--also", "tiny-clip", "--json", "-k", 3)
    assert found(only) == ["cat"] * 3
    assert "the words are searched in 'tiny-clip' alone" in only.err


@pytest.mark.server
def test_a_picture_of_an_address_is_searched_and_shown(search, tmp_path):
    with serve() as (server, asked):
        refused = search(f"{server}/cat")
        assert (refused.status, len(asked)) == (1, 0)
        assert "--allow-private-addresses" in refused.err
        sheet = tmp_path / "sheet.png"
        ran = search(f'{server}/cat + "a cat"', "--allow-private-addresses", "--json", "--save", sheet)
        assert ran.status == 0
        assert len(asked) == 1
        assert json.loads(ran.out)["results"][0]["parsed"] == f'{server}/cat + "a cat"'
        gone = search(f"{server}/missing", "--allow-private-addresses")
        assert (gone.status, gone.err) == (1, f"error: {server}/missing: there is nothing at this address (404)\n")
    with Image.open(sheet) as drawn_sheet, Image.open(io.BytesIO(picture())) as sent:
        assert drawn_sheet.getpixel((150, 150)) == sent.convert("RGB").getpixel((3, 3))
