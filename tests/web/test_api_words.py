"""The API by words, by combinations and in two spaces."""

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile

from tests.web.conftest import DRAWN_PER_KIND, draw, png
from tests.web.test_words import id_of
from vitseek.errors import BusyError
from vitseek.search.query import MAX_TERMS, Expression, Term

SEARCH = "/api/v1/search"


def ids(answer) -> list[int]:
    assert answer.status_code == 200, answer.json()
    return [row["image"]["id"] for row in answer.json()["results"]]


def test_words_find_images_by_get_and_by_post(reader, two_spaces):
    got = reader.get(SEARCH, {"q": "a snowman", "k": 5})
    wanted = two_spaces.search("a snowman", k=5)
    assert ids(got) == ids(reader.post(SEARCH, {"q": "a snowman", "k": 5})) == [match.id for match in wanted]
    body = got.json()
    assert [row["image"]["labels"] for row in body["results"][:DRAWN_PER_KIND]] == [["snowman"]] * DRAWN_PER_KIND
    assert body["spaces"] == ["tiny-clip"]
    assert body["model"] == "tiny-clip"
    assert body["query"]["terms"] == [
        {"kind": "words", "weight": 1, "words": "a snowman", "image_id": None, "name": None}
    ]
    assert [row["score"] for row in body["results"]] == pytest.approx([match.score for match in wanted], abs=1e-6)


def test_a_combination_tells_how_it_was_understood(reader, two_spaces):
    cat = id_of(two_spaces, "cat")
    body = reader.get(SEARCH, {"q": f"image:{cat} - .5 “a house” + 0 'snow'"}).json()
    assert [(term["kind"], term["weight"]) for term in body["query"]["terms"]] == [
        ("image", 1),
        ("words", -0.5),
        ("words", 0),
    ]
    assert body["query"]["terms"][0]["name"] == "cat-01.jpg"
    assert any("takes no part" in note for note in body["notes"])


def test_an_image_and_words_join(reader, two_spaces):
    cat = id_of(two_spaces, "cat")
    joined = reader.get(SEARCH, {"image_id": cat, "q": '2 "a snowman"'})
    assert ids(joined) == [m.id for m in two_spaces.search(f'image:{cat} + 2 "a snowman"', exclude_query=True)]
    within = reader.get(SEARCH, {"image_id": cat, "q": '2 "a snowman"', "exclude_query": "false", "k": 36})
    assert cat in ids(within)


def test_an_upload_and_words_join(reader, two_spaces, reading_site):
    picture = png(draw((40, 80, 190), 5))
    answer = reader.post(SEARCH, {"image": SimpleUploadedFile("sea.png", picture), "q": '- 0.5 "a fish"'})
    wanted = two_spaces.search(Expression((Term(1, "picture", picture), Term(-0.5, "text", "a fish"))))
    assert ids(answer) == [match.id for match in wanted]
    assert [term["kind"] for term in answer.json()["query"]["terms"]] == ["upload", "words"]
    assert answer.json()["query"]["name"] == "sea.png"
    assert not reading_site.held._held


def test_two_spaces_are_named_and_weighed(reader, two_spaces):
    picture = png(draw((40, 80, 190), 5))
    for fusion in ("scores", "ranks"):
        fields = {"space": "vitseek-tiny", "also": "tiny-clip", "balance": 0.3, "fusion": fusion, "k": 7}
        answer = reader.post(SEARCH, {"image": SimpleUploadedFile("sea.png", picture), **fields})
        assert ids(answer) == [match.id for match in two_spaces.search(picture, **fields)]
        assert answer.json()["spaces"] == ["vitseek-tiny", "tiny-clip"]
    words = reader.get(SEARCH, {"q": "a snowman", "space": "vitseek-tiny", "also": "tiny-clip"})
    assert words.json()["spaces"] == ["tiny-clip"]
    assert any("searched in 'tiny-clip' alone" in note for note in words.json()["notes"])


def test_the_spaces_are_listed_the_default_one_first(reader, client):
    facts = [(one["name"], one["default"], one["words"], one["images"]) for one in reader.get("/api/v1/spaces").json()]
    count = 12 * DRAWN_PER_KIND
    assert facts == [("vitseek-tiny", True, False, count), ("tiny-clip", False, True, count)]
    assert [one["words"] for one in client.get("/api/v1/spaces").json()] == [False]


def test_predicted_labels_come_with_probability_and_source(reader, two_spaces):
    image = reader.get(f"/api/v1/images/{id_of(two_spaces, 'cat')}").json()
    assert image["labels"] == ["cat"]
    assert image["predictions"] == [{"label": "kitten", "probability": pytest.approx(0.871), "source": "zero-shot"}]


@pytest.mark.parametrize(
    ("query", "position", "hint"),
    [('image:1 + "at night', 10, "Add the closing"), ("red + + blue", 6, "go in quotes"), ("image:x", 6, "image:12")],
)
def test_a_query_that_does_not_parse_names_the_place(reader, query, position, hint):
    answer = reader.get(SEARCH, {"q": query})
    assert answer.status_code == 422
    assert answer.json()["position"] == position
    assert hint in answer.json()["hint"]
    assert answer.json()["error"].startswith("The query cannot be understood.")


def test_a_filter_that_does_not_parse_names_the_place(reader):
    assert reader.get(SEARCH, {"q": "a cat", "where": "width>>3"}).json()["position"] == 6


@pytest.mark.parametrize(
    ("fields", "status", "says"),
    [
        ({}, 422, "nothing came"),
        ({"q": "   "}, 422, "nothing came"),
        ({"q": "x" * 1001}, 422, "q: "),
        ({"q": "+".join('"a" ' for _ in range(3))}, 422, "stands too close"),
        ({"q": " + ".join(f'"{n}"' for n in range(MAX_TERMS + 1))}, 422, f"more than {MAX_TERMS} things"),
        ({"q": "a cat", "balance": 0.5}, 422, "name the second one in 'also'"),
        ({"q": "a cat", "also": "tiny-clip", "balance": 1.5}, 422, "balance"),
        ({"q": "a cat", "also": "tiny-clip", "balance": "nan"}, 422, "balance"),
        ({"q": "a cat", "also": "tiny-clip", "fusion": "magic"}, 422, "fusion"),
        ({"image_id": 1, "also": "vitseek-tiny"}, 422, "both are 'vitseek-tiny'"),
        ({"q": "a cat", "space": "nowhere"}, 422, "has no space 'nowhere'"),
        ({"q": "a cat", "space": "vitseek-tiny"}, 422, "space 'tiny-clip' of this gallery understands words."),
        ({"q": "file:cat.jpg"}, 422, "files cannot be named here"),
        ({"q": "upload:abc"}, 410, "not held any more"),
        ({"q": "image:99999"}, 404, "no such image"),
        ({"q": "https://example.org/a.jpg"}, 403, "--allow-addresses"),
    ],
)
def test_a_mistake_is_json_with_the_fitting_status(reader, fields, status, says):
    answer = reader.get(SEARCH, fields)
    assert answer.status_code == status
    assert says in answer.json()["error"]
    assert "--space" not in answer.json()["error"], "advice for the command line"


def test_a_gallery_without_words_answers_how_to_add_them(client, gallery):
    answer = client.get(SEARCH, {"q": "a cat"})
    assert answer.status_code == 422
    assert "vitseek index GALLERY --model clip-vit-b32" in answer.json()["error"]
    assert str(gallery.path) not in answer.json()["error"]


def test_words_wait_at_the_door_of_uploads(reader, reading_site, monkeypatch):
    def full():
        raise BusyError("full")

    monkeypatch.setattr(reading_site.embedding, "enter", full)
    answer = reader.get(SEARCH, {"q": "a cat"})
    assert answer.status_code == 429
    assert answer["Retry-After"] == "3"
    assert reader.get(SEARCH, {"image_id": 1}).status_code == 200


def test_errors_speak_chinese_to_who_reads_it(reader):
    answer = reader.get(SEARCH, {"q": '"x'}, headers={"accept-language": "zh-CN"})
    assert answer.json()["error"].startswith("无法理解这个查询。")
