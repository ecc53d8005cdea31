"""The API for programs."""

import json

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile

from tests.hostile.images import png_of_zeros
from tests.web.conftest import KINDS, PER_KIND, draw, png
from tests.web.test_page import an_id
from vitseek.errors import BusyError
from vitseek.gallery.gallery import Gallery

SEARCH = "/api/v1/search"


def picture(content: bytes | None = None, name: str = "query.png") -> SimpleUploadedFile:
    return SimpleUploadedFile(name, png(draw((40, 80, 190), 99)) if content is None else content)


def test_a_search_by_upload_gives_what_the_gallery_gives(client, gallery):
    image = gallery.image(an_id(gallery, "moss", 2))
    content = image.path.read_bytes()
    answer = client.post(SEARCH, {"image": picture(content, "leaf.jpg"), "k": 7})
    assert answer.status_code == 200
    body = answer.json()
    wanted = gallery.search(content, k=7)
    assert [row["image"]["id"] for row in body["results"]] == [match.id for match in wanted]
    assert [row["score"] for row in body["results"]] == pytest.approx([match.score for match in wanted], abs=1e-6)
    assert [row["rank"] for row in body["results"]] == [1, 2, 3, 4, 5, 6, 7]
    term = {"kind": "upload", "weight": 1, "name": "leaf.jpg", "words": None, "image_id": None}
    assert body["query"] == {
        "image": None,
        "name": "leaf.jpg",
        "width": image.width,
        "height": image.height,
        "terms": [term],
    }
    assert body["model"] == "colours"
    assert body["gallery_images"] == len(KINDS) * PER_KIND + 1


def test_a_search_by_id_leaves_the_image_out_unless_asked(client, gallery):
    query = an_id(gallery, "sea")
    without = client.post(SEARCH, {"image_id": query, "k": 3}).json()
    within = client.post(SEARCH, {"image_id": query, "k": 3, "exclude_query": "false"}).json()
    assert query not in [row["image"]["id"] for row in without["results"]]
    assert within["results"][0]["image"]["id"] == query
    assert within["results"][0]["score"] == pytest.approx(1.0, abs=1e-5)
    assert without["query"]["image"]["id"] == query


def test_a_filter_narrows_the_search(client, gallery):
    body = client.post(SEARCH, {"image": picture(), "where": "label=moss or name:*odd*", "k": 50}).json()
    assert len(body["results"]) == PER_KIND + 1


def test_addresses_in_an_answer_lead_to_pictures(client, gallery):
    image = client.get(f"/api/v1/images/{an_id(gallery, 'sea')}").json()
    assert image["labels"] == ["sea"]
    assert image["path"] == "sea/sea-0.jpg"
    for name in ("thumbnail", "preview", "original"):
        response = client.get(image[name])
        assert response.status_code == 200
        assert "immutable" in response["Cache-Control"]
        response.close()


def test_names_that_are_not_unicode_are_json_all_the_same(client, gallery):
    odd = next(record for record in gallery.images() if "odd" in record.relative_path)
    content = client.get(f"/api/v1/images/{odd.id}").content
    assert json.loads(content)["path"] == 'odd "quoted" \\xff \U0001f431 <b>.png'


@pytest.mark.parametrize(
    ("fields", "status", "says"),
    [
        ({}, 422, "nothing came"),
        ({"image": "picture", "image_id": 1}, 422, "both came"),
        ({"image_id": 999_999}, 404, "no such image"),
        ({"image_id": -1}, 422, "image_id"),
        ({"image_id": 2**63}, 422, "image_id"),
        ({"image_id": "../x"}, 422, "image_id"),
        ({"image_id": 1, "k": 0}, 422, "k: "),
        ({"image_id": 1, "k": 201}, 422, "k: "),
        ({"image_id": 1, "where": "colour:red"}, 422, "The filter cannot be understood."),
        ({"image_id": 1, "where": "x" * 501}, 422, "where"),
        ({"image": b"no picture at all", "name": "notes.jpg"}, 400, "“notes.jpg” cannot be read as an image."),
        ({"image": b"", "name": "empty.jpg"}, 400, "“empty.jpg” is empty"),
        ({"image": png_of_zeros(20_000, 20_000)}, 413, "too many pixels"),
        ({"image": bytes(300_001)}, 413, "too large"),
        ({"image": bytes(900_001)}, 413, "too large"),
    ],
)
def test_a_mistake_is_json_with_the_fitting_status(client, fields, status, says):
    fields = dict(fields)
    name = fields.pop("name", "query.png")
    if "image" in fields:
        fields["image"] = picture(None if fields["image"] == "picture" else fields["image"], name)
    response = client.post(SEARCH, fields)
    assert response.status_code == status
    assert set(response.json()) <= {"error", "position", "hint"}
    assert says in response.json()["error"]


def test_errors_speak_the_language_that_is_asked_for(client):
    response = client.post(SEARCH, {"image_id": 999_999}, headers={"accept-language": "zh-CN,zh;q=0.9"})
    assert response.json()["error"].startswith("图库中没有这张图片")


def test_unknown_addresses_ids_and_methods_are_json_too(client):
    assert client.get("/api/v1/images/999999").json()["error"].startswith("The gallery has no such image")
    for path in ("/api/v1/nothing", "/api/v1/images/abc", "/api/v2/search"):
        response = client.get(path)
        assert response.status_code == 404
        assert list(response.json()) == ["error"]
    assert client.put(SEARCH).status_code == 405


def test_a_full_waiting_line_is_429_with_a_time_to_wait(client, site, monkeypatch):
    def full():
        raise BusyError("full")

    monkeypatch.setattr(site.embedding, "enter", full)
    response = client.post(SEARCH, {"image": picture()})
    assert response.status_code == 429
    assert response["Retry-After"] == "3"


def test_an_unexpected_error_is_json_without_details(client, monkeypatch):
    def broken(*args, **kwargs):
        raise ZeroDivisionError("secret detail")

    monkeypatch.setattr(Gallery, "search", broken)
    response = client.post(SEARCH, {"image_id": 1})
    assert response.status_code == 500
    assert list(response.json()) == ["error"]
    assert "secret" not in response.json()["error"]


def test_a_program_does_not_take_the_places_of_the_pages_queries(client, site):
    client.post(SEARCH, {"image": picture()})
    assert not site.held._held


def test_openapi_describes_what_there_is(client):
    document = client.get("/api/v1/openapi.json").json()
    assert set(document["paths"]) == {"/api/v1/search", "/api/v1/spaces", "/api/v1/images/{image_id}"}
    form = document["paths"]["/api/v1/search"]["post"]["requestBody"]["content"]["multipart/form-data"]["schema"]
    fields = {"q", "image_id", "k", "where", "exclude_query", "space", "also", "balance", "fusion"}
    assert {"image", *fields} == set(form["properties"])
    assert {one["name"] for one in document["paths"]["/api/v1/search"]["get"]["parameters"]} == fields
    answers = document["paths"]["/api/v1/search"]["post"]["responses"]
    assert {"200", "400", "404", "413", "422", "429"} <= set(answers)


def test_there_is_no_documentation_page_that_loads_scripts_from_elsewhere(client):
    assert client.get("/api/v1/docs").status_code == 404
