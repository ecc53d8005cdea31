"""Search by words, by combinations and in two spaces: the page and its parts."""

import html
import re
from dataclasses import replace
from types import SimpleNamespace
from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.web.conftest import DRAWN_PER_KIND, OPTIONS, Browser, draw, png
from tests.web.test_page import alert_of, text_of, tiles, upload
from vitseek.errors import BusyError
from vitseek.gallery.gallery import Gallery
from vitseek.search.query import MAX_TERMS
from vitseek.web.site import Site


def id_of(gallery: Gallery, kind: str, number: int = 0) -> int:
    return list(gallery.images(f"label={kind}"))[number].id


def kinds(gallery: Gallery, response, count: int = DRAWN_PER_KIND) -> list[str]:
    return [gallery.image(number).labels[0] for number in tiles(response)[:count]]


def parts(response) -> list[tuple[str, str]]:
    """What the query holds, as the page shows it: names and weights."""
    page = response.content.decode()
    names = re.findall(r'<span class="what"[^>]*>(.*?)</span>', page)
    weights = re.findall(r"<output>(.*?)</output>", page)
    return [(re.sub(r"<[^>]*>", "", html.unescape(name)), weight) for name, weight in zip(names, weights, strict=True)]


def link(response, marker: str, number: int = 0) -> str:
    return html.unescape(re.findall(rf'href="([^"]+)"[^>]*{marker}', response.content.decode())[number])


def asked(address: str) -> dict[str, str]:
    return {name: values[0] for name, values in parse_qs(urlsplit(address).query).items()}


@pytest.mark.parametrize("kind", ["snowman", "city", "butterfly"])
def test_words_find_the_pictures_that_show_it(reader, two_spaces, kind):
    response = reader.get("/", {"q": f"a {kind}"})
    assert response.status_code == 200
    assert kinds(two_spaces, response) == [kind] * DRAWN_PER_KIND
    assert "10 best matches" in text_of(response)
    assert f"<title>a {kind} · vitseek</title>" in response.content.decode()
    assert f'value="a {kind}" maxlength' in response.content.decode()


def test_the_page_of_a_gallery_that_reads_words_asks_for_them(reader):
    text = text_of(reader.get("/"))
    assert "Find images" in text
    assert "Why can I not type words?" not in text


def test_a_gallery_without_words_says_which_command_adds_them(client, gallery):
    response = client.get("/", {"q": "a cat"})
    assert response.status_code == 422
    message = alert_of(response)
    assert message.startswith("This gallery does not read words yet.")
    assert f"vitseek index '{gallery.path}' --model clip-vit-b32" in message
    assert 'value="a cat" maxlength' in response.content.decode()
    assert "Why can I not type words?" in text_of(client.get("/"))


def test_others_than_this_machine_do_not_learn_the_gallerys_folder_from_it(gallery, tmp_path):
    remote = Site.over(gallery, replace(OPTIONS, host="0.0.0.0", allow_remote=True), thumbnails=tmp_path)
    message = alert_of(Browser(remote).get("/", {"q": "a cat"}))
    assert "vitseek index GALLERY --model clip-vit-b32" in message
    assert str(gallery.path) not in message


def test_pictures_combine_also_where_no_words_are_understood(client, gallery):
    first, second, *_ = (record.id for record in gallery.images())
    response = client.get("/", {"q": f"image:{first} + image:{second}"})
    wanted = gallery.search(f"image:{first} + image:{second}", exclude_query=True)
    assert tiles(response) == [match.id for match in wanted]


def test_a_combination_gives_what_the_gallery_gives_and_shows_its_parts(reader, two_spaces):
    cat = id_of(two_spaces, "cat")
    query = f'image:{cat} + 2 "a snowman" - 0.5 "a house"'
    response = reader.get("/", {"q": query, "k": 7})
    wanted = two_spaces.search(query, k=7, exclude_query=True)
    assert tiles(response) == [match.id for match in wanted]
    assert cat not in tiles(response)
    assert parts(response) == [("cat-01.jpg", "1"), ("a snowman", "2"), ("a house", "−0.5")]


def test_a_card_adds_its_image_to_the_query_or_takes_it_away_from_it(reader, two_spaces):
    response = reader.get("/", {"q": "a cat", "k": 5})
    third = tiles(response)[2]
    assert asked(link(response, "data-add-more", 2)) == {"q": f'"a cat" + image:{third}', "k": "5"}
    less = link(response, "data-add-less", 2)
    assert asked(less) == {"q": f'"a cat" - 0.5 image:{third}', "k": "5"}
    page = reader.get(less)
    assert parts(page) == [("a cat", "1"), (two_spaces.image(third).path.name, "−0.5")]
    assert page.content.decode().count('class="part minus"') == 1


def test_an_image_that_is_part_of_the_query_is_not_added_twice(reader, two_spaces):
    cat = id_of(two_spaces, "cat")
    page = reader.get(f"/images/{cat}", {"q": f'"a cat" - 0.5 image:{cat}'})
    assert asked(link(page, "data-nav>\\+")) == {"q": f'"a cat" + image:{cat}'}
    assert "Less like this" not in text_of(page)


def test_details_offer_the_ways_on_only_within_a_search(reader, two_spaces):
    cat = id_of(two_spaces, "cat")
    alone = text_of(reader.get(f"/images/{cat}"))
    assert "More like this" in alone
    assert "Add to query" not in alone
    assert f"image:{cat}" in alone
    within = reader.get(f"/images/{cat}", {"q": "at night", "k": 5})
    assert asked(link(within, "data-nav>−")) == {"q": f'"at night" - 0.5 image:{cat}', "k": "5"}
    assert asked(link(within, "data-search")) == {"image": str(cat), "k": "5"}


def test_new_weights_lead_to_the_address_that_says_them(reader, two_spaces):
    response = reader.get("/", {"q": 'a cat + "snow"', "w": ["0.5", "-1.25"], "k": 20})
    assert response.status_code == 302
    assert asked(response["Location"]) == {"q": '0.5 "a cat" - 1.25 "snow"', "k": "20"}


@pytest.mark.parametrize("weights", [["1"], ["1", "2", "3"], ["1", "x"], ["1", "nan"], ["1", "inf"], ["1", "1e9"]])
def test_weights_that_do_not_fit_are_refused(reader, weights):
    response = reader.get("/", {"q": 'a cat + "snow"', "w": weights})
    assert response.status_code == 422
    assert alert_of(response) == "The weights do not fit the query."


def test_weights_that_are_all_zero_are_refused_with_a_reason(reader):
    response = reader.get("/", {"q": "a cat", "w": ["0"]})
    assert response.status_code == 422
    assert "every weight is 0" in alert_of(response)


def test_a_part_can_be_removed_and_the_last_one_leads_to_the_start(reader, two_spaces):
    cat = id_of(two_spaces, "cat")
    response = reader.get("/", {"q": f'image:{cat} - 0.5 "snow"'})
    assert asked(link(response, 'aria-label="Remove snow from the query"')) == {"image": str(cat)}
    assert link(response, 'aria-label="Remove cat-01.jpg from the query"') == "/?q=-+0.5+%22snow%22"
    only = reader.get("/", {"q": '- "snow"'})
    assert link(only, 'aria-label="Remove snow from the query"') == "/"


@pytest.mark.parametrize(
    ("sign", "wanted"), [("+", 'image:1 + "at night"'), ("-", 'image:1 - 0.5 "at night"'), ("", 'image:1 + "at night"')]
)
def test_words_are_added_to_a_picture(reader, sign, wanted):
    response = reader.get("/", {"image": 1, "plus": " at night ", "sign": sign})
    assert response.status_code == 302
    assert asked(response["Location"]) == {"q": wanted}


def test_added_words_are_words_whatever_they_hold(reader):
    response = reader.get("/", {"q": "a cat", "plus": 'image:3 + "x'})
    assert asked(response["Location"])["q"] == '"a cat" + "image:3 + \\"x"'
    assert parts(reader.get(response["Location"]))[1][0] == 'image:3 + "x'


def test_a_picture_and_words_search_together(reader, reading_site, two_spaces):
    answer = upload(reader, png(draw((40, 80, 190), 5)), "sea.png", q='"at night" - 0.5 "snow"')
    assert answer.status_code == 303
    token = re.fullmatch(r'upload:(\w+) \+ "at night" - 0.5 "snow"', asked(answer["Location"])["q"])[1]
    page = reader.get(answer["Location"])
    assert parts(page) == [("sea.png", "1"), ("at night", "1"), ("snow", "−0.5")]
    assert f'src="/queries/{token}/preview"' in page.content.decode()
    assert len(tiles(page)) == 10
    assert set(reading_site.held.get(token).vectors) == {space.id for space in two_spaces.status().spaces}


def test_a_picture_takes_the_place_of_a_query_that_was_left_as_it_was(reader):
    answer = upload(reader, png(draw((40, 80, 190), 5)), q="a cat", shown="a cat", k="5")
    assert set(asked(answer["Location"])) == {"query", "k"}


def test_words_can_be_sent_without_scripts(reader):
    answer = reader.post("/search", {"q": "a cat", "shown": "", "k": "5", "where": "width>10"})
    assert answer.status_code == 303
    assert asked(answer["Location"]) == {"q": "a cat", "k": "5", "where": "width>10"}


def test_a_query_that_does_not_parse_is_shown_with_its_place(reader):
    response = reader.get("/", {"q": 'image:1 + "at night'})
    assert response.status_code == 422
    assert alert_of(response).startswith("The query cannot be understood.")
    assert "image:1 + <mark>&quot;</mark>at night" in response.content.decode()
    assert re.search(r'value="image:1 \+ &quot;at night"[^>]*aria-invalid="true"', response.content.decode())


def test_an_upload_with_a_query_that_does_not_parse_is_not_embedded(reader, reading_site):
    response = upload(reader, png(draw((40, 80, 190), 5)), q="red + + blue")
    assert response.status_code == 422
    assert "two signs in a row" in alert_of(response)
    assert not reading_site.held._held


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"q": "x" * 1001}, "The query is too long: at most 1000 characters."),
        ({"q": " + ".join(f'"{n}"' for n in range(MAX_TERMS + 1))}, "The query cannot be understood."),
        ({"q": "a cat", "balance": "1.5"}, "The balance of two spaces must be between 0 and 1."),
        ({"q": "a cat", "balance": "nan"}, "The balance of two spaces must be between 0 and 1."),
        ({"q": "a cat", "fusion": "magic"}, "Two spaces are fused by scores or by ranks."),
        ({"q": "a cat", "space": "nowhere"}, "The search does not fit the gallery's spaces."),
        ({"q": "a cat", "space": "vitseek-tiny"}, "The search does not fit the gallery's spaces. The model of space"),
        ({"q": "a\x07b"}, "The query cannot be understood."),
        ({"q": "a cat", "plus": "x" * 1001}, "The query is too long: at most 1000 characters."),
    ],
)
def test_what_is_out_of_range_is_refused(reader, fields, says):
    response = reader.get("/", fields)
    assert response.status_code == 422
    assert alert_of(response).startswith(says)


def test_nothing_can_be_added_to_a_full_query(reader, two_spaces):
    full = " + ".join(f'"{number} cats"' for number in range(MAX_TERMS))
    page = reader.get("/", {"q": full})
    assert page.status_code == 200
    assert "data-add-more" not in page.content.decode()
    assert 'name="plus"' not in page.content.decode()
    response = upload(reader, png(draw((40, 80, 190), 5)), q=full)
    assert response.status_code == 422
    assert f"more than {MAX_TERMS} things" in alert_of(response)


# What a query from the web may not do


def test_the_name_of_a_file_of_the_server_is_words(reader, two_spaces, monkeypatch):
    folder = two_spaces.path
    monkeypatch.chdir(folder)
    (folder / "snowman picture").write_bytes((folder / "cat" / "cat-01.jpg").read_bytes())
    try:
        for query in ("snowman picture", '"snowman picture"', "cat/cat-01 + snowman"):
            response = reader.get("/", {"q": query})
            assert response.status_code == 200
            assert kinds(two_spaces, response, 1) == ["snowman"]
            assert "there is a file" not in text_of(response)
    finally:
        (folder / "snowman picture").unlink()


@pytest.mark.parametrize("query", ["/etc/passwd", "cat/cat-01.jpg", "file:cat/cat-01.jpg", "~/x", "..", "C:\\x.png"])
def test_a_path_is_refused_whether_or_not_there_is_such_a_file(reader, drawn, monkeypatch, query):
    monkeypatch.chdir(drawn)
    response = reader.get("/", {"q": query})
    assert response.status_code == 422
    assert "files cannot be named here" in alert_of(response)


def test_addresses_are_refused_unless_the_server_was_told_otherwise(reader, two_spaces, tmp_path, monkeypatch):
    monkeypatch.setattr("socket.getaddrinfo", lambda *_args, **_options: pytest.fail("asked the network"))
    response = reader.get("/", {"q": "https://example.org/cat.jpg + snow"})
    assert response.status_code == 403
    assert alert_of(response).startswith("This server fetches no pictures from addresses.")
    api = reader.get("/api/v1/search", {"q": "https://example.org/cat.jpg"})
    assert api.status_code == 403


def test_allowed_addresses_may_not_lead_into_this_machine(two_spaces, tmp_path):
    allowing = Site.over(two_spaces, replace(OPTIONS, allow_addresses=True), thumbnails=tmp_path)
    response = Browser(allowing).get("/", {"q": "http://127.0.0.1:9/cat.jpg"})
    assert response.status_code == 422
    assert alert_of(response).startswith("No picture can be had from this address.")
    assert alert_of(response).endswith("this machine itself; only the public internet is asked.")


def test_a_picture_from_an_allowed_address_is_searched_like_an_upload(two_spaces, tmp_path, monkeypatch):
    picture = png(draw((40, 80, 190), 5))
    asked_for = []

    def fetch(address: str, *, allow_private: bool, **_limits: object) -> SimpleNamespace:
        asked_for.append((address, allow_private))
        return SimpleNamespace(data=picture)

    monkeypatch.setattr("vitseek.download.fetch.fetch_picture", fetch)
    allowing = Site.over(two_spaces, replace(OPTIONS, allow_addresses=True), thumbnails=tmp_path)
    response = Browser(allowing).get("/", {"q": "https://example.org/sea/blue.png?size=2"})
    assert tiles(response) == [match.id for match in two_spaces.search(picture)]
    assert parts(response) == [("blue.png", "1")]
    assert asked_for == [("https://example.org/sea/blue.png?size=2", False)]


def test_pictures_from_addresses_are_held_to_what_uploads_are_held_to(two_spaces, tmp_path, monkeypatch):
    picture, limits = png(draw((40, 80, 190), 5)), []

    def fetch(address: str, *, allow_private: bool, **given: float) -> SimpleNamespace:
        limits.append(given)
        return SimpleNamespace(data=picture)

    monkeypatch.setattr("vitseek.download.fetch.fetch_picture", fetch)
    options = replace(OPTIONS, allow_addresses=True, upload_limit_bytes=70_001, limit_pixels=1_009)
    allowing = Site.over(two_spaces, options, thumbnails=tmp_path)
    assert Browser(allowing).get("/", {"q": "http://a.example + 2 http://b.example"}).status_code == 200
    assert limits == [{"limit_bytes": 70_001, "limit_pixels": 1_009, "deadline_s": 10.0}] * 2


def test_words_go_through_the_door_of_uploads_and_pictures_of_the_gallery_do_not(reader, reading_site, monkeypatch):
    def full():
        raise BusyError("full")

    monkeypatch.setattr(reading_site.embedding, "enter", full)
    response = reader.get("/", {"q": "a cat"})
    assert response.status_code == 429
    assert response["Retry-After"] == "3"
    assert reader.get("/", {"image": 1}).status_code == 200
    assert reader.get("/", {"q": "image:1 + image:2"}).status_code == 200


def test_an_upload_that_is_gone_is_said_for_a_combination_too(reader):
    response = reader.get("/", {"q": 'upload:abc123 + "at night"'})
    assert response.status_code == 410
    assert "not held any more" in alert_of(response)


PIECES = ["image:1", "image:99999", '"', "'", " + ", " - ", "0.5 ", "upload:a", "http://x", "file:x", "\\", "雪", "<b>"]


@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.sampled_from(PIECES) | st.text(max_size=5), min_size=1, max_size=7).map("".join))
def test_no_query_breaks_the_page_or_the_api(reader, query):
    for address in ("/", "/api/v1/search"):
        response = reader.get(address, {"q": query})
        assert response.status_code in (200, 403, 404, 410, 422), (address, query)
        if address == "/" and response.status_code == 200 and query.strip():
            typed = re.search(r'<input id="q" [^>]* value="([^"]*)"', response.content.decode())[1]
            assert html.unescape(typed) == query.strip()
            assert "<b>" not in response.content.decode()


# Two spaces


def slider(response) -> str | None:
    found = re.search(r'name="balance" min="0" max="1" step="0.05" value="([^"]+)"', response.content.decode())
    return found and found[1]


def test_the_slider_is_shown_only_with_two_spaces(client, reader):
    assert slider(client.get("/", {"image": 1})) is None
    assert slider(reader.get("/", {"image": 1})) == "0"
    assert "looks like" in text_of(reader.get("/", {"image": 1}))


def test_the_slider_stands_where_the_search_is(reader, two_spaces):
    assert slider(reader.get("/", {"q": "image:1 + snow"})) == "1"
    assert slider(reader.get("/", {"q": "image:1 + snow", "balance": "0.35"})) == "0.35"
    words = reader.get("/", {"q": "snow", "balance": "0.35"})
    assert slider(words) == "1"
    assert "Words have a meaning but no looks" in text_of(words)


@pytest.mark.parametrize(("balance", "space"), [("0", 1), ("1", 2)])
def test_the_ends_of_the_slider_are_the_two_spaces(reader, two_spaces, balance, space):
    found = tiles(reader.get("/", {"image": 5, "balance": balance}))
    assert found == [match.id for match in two_spaces.search(5, space=space, exclude_query=True)]


def test_between_its_ends_both_spaces_count(reader, two_spaces):
    for fusion in ("", "ranks"):
        found = tiles(reader.get("/", {"image": 5, "balance": "0.5", "fusion": fusion}))
        wanted = two_spaces.search(5, also=2, balance=0.5, exclude_query=True, fusion=fusion or "scores")
        assert found == [match.id for match in wanted]


def test_the_balance_stays_in_every_way_on(reader):
    page = reader.get("/", {"q": "image:5 + snow", "balance": "0.3"})
    for marker in ("data-add-more", "data-add-less", 'aria-label="Remove snow'):
        assert asked(link(page, marker))["balance"] == "0.3"
    assert asked(reader.get("/", {"q": "image:5 + snow", "balance": "0.3", "w": ["1", "2"]})["Location"]) == {
        "q": 'image:5 + 2 "snow"',
        "balance": "0.3",
    }
    answer = upload(reader, png(draw((1, 2, 3), 4)), q="snow", balance="0.3")
    assert asked(answer["Location"])["balance"] == "0.3"


def test_what_the_slider_shows_is_not_said_again(reader):
    for fields in ({"q": "snow"}, {"q": "image:5 + snow", "balance": "0.5"}):
        assert "pictures only" not in text_of(reader.get("/", fields))


def test_what_a_person_may_not_expect_is_said(reader):
    assert "has the weight 0 and takes no part" in text_of(reader.get("/", {"q": '0 "snow" + a cat'}))
    assert "least like it come first" in text_of(reader.get("/", {"q": '- "a cat"'}))


# Predicted labels


def test_predicted_labels_are_shown_with_their_probability(reader, two_spaces):
    cat, city = id_of(two_spaces, "cat"), id_of(two_spaces, "city")
    text = " ".join(text_of(reader.get(f"/images/{cat}")).split())
    assert "Predicted labels kitten 87 % zero-shot" in text
    text = " ".join(text_of(reader.get(f"/images/{city}")).split())
    assert "night 62 % zero-shot day < 1 % zero-shot" in text
    page = reader.get("/", {"q": "a cat", "k": 5}).content.decode()
    assert re.search(r'class="predicted"[^>]*>kitten <span class="count">87 %</span>', page)


def test_labels_filter_with_their_counts_whoever_gave_them(reader, two_spaces):
    page = reader.get("/", {"q": "an animal", "k": 20})
    facets = re.findall(r">([\w ]+) <span class=\"count\">(\d+)</span></a>", page.content.decode())
    assert ("cat", str(DRAWN_PER_KIND)) in facets
    assert len(facets) == 12
    kitten = reader.get("/", {"q": "an animal", "where": "label=kitten"})
    assert tiles(kitten) == [id_of(two_spaces, "cat")]
    active = reader.get("/", {"q": "an animal", "where": "label=cat"})
    assert asked(link(active, 'aria-current="true"')) == {"q": "an animal"}
