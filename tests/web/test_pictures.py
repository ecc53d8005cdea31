"""Pictures by id: copies that are made once, originals with safe headers."""

import io
import os
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from PIL import Image

from tests.web.colours import ColourModel
from tests.web.conftest import OPTIONS, Browser, draw, png
from tests.web.test_page import an_id, upload
from vitseek.errors import BusyError, UnreadableImageError
from vitseek.gallery.gallery import Gallery
from vitseek.web.admission import Admission
from vitseek.web.pictures import browser_type, fitted_size, shrink, small_copy
from vitseek.web.site import Site
from vitseek.web.thumbnails import Thumbnails


def opened(response) -> Image.Image:
    return Image.open(io.BytesIO(b"".join(response) if response.streaming else response.content))


def test_a_thumbnail_is_webp_upright_and_small(client, gallery):
    record = gallery.image(an_id(gallery, "sea"))
    response = client.get(f"/images/{record.id}/thumbnail")
    assert response["Content-Type"] == "image/webp"
    image = opened(response)
    assert image.format == "WEBP"
    assert image.size == (record.width, record.height)  # smaller than a thumbnail: not blown up


def test_large_pictures_shrink_to_the_size_that_the_page_reserves(tmp_path):
    path = tmp_path / "large.jpg"
    draw((200, 60, 40), 1, (2311, 1511)).save(path, quality=90)
    for side in (480, 1600):
        data = small_copy(path, side, limit_pixels=10**7)
        assert Image.open(io.BytesIO(data)).size == fitted_size(2311, 1511, side)
        assert max(fitted_size(2311, 1511, side)) == side


def test_a_turned_jpeg_is_upright_in_its_copy(tmp_path):
    path = tmp_path / "turned.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6
    draw((200, 60, 40), 1, (997, 499)).save(path, exif=exif)
    assert Image.open(io.BytesIO(small_copy(path, 100, limit_pixels=10**7))).size == (50, 100)


@pytest.mark.parametrize(
    ("mode", "suffix"), [("CMYK", "jpg"), ("L", "jpg"), ("I;16", "png"), ("P", "gif"), ("RGBA", "png")]
)
def test_every_mode_gets_a_copy(tmp_path, mode, suffix):
    path = tmp_path / f"picture.{suffix}"
    image = draw((200, 60, 40), 1)
    (Image.new("I;16", (31, 29), 40_000) if mode == "I;16" else image.convert(mode)).save(path)
    assert Image.open(io.BytesIO(small_copy(path, 64, limit_pixels=10**6))).mode == "RGB"


def test_a_damaged_jpeg_is_an_error_that_says_so(tmp_path):
    path = tmp_path / "half.jpg"
    target = io.BytesIO()
    draw((200, 60, 40), 1).save(target, "JPEG")
    path.write_bytes(target.getvalue()[:900])
    with pytest.raises(UnreadableImageError, match="cut off"):
        small_copy(path, 64, limit_pixels=10**6)


def test_an_address_with_the_version_is_kept_for_good_and_without_it_asked_again(client, gallery):
    record = gallery.image(an_id(gallery, "sea"))
    fixed = client.get(f"/images/{record.id}/thumbnail?v={record.content_hash[:12]}")
    loose = client.get(f"/images/{record.id}/thumbnail")
    wrong = client.get(f"/images/{record.id}/thumbnail?v=000000000000")
    assert "immutable" in fixed["Cache-Control"]
    assert "private" in fixed["Cache-Control"]
    assert "no-cache" in loose["Cache-Control"]
    assert "immutable" not in wrong["Cache-Control"]
    again = client.get(f"/images/{record.id}/thumbnail", headers={"if-none-match": loose["ETag"]})
    assert again.status_code == 304
    assert not again.content


def test_an_original_is_the_file_itself_with_a_fixed_type_and_no_scripts(client, gallery):
    record = gallery.image(an_id(gallery, "moss"))
    response = client.get(f"/images/{record.id}/original")
    assert b"".join(response) == record.path.read_bytes()
    assert response["Content-Type"] == "image/jpeg"
    assert "sandbox" in response["Content-Security-Policy"]
    assert response["X-Content-Type-Options"] == "nosniff"
    assert response["Content-Disposition"] == 'inline; filename="moss-0.jpg"'
    assert int(response["Content-Length"]) == record.bytes


def test_an_original_with_a_strange_name_has_headers_that_are_one_line(client, gallery):
    odd = next(record for record in gallery.images() if "odd" in record.relative_path)
    response = client.get(f"/images/{odd.id}/original")
    assert response.status_code == 200
    assert "filename*=utf-8''" in response["Content-Disposition"]
    assert "\n" not in response["Content-Disposition"]
    response.close()


@pytest.fixture
def small_gallery(tmp_path):
    """A gallery that a test may change."""
    folder = tmp_path / "small"
    folder.mkdir()
    draw((200, 60, 40), 1).save(folder / "scan.tiff")
    draw((50, 140, 60), 2).save(folder / "leaf.png")
    draw((40, 80, 190), 3).save(folder / "sea.webp")
    with Gallery(folder, model=ColourModel()) as gallery:
        gallery.index()
        yield gallery


@pytest.fixture
def small_client(small_gallery, tmp_path):
    return Browser(Site.over(small_gallery, OPTIONS, thumbnails=tmp_path / "copies"))


def test_what_browsers_cannot_show_is_converted(small_client, small_gallery):
    number = small_gallery.image_id(small_gallery.path / "scan.tiff")
    response = small_client.get(f"/images/{number}/original")
    assert response["Content-Type"] == "image/webp"
    assert opened(response).size == (131, 97)


def test_heic_is_converted(small_client, small_gallery):
    pillow_heif = pytest.importorskip("pillow_heif")
    path = small_gallery.path / "phone.heic"
    pillow_heif.from_pillow(draw((200, 160, 40), 1)).save(path)
    small_gallery.index()
    response = small_client.get(f"/images/{small_gallery.image_id(path)}/original")
    assert response["Content-Type"] == "image/webp"


@pytest.mark.parametrize(
    "content", [b"<svg xmlns='http://www.w3.org/2000/svg'><script>1</script></svg>", b"<html><script>1</script>"]
)
def test_a_file_that_became_something_else_is_never_served_as_that(small_client, small_gallery, content):
    path = small_gallery.path / "leaf.png"
    number = small_gallery.image_id(path)
    path.write_bytes(content)
    response = small_client.get(f"/images/{number}/original")
    assert response.status_code == 404
    assert b"<script>1" not in response.content


def test_a_link_to_a_file_that_is_no_image_shows_nothing_of_it(small_client, small_gallery):
    path = small_gallery.path / "leaf.png"
    number = small_gallery.image_id(path)
    path.unlink()
    path.symlink_to("/etc/passwd")
    response = small_client.get(f"/images/{number}/original")
    assert response.status_code == 404
    assert b"root:" not in response.content


def test_a_file_that_is_gone_is_404_and_its_copy_stays(small_client, small_gallery):
    path = small_gallery.path / "leaf.png"
    number = small_gallery.image_id(path)
    assert small_client.get(f"/images/{number}/thumbnail").status_code == 200
    path.unlink()
    assert small_client.get(f"/images/{number}/original").status_code == 404
    assert small_client.get(f"/images/{number}/preview").status_code == 404
    assert small_client.get(f"/images/{number}/thumbnail").status_code == 200


def test_a_changed_file_is_shown_as_it_is_and_not_kept_under_the_old_name(small_client, small_gallery):
    path = small_gallery.path / "leaf.png"
    number = small_gallery.image_id(path)
    draw((50, 140, 60), 2, (211, 199)).save(path)
    response = small_client.get(f"/images/{number}/thumbnail?v={small_gallery.image(number).content_hash[:12]}")
    assert opened(response).size == (211, 199)
    assert response["Cache-Control"] == "no-store"


def test_an_image_that_was_removed_is_not_served(small_client, small_gallery):
    number = small_gallery.image_id(small_gallery.path / "leaf.png")
    small_gallery.remove([number])
    for kind in ("thumbnail", "preview", "original"):
        assert small_client.get(f"/images/{number}/{kind}").status_code == 404
    assert small_client.get(f"/?image={number}").status_code == 404


def test_a_held_query_has_a_preview_and_an_unknown_one_has_none(client):
    address = upload(client, png(draw((40, 80, 190), 5, (1301, 701))))["Location"]
    token = address.removeprefix("/?query=")
    response = client.get(f"/queries/{token}/preview")
    assert opened(response).size == fitted_size(1301, 701, 640)
    assert client.get("/queries/unknown/preview").status_code == 410


def test_types_come_from_the_first_bytes_not_from_the_name():
    assert browser_type(png(draw((1, 2, 3), 4)), ".jpg") == "image/png"
    assert browser_type(b"<svg xmlns='http://www.w3.org/2000/svg'/>", ".svg") is None
    assert browser_type(b"<html>", ".png") is None


def open_door(slots: int = 2) -> Admission:
    return Admission(slots=slots, waiting=50, timeout_s=30)


def test_a_copy_is_made_once_although_many_ask_at_the_same_time(gallery, tmp_path, monkeypatch):
    made = []

    def counted(path, side_px, *, limit_pixels):
        made.append(path)
        return small_copy(path, side_px, limit_pixels=limit_pixels)

    monkeypatch.setattr("vitseek.web.thumbnails.small_copy", counted)
    thumbnails = Thumbnails(tmp_path / "copies", admission=open_door(), limit_pixels=10**6)
    record = gallery.image(an_id(gallery, "sea"))
    with ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(lambda _: thumbnails.get(record, "thumbnail"), range(36)))
    assert len(made) == 1
    assert len(set(answers)) == 1
    assert not thumbnails._in_work
    later = Thumbnails(tmp_path / "copies", admission=open_door(), limit_pixels=10**6)
    assert later.get(record, "thumbnail") == answers[0]
    assert len(made) == 1  # from disk


def test_the_folder_of_copies_stays_within_its_limit_and_keeps_the_newest(gallery, tmp_path):
    folder = tmp_path / "copies"
    thumbnails = Thumbnails(folder, admission=open_door(), limit_pixels=10**6, limit_bytes=6_000)
    records = list(gallery.images())
    for age, record in enumerate(reversed(records)):
        thumbnails.get(record, "thumbnail")
        for path in folder.rglob(f"{record.content_hash}*"):
            os.utime(path, (1e9 + age, 1e9 + age))
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert 0 < sum(path.stat().st_size for path in files) <= 6_000
    assert any(path.name.startswith(records[0].content_hash) for path in files)
    assert not list(folder.rglob("*.draft"))


def test_a_disk_that_cannot_be_written_only_costs_time(gallery, tmp_path):
    blocked = tmp_path / "copies"
    blocked.write_text("a file where the folder should be")
    thumbnails = Thumbnails(blocked, admission=open_door(), limit_pixels=10**6)
    data, _ = thumbnails.get(gallery.image(an_id(gallery, "sea")), "thumbnail")
    assert Image.open(io.BytesIO(data)).format == "WEBP"


def test_a_door_lets_in_as_many_as_it_has_slots_and_turns_away_the_rest():
    door = Admission(slots=2, waiting=1, timeout_s=10)
    inside, leave = threading.Semaphore(0), threading.Event()

    def visit() -> None:
        with door.enter():
            inside.release()
            leave.wait(10)

    with ThreadPoolExecutor(3) as pool:
        visits = [pool.submit(visit) for _ in range(3)]
        assert inside.acquire(timeout=5)
        assert inside.acquire(timeout=5)
        while door._places._value:  # the third has come in and waits
            pass
        with pytest.raises(BusyError, match="too many requests"), door.enter():
            pass
        assert not inside.acquire(blocking=False)
        leave.set()
        for one in visits:
            one.result(10)
    with door.enter():
        pass


def test_who_waits_too_long_is_turned_away():
    door = Admission(slots=1, waiting=1, timeout_s=0.05)
    with door.enter(), pytest.raises(BusyError, match=r"no free slot within 0\.05 s"), door.enter():
        pass
    with door.enter():
        pass


def test_shrinking_keeps_a_small_picture_as_it_is():
    data, size = shrink(draw((1, 200, 3), 4, (37, 31)), 480)
    assert size == (37, 31) == Image.open(io.BytesIO(data)).size
