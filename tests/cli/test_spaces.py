"""`vitseek spaces`: what is listed, which one is the default, and that removing one leaves the rest."""

import io
import json
import sys

import pytest

import vitseek
from tests.cli.tiny_model import write_tiny_model


@pytest.fixture
def gallery(photos, tmp_path):
    """Seven photos in one space, six of them in another."""
    with vitseek.Gallery(photos) as opened:
        opened.index(model=str(write_tiny_model(tmp_path / "one")))
        opened.index([photos / "red"], model=str(write_tiny_model(tmp_path / "two", embed_dim=26, name="tiny-other")))
    return photos


@pytest.fixture
def spaces(run_command, gallery):
    return lambda *arguments: run_command("spaces", *arguments, "--gallery", gallery)


def listed(spaces):
    return {space["name"]: space for space in json.loads(spaces("list", "--json").out)["spaces"]}


def test_the_list_says_what_each_space_holds(run_command, gallery):
    ran = run_command("spaces", "--gallery", gallery)
    assert ran.status == 0
    header, first, second = ran.out.splitlines()
    assert header.split() == ["space", "words", "images", "length"]
    assert first.split() == ["*", "tiny-random", "no", "7", "of", "7", "22"]
    assert second.split() == ["tiny-other", "no", "3", "of", "7", "26"]
    assert "tiny-other lacks 4 images: vitseek index --model" in ran.err
    assert "no model here understands words" in ran.err
    document = json.loads(run_command("spaces", "--gallery", gallery, "--json").out)
    assert (document["gallery"], document["images"]) == (str(gallery), 7)
    assert [(space["name"], space["images"], space["default"]) for space in document["spaces"]] == [
        ("tiny-random", 7, True),
        ("tiny-other", 3, False),
    ]


def test_a_space_that_reads_says_so(spaces, gallery, tiny_clip):
    with vitseek.Gallery(gallery) as opened:
        opened.index(model=str(tiny_clip))
    assert [space["words"] for space in listed(spaces).values()] == [False, False, True]
    assert "no model here" not in spaces("list").err


def test_another_space_can_be_the_default(spaces, run_command, gallery):
    ran = spaces("use", "tiny-other")
    assert ran.err == ("tiny-other is searched by default now\nit lacks 4 of 7 images; fill it with: vitseek index\n")
    assert listed(spaces)["tiny-other"]["default"]
    query = gallery / "red" / "red-0.png"
    searched = run_command("search", query, "--gallery", gallery, "--json")
    assert json.loads(searched.out)["model"] == "tiny-other"
    assert "4 images have no vector in space 'tiny-other' and are not found" in searched.err
    assert json.loads(spaces("use", "tiny-random", "--json").out)["default"] == "tiny-random"


def test_removing_a_space_leaves_images_labels_and_the_others(spaces, gallery):
    with vitseek.Gallery(gallery) as opened:
        opened.add_labels([1], "mine")
        opened.search(gallery / "red" / "red-0.png", space="tiny-other")
        file = opened._matrices.file(opened.space("tiny-other"))
    assert file.exists()
    ran = spaces("remove", "tiny-other", "--yes")
    assert (ran.status, ran.out) == (0, "")
    assert ran.err == "the 3 vectors of tiny-other are deleted; tiny-random is searched by default\n"
    assert not file.exists()
    assert list(listed(spaces)) == ["tiny-random"]
    with vitseek.Gallery(gallery) as opened:
        assert opened.count() == 7
        assert opened.image(1).labels == ("mine",)
        assert opened.check() == []
        assert opened._catalog.database.value("SELECT count(*) FROM vectors") == 7


def test_removing_the_default_space_makes_the_fullest_other_one_the_default(spaces):
    document = json.loads(spaces("remove", "tiny-random", "--yes", "--json").out)
    assert (document["removed"], document["vectors"], document["default"]) == ("tiny-random", 7, "tiny-other")
    assert listed(spaces)["tiny-other"]["default"]


def test_the_only_space_stays(spaces):
    spaces("remove", "tiny-other", "-y")
    ran = spaces("remove", "tiny-random", "-y")
    assert ran.status == 2
    assert "only space" in ran.err
    assert list(listed(spaces)) == ["tiny-random"]


def test_nothing_is_deleted_without_a_yes(spaces, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.StringIO(""))
    ran = spaces("remove", "tiny-other")
    assert ran.status == 2
    assert "3 vectors of tiny-other; add --yes" in ran.err
    assert len(listed(spaces)) == 2


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["use", "nope"], 1, "no space 'nope'; it has 'tiny-random', 'tiny-other'"),
        (["remove", "nope", "-y"], 1, "no space 'nope'"),
        (["use"], 2, "NAME"),
        (["paint"], 2, "paint"),
    ],
)
def test_what_cannot_be_done_is_said(spaces, arguments, status, said):
    ran = spaces(*arguments)
    assert ran.status == status
    assert said in ran.err
    assert "Traceback" not in ran.err


def test_options_stand_after_the_command(run_command, gallery):
    ran = run_command("spaces", "--gallery", gallery, "use", "tiny-other")
    assert ran.status == 2
    assert "write --gallery after 'use'" in ran.err
