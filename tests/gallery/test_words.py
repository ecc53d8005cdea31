"""Searching a gallery by words, combinations and in two spaces: which space is asked, what counts, what is said."""

from pathlib import Path

import numpy as np
import pytest

from tests.gallery.fake_model import FakeReader
from vitseek.errors import (
    AddressError,
    GalleryMismatchError,
    ImageNotFoundError,
    QuerySyntaxError,
    TextUnsupportedError,
    UnreadableImageError,
    UsageError,
)
from vitseek.gallery.gallery import Gallery
from vitseek.search.query import Expression, Term, parse


@pytest.fixture
def reader():
    return FakeReader()


@pytest.fixture
def words(photos, reader):
    """Seven pictures, three reddish, four bluish, in a space that understands words."""
    with Gallery(photos, model=reader) as opened:
        opened.index(labels_from_folders=True)
        yield opened


@pytest.fixture
def both(photos, model, reader):
    """The same pictures in two spaces; the default one knows pictures only."""
    with Gallery(photos) as opened:
        opened.index(model=model, labels_from_folders=True)
        opened.index(model=reader)
        opened._models._loaded = {1: model, 2: reader}  # what vitseek.load would give
        yield opened


def kinds(matches):
    return [match.labels[0] for match in matches]


@pytest.mark.parametrize(("text", "first"), [("something red", "red"), ("blue", "blue"), ('"blue"', "blue")])
def test_words_find_what_they_mean(words, text, first):
    found = words.search(text, k=7)
    count = 3 if first == "red" else 4
    assert kinds(found)[:count] == [first] * count
    ids, matrix = words.vectors()
    vector = words.model.embed_texts([text.strip('"')])[0]
    cosines = matrix @ (vector / np.linalg.norm(vector))
    assert [match.id for match in found] == ids[np.argsort(-cosines)].tolist()
    np.testing.assert_allclose([match.score for match in found], np.sort(cosines)[::-1], atol=1e-6)


def test_words_and_pictures_count_alike(words, photos, monkeypatch):
    """With a blue picture and red words the plain sum of vectors shows blue only; here both colours come early."""
    monkeypatch.chdir(photos / "blue")
    ids, matrix = words.vectors()
    picture = matrix[ids.tolist().index(words.image_id(photos / "blue" / "blue-1.png"))]
    text = words.model.embed_texts(["red"])[0]
    plain = np.argsort(-(matrix @ (picture + text / np.linalg.norm(text))))
    assert [words.image(int(ids[row])).labels[0] for row in plain[:4]] == ["blue"] * 4
    found = words.search("blue-1.png + 4 'red'", k=7)
    assert kinds(found)[:3] == ["red"] * 3
    assert kinds(words.search("blue-1.png - 4 'blue'", k=3)) == ["red"] * 3


def test_a_negative_query_finds_what_is_least_like_it(words):
    said = []
    found = words.search("- 'blue'", k=3, report=said.append)
    assert kinds(found) == ["red"] * 3
    assert said == ["the query only says what is not wanted: the images that are least like it come first"]
    opposite = words.search("'blue'", k=7)[::-1]
    assert [match.id for match in found] == [match.id for match in opposite[:3]]
    assert found[0].score == pytest.approx(-opposite[0].score)


def test_a_weight_of_zero_takes_no_part_and_nothing_is_read_for_it(words, reader):
    said = []
    found = words.search("'red' + 0 'blue' + 0 image:99999 - 0 https://example.invalid/x", report=said.append)
    assert [match.id for match in found] == [match.id for match in words.search("'red'")]
    assert "blue" not in reader.texts
    assert [sentence.split(" has ")[0] for sentence in said] == ['"blue"', "image:99999", "https://example.invalid/x"]
    with pytest.raises(UsageError, match="every weight"):
        words.search(Expression((Term(0, "text", "red"),)))


def test_pictures_of_the_query_and_their_copies_can_be_left_out(words, photos, tmp_path):
    inside = words.image_id(photos / "red" / "red-0.png")
    copy = tmp_path / "copy.png"
    copy.write_bytes((photos / "red" / "red-1.png").read_bytes())
    found = words.search(f"image:{inside} + {copy} + 'red'", k=7, exclude_query=True)
    assert {match.path.name for match in found}.isdisjoint({"red-0.png", "red-1.png"})
    assert len(found) == 5
    unwanted = words.search(f"'red' - image:{inside}", k=7, exclude_query=True)
    assert inside in {match.id for match in unwanted}  # only what was searched for is left out


def test_every_kind_of_query_can_be_a_term(words, photos, monkeypatch):
    monkeypatch.chdir(photos)
    record = words.image(words.image_id(photos / "red" / "red-2.png"))
    data = record.path.read_bytes()
    vector = dict(zip(*(part.tolist() for part in words.vectors()), strict=True))[record.id]
    for same in (
        "red/red-2.png",
        f"image:{record.id}",
        f'file:"{record.path}"',
        "2 red/red-2.png",
        record.path,
        data,
        record.id,
        np.array(vector),
        Expression((Term(3, "picture", data),)),
        Expression((Term(1, "vector", vector),)),
        parse("red/red-2.png"),
    ):
        match = words.search(same, k=1)[0]
        assert (match.id, match.score) == (record.id, pytest.approx(1, abs=1e-6))


def test_several_queries_are_read_together_and_answered_apart(words, reader, photos):
    answers = words.search(["red", photos / "blue" / "blue-0.png", "'blue' + 'dark'"], k=3)
    assert len(answers) == 3
    assert reader.texts == ["red", "blue", "dark"]
    assert kinds(answers[0]) == ["red"] * 3
    assert answers[1][0].path.name == "blue-0.png"


@pytest.mark.parametrize(
    ("query", "error", "said"),
    [
        ("", QuerySyntaxError, "the query is empty"),
        ('red + "', QuerySyntaxError, "never closed"),
        ("image:4711", ImageNotFoundError, "no image 4711"),
        ("'red' + image:4711", ImageNotFoundError, "no image 4711"),
        ("gone.jpg", UnreadableImageError, "no such file; check the path. To search for these words"),
        ("gone.jpg+more.jpg", UnreadableImageError, r"Write \+ and - with a space"),
        (Path("gone"), UnreadableImageError, "gone: there is no such file; check the path$"),
        ("file:gone", UnreadableImageError, "gone: there is no such file; check the path$"),
        ("caf\udce9.jpg", UnreadableImageError, r"^caf\\xe9\.jpg: there is no such file"),
        (None, UsageError, "NoneType is no query"),
        (3.5, UsageError, "float is no query"),
        ("/", UnreadableImageError, "folder"),
        ("'red' - 'red'", UsageError, "cancel each other"),
        (Expression((Term(1, "upload", "x"),)), UsageError, "upload:x must be replaced"),
        (True, UsageError, "not a query"),
    ],
)
def test_what_cannot_be_searched_is_said(words, query, error, said):
    with pytest.raises(error, match=said):
        words.search(query)


# -- which space


def test_words_are_searched_where_they_are_understood(both, model, reader, photos):
    said = []
    assert kinds(both.search("red", k=3, report=said.append)) == ["red"] * 3
    assert said == ["words are searched in space 'fake-reader'; the default one, 'fake-small', knows pictures only"]
    assert both.space_of("red").name == "fake-reader"
    assert both.words_space().name == "fake-reader"
    assert both.space_of(photos / "red" / "red-0.png").name == "fake-small"
    assert both.space_of("red", "fake-reader").name == "fake-reader"
    said.clear()
    answers = both.search(["red", photos / "red" / "red-0.png"], k=1, report=said.append)
    assert len(said) == 1
    assert answers[1][0].score == pytest.approx(1, abs=1e-6)


def test_a_named_space_that_knows_pictures_only_refuses_words_with_the_way_out(both):
    with pytest.raises(TextUnsupportedError, match=r"'fake-small' understands pictures only.*--space fake-reader"):
        both.search("a red dress", space="fake-small")


def test_a_model_that_the_caller_chose_is_not_left_for_another(both, model, photos):
    with Gallery(photos, model=model) as opened:
        assert opened.words_space() is None
        with pytest.raises(TextUnsupportedError, match=r"leave --space and --model away, or write --space fake-reader"):
            opened.search("red")


def test_a_gallery_without_such_a_space_says_how_to_get_one(gallery):
    with pytest.raises(TextUnsupportedError) as caught:
        gallery.search('"a red dress"')
    assert "'fake-small' understands pictures only" in str(caught.value)
    assert "vitseek index" in str(caught.value)
    with pytest.raises(TextUnsupportedError, match="'dress' is no file here, so it is searched as words"):
        gallery.search("dress")
    assert gallery.words_space() is None


def test_whether_a_space_understands_words_is_written_down(both, photos):
    with Gallery(photos) as opened:  # nothing is loaded, and nothing can be: these models are in no zoo
        assert opened.words_space().name == "fake-reader"
        assert opened._models._loaded == {}
        assert opened.space_of("red").name == "fake-reader"


def test_a_model_that_is_gone_is_said_as_ever(both, photos):
    with Gallery(photos) as opened, pytest.raises(Exception, match="fake-reader"):
        opened.search("red")


def test_addresses_can_be_forbidden(words):
    with pytest.raises(AddressError, match="download it and search with the file"):
        words.search("https://example.org/cat.jpg", addresses="none")
    with pytest.raises(AddressError, match="this machine itself"):
        words.search("http://127.0.0.1:1/cat.jpg")
    with pytest.raises(UsageError, match="public, any, none"):
        words.search("red", addresses="some")


def test_a_gallery_that_is_offline_fetches_nothing(photos, words):
    with Gallery(photos, offline=True) as opened, pytest.raises(AddressError, match="offline"):
        opened.search("https://example.org/cat.jpg")


# -- two spaces


def test_two_spaces_are_searched_together(both, photos):
    query = photos / "red" / "red-1.png"
    one, other = (
        {match.id: match.score for match in both.search(query, k=7, space=name)}
        for name in ("fake-small", "fake-reader")
    )
    found = both.search(query, k=7, also="fake-reader", balance=0.25)

    def standard(scores):
        values = np.array(list(scores.values()))
        return {number: (score - values.mean()) / values.std() for number, score in scores.items()}

    a, b = standard(one), standard(other)
    for match in found:
        assert match.score == pytest.approx(0.75 * a[match.id] + 0.25 * b[match.id], abs=1e-4)
    assert found[0].path == query
    ranks = both.search(query, k=7, also="fake-reader", fusion="ranks")
    assert ranks[0].score == pytest.approx(1)


def test_the_ends_of_the_balance_are_searches_in_one_space(both, photos):
    query = photos / "red" / "red-1.png"
    for balance, name in ((0, "fake-small"), (1, "fake-reader")):
        assert both.search(query, also="fake-reader", balance=balance) == both.search(query, space=name)
    with pytest.raises(TextUnsupportedError):
        both.search("red", also="fake-reader", balance=0)


def test_words_take_part_where_they_are_understood(both, photos, monkeypatch):
    monkeypatch.chdir(photos / "red")
    said = []
    found = both.search("red-0.png + 'dark'", also="fake-reader", k=7, report=said.append)
    assert said == ["space 'fake-small' knows pictures only: there, the words take no part"]
    assert len(found) == 7
    said.clear()
    only = both.search("red", also="fake-reader", report=said.append)
    assert said == ["space 'fake-small' knows pictures only: the words are searched in 'fake-reader' alone"]
    assert only == both.search("red")
    assert both.search("red", space="fake-reader", also="fake-small") == only


def test_images_of_one_space_only_are_found_and_counted(both, model, draw, photos):
    draw(photos / "green" / "new.png", 99)
    both.index(model=model)
    said = []
    found = both.search(photos / "green" / "new.png", also="fake-reader", k=8, report=said.append)
    assert found[0].path.name == "new.png"
    assert len(found) == 8
    assert len(said) == 1
    assert said[0].startswith("1 image has no vector in space 'fake-reader': average is assumed there; fill it with")


def test_a_filter_and_leaving_out_hold_in_two_spaces_too(both, photos):
    query = photos / "red" / "red-1.png"
    found = both.search(query, also="fake-reader", where="label:red", exclude_query=True)
    assert {match.path.name for match in found} == {"red-0.png", "red-2.png"}
    assert both.search(query, also="fake-reader", where="label:green") == []


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"also": "fake-small"}, UsageError, "both are 'fake-small'"),
        ({"also": "nope"}, GalleryMismatchError, "no space 'nope'"),
        ({"also": "fake-reader", "balance": 1.5}, UsageError, "between 0"),
        ({"also": "fake-reader", "balance": float("nan")}, UsageError, "between 0"),
        ({"also": "fake-reader", "fusion": "votes"}, UsageError, "scores, ranks"),
        ({"k": 0}, UsageError, "at least 1"),
        ({"kk": 3}, TypeError, "kk"),
    ],
)
def test_options_that_cannot_be_are_refused(both, photos, options, error, said):
    with pytest.raises(error, match=said):
        both.search(photos / "red" / "red-1.png", **options)


def test_a_vector_fits_one_space_only(both):
    with pytest.raises(UsageError):
        both.search(np.ones((3, 3, 3)))


def test_a_vector_for_each_space_is_compared_in_its_own(both, photos):
    picture = photos / "red" / "red-2.png"
    first, second = both.space(1), both.space(2)
    vectors = {space.id: both.model_of(space.id).embed([picture])[0] for space in (first, second)}
    query = Expression((Term(1, "vector", vectors),))
    for space in (first, second):
        alone = both.search(vectors[space.id], space=space.id, k=3)
        assert [match.id for match in both.search(query, space=space.id, k=3)] == [match.id for match in alone]
    together = both.search(picture, also=second.id, k=5)
    assert [match.id for match in both.search(query, also=second.id, k=5)] == [match.id for match in together]
    with pytest.raises(GalleryMismatchError, match="not made for space"):
        both.search(Expression((Term(1, "vector", {second.id: vectors[second.id]}),)), space=first.id)


def test_queries_from_elsewhere_neither_name_files_nor_tell_which_there_are(words, photos, monkeypatch):
    monkeypatch.chdir(photos)
    monkeypatch.setattr("os.path.isfile", lambda name: pytest.fail(f"looked for {name}"))
    said = []
    words.search(parse('"red/red-2.png" + red', files=False), files=False, report=said.append)
    assert said == []
    with pytest.raises(UsageError, match="files cannot be named here"):
        words.search(Expression((Term(1, "file", "red/red-2.png"),)), files=False)
