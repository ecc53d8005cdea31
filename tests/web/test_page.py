"""The page as a browser without scripts sees it, and the parts that scripts ask for."""

import html
import re

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile

from tests.web.conftest import KINDS, PER_KIND, Browser, draw, png
from vitseek.errors import BusyError, GalleryCorruptError
from vitseek.gallery.gallery import Gallery
from vitseek.web.answers import PART_HEADER
from vitseek.web.site import Site

TOTAL = len(KINDS) * PER_KIND + 1


def text_of(response) -> str:
    return html.unescape(re.sub(r"<[^>]*>", " ", response.content.decode()))


def alert_of(response) -> str:
    found = re.search(r"data-alert>(.*?)</div>", response.content.decode(), re.DOTALL)
    assert found, f"no message on the page: {text_of(response)[:400]}"
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", found[1])).split())


def tiles(response) -> list[int]:
    return [int(number) for number in re.findall(r'data-tile="(\d+)"', response.content.decode())]


def an_id(gallery: Gallery, label: str, number: int = 0) -> int:
    return list(gallery.images(f'label="{label}"'))[number].id


def upload(client: Browser, content: bytes, name: str = "query.png", **fields: str):
    return client.post("/search", {"image": SimpleUploadedFile(name, content), **fields})


def test_the_start_page_invites_and_offers_images_of_the_gallery(client):
    response = client.get("/")
    assert response.status_code == 200
    assert "Find similar images" in text_of(response)
    assert f"{TOTAL} images" in text_of(response)
    assert response.content.decode().count('class="pick"') == 20


def test_names_of_folders_and_files_are_escaped(client, gallery):
    page = client.get("/").content.decode()
    assert "Holiday &amp; &lt;Home&gt;" in page
    assert "<Home>" not in page
    odd = next(record for record in gallery.images() if "odd" in record.relative_path)
    page = client.get(f"/images/{odd.id}").content.decode()
    assert "odd &quot;quoted&quot; \\xff \U0001f431 &lt;b&gt;.png" in page
    assert "<b>" not in page


def test_other_samples_are_shown_on_request(client):
    first, second = (re.findall(r'data-id="(\d+)"', client.get(f"/?others={turn}").content.decode()) for turn in (0, 1))
    assert first != second
    assert len(first) == len(second) == 20


def test_a_click_on_an_image_finds_its_like_without_itself(client, gallery):
    query = an_id(gallery, "moss")
    response = client.get(f"/?image={query}&k=5")
    found = tiles(response)
    assert response.status_code == 200
    assert len(found) == 5
    assert query not in found
    assert {gallery.image(number).labels for number in found} == {("moss",)}


def test_an_upload_leads_to_an_address_with_its_results_best_first(client, gallery, web_folder):
    record = gallery.image(an_id(gallery, "sea", 3))
    response = upload(client, record.path.read_bytes(), "from my phone.jpg")
    assert response.status_code == 303
    assert response["Location"].startswith("/?query=")
    page = client.get(response["Location"])
    assert tiles(page)[0] == record.id
    assert len(tiles(page)) == 10
    scores = [float(score) for score in re.findall(r"data-value>([^<]+)<", page.content.decode())]
    assert scores[0] == pytest.approx(1.0, abs=1e-3)
    assert scores == sorted(scores, reverse=True)
    assert "from my phone.jpg" in text_of(page)


def test_the_same_upload_is_shown_again_with_another_number_and_a_filter(client, gallery):
    address = upload(client, png(draw((40, 80, 190), 99)))["Location"]
    assert len(tiles(client.get(f"{address}&k=20"))) == 20
    filtered = tiles(client.get(f"{address}&where=label=moss"))
    assert {gallery.image(number).labels for number in filtered} == {("moss",)}


def test_the_upload_keeps_number_and_filter_of_the_form(client):
    address = upload(client, png(draw((40, 80, 190), 99)), k="5", where="label=moss")["Location"]
    assert address.endswith("&k=5&where=label%3Dmoss")


def test_more_results_than_images_gives_all_images(client):
    address = upload(client, png(draw((40, 80, 190), 99)))["Location"]
    assert len(tiles(client.get(f"{address}&k=200"))) == TOTAL


def test_an_upload_that_is_not_held_any_more_says_so(client):
    response = client.get("/?query=long-gone")
    assert response.status_code == 410
    assert alert_of(response) == "The picture of this search is not held any more. Choose it again."
    assert "Choose a picture" in text_of(response)


@pytest.mark.parametrize(
    ("query", "status", "says"),
    [
        ("image=999999", 404, "The gallery has no such image."),
        ("image=../../etc/passwd", 404, "The gallery has no such image."),
        ("image=-1", 404, "The gallery has no such image."),
        ("image=99999999999999999999", 404, "The gallery has no such image."),
        ("image=٣", 404, "The gallery has no such image."),
        ("image=1&k=0", 422, "The number of results must be between 1 and 200."),
        ("image=1&k=201", 422, "The number of results must be between 1 and 200."),
        ("image=1&k=ten", 422, "The number of results must be between 1 and 200."),
        ("image=1&where=" + "x" * 501, 422, "The filter is too long: at most 500 characters."),
        ("image=1&where=width>>3", 422, "The filter cannot be understood."),
    ],
)
def test_an_address_that_makes_no_sense_is_explained_on_the_page(client, query, status, says):
    response = client.get(f"/?{query}")
    assert response.status_code == status
    assert alert_of(response).startswith(says)


def test_a_filter_with_a_mistake_keeps_query_and_text_so_that_it_can_be_mended(client, gallery):
    response = client.get("/", {"image": an_id(gallery, "moss"), "where": "label:"})
    assert response.status_code == 422
    page = response.content.decode()
    assert 'value="label:"' in page
    assert [tag for tag in re.findall(r"<input[^>]*aria-invalid[^>]*>", page) if 'name="where"' not in tag] == []
    assert page.count('aria-invalid="true"') == 1
    assert len(tiles(response)) == 10


def test_a_filter_that_nothing_fits_is_said_with_a_way_out(client, gallery):
    response = client.get("/", {"image": an_id(gallery, "moss"), "where": "width>9000"})
    assert "No image fits this filter." in text_of(response)
    assert "Remove the filter" in text_of(response)


def test_a_label_leads_to_the_same_search_among_its_images(client, gallery):
    query = an_id(gallery, "dusk red")
    page = client.get(f"/?image={query}&k=20").content.decode()
    address = html.unescape(re.search(r'href="([^"]+)" data-nav title="Only images labelled dusk red"', page)[1])
    found = tiles(client.get(address))
    assert {gallery.image(number).labels for number in found} == {("dusk red",)}
    assert len(found) == PER_KIND - 1


def test_scripts_get_the_content_without_the_frame(client):
    whole, part = client.get("/"), client.get("/", headers={PART_HEADER: "1"})
    assert "<!doctype html>" in whole.content.decode()
    assert "<!doctype html>" not in part.content.decode()
    assert 'data-title="Find similar images · vitseek"' in part.content.decode()
    assert PART_HEADER in whole["Vary"]


def test_details_name_path_size_date_and_labels(client, gallery):
    record = gallery.image(an_id(gallery, "moss"))
    text = text_of(client.get(f"/images/{record.id}"))
    assert str(record.path) in text
    assert f"{record.width} × {record.height} px" in text
    assert str(record.date.year if record.date else record.modified.year) in text
    assert "moss" in text


def test_others_than_this_machine_do_not_see_full_paths(gallery, tmp_path):
    from dataclasses import replace

    from tests.web.conftest import OPTIONS

    remote = Site.over(gallery, replace(OPTIONS, host="0.0.0.0", allow_remote=True), thumbnails=tmp_path)
    record = gallery.image(an_id(gallery, "moss"))
    text = text_of(Browser(remote).get(f"/images/{record.id}"))
    assert str(record.path) not in text
    assert record.relative_path in text


def test_a_text_renamed_to_jpg_is_refused_by_name(client):
    response = upload(client, b"Dear diary, this is no picture.\n" * 9, "diary.jpg")
    assert response.status_code == 400
    assert alert_of(response) == (
        "“diary.jpg” cannot be read as an image. Choose another picture. It is not an image but text."
    )


def test_a_cut_off_picture_is_refused(client, gallery):
    content = gallery.image(an_id(gallery, "sea")).path.read_bytes()
    response = upload(client, content[: len(content) // 2], "half.jpg")
    assert response.status_code == 400
    assert "cut off" in alert_of(response)


def test_an_empty_file_and_no_file_are_told_apart(client):
    assert alert_of(upload(client, b"", "empty.png")) == "“empty.png” is empty (0 bytes). Choose another picture."
    response = client.post("/search", {"k": "10"})
    assert response.status_code == 400
    assert alert_of(response) == "There is nothing to search for yet. Type words, or choose a picture."


def test_too_many_bytes_are_refused_with_the_limit(client):
    response = upload(client, b"\x89PNG" + bytes(400_000))
    assert response.status_code == 413
    assert "at most 293.0\xa0KB are taken" in response.content.decode()


def test_a_file_just_over_the_limit_is_refused_although_the_body_would_pass(client):
    response = upload(client, b"\x89PNG" + bytes(300_010))
    assert response.status_code == 413


def test_too_many_pixels_are_refused_before_they_are_decoded(client):
    from tests.hostile.images import png_of_zeros

    response = upload(client, png_of_zeros(20_000, 20_000), "bomb.png")
    assert response.status_code == 413
    assert alert_of(response) == ("“bomb.png” has too many pixels: at most 1 megapixels are taken. Shrink the picture.")


def test_file_names_are_cut_and_cleaned(client):
    response = upload(client, b"not a picture", "x" * 200 + "\u202e\x07.jpg")
    message = alert_of(response)
    assert "…" in message
    assert len(message) < 300
    assert "\u202e" not in message


def test_a_full_waiting_line_is_answered_with_429(client, site, monkeypatch):
    def full():
        raise BusyError("full")

    monkeypatch.setattr(site.embedding, "enter", full)
    response = upload(client, png(draw((1, 2, 3), 4)))
    assert response.status_code == 429
    assert response["Retry-After"] == "3"
    assert "Too many searches" in alert_of(response)


def test_a_broken_index_is_reported_and_the_page_stays(client, gallery, monkeypatch):
    def broken(*args, **kwargs):
        raise GalleryCorruptError("the index is damaged; rebuild it")

    query = an_id(gallery, "sea")
    monkeypatch.setattr(Gallery, "search", broken)
    response = client.get(f"/?image={query}")
    assert response.status_code == 503
    assert "the index is damaged" in alert_of(response)


def test_the_least_recent_upload_makes_room(site, client):
    first = upload(client, png(draw((40, 80, 190), 0)))["Location"]
    for number in range(64):
        upload(client, png(draw((40, 80, 190), number, (31, 29))))
    assert client.get(first).status_code == 410


def test_unknown_addresses_are_404_with_a_way_back(client):
    response = client.get("/nothing/here")
    assert response.status_code == 404
    assert "Start again" in text_of(response)


def test_an_unexpected_error_is_a_page_too(client, monkeypatch, caplog):
    def broken(*args, **kwargs):
        raise ZeroDivisionError

    monkeypatch.setattr("vitseek.web.views.samples", broken)
    response = client.get("/")
    assert response.status_code == 500
    assert "Something went wrong on the server" in alert_of(response)


def test_health_names_count_and_version(client):
    import vitseek

    assert client.get("/healthz").json() == {"status": "ok", "images": TOTAL, "version": vitseek.__version__}
