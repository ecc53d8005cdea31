"""The contact sheet: what is where, and what happens when a picture or the disk is broken."""

import errno
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vitseek.errors import StorageError, UsageError
from vitseek.search import montage as module
from vitseek.search.montage import MARGIN, MAT, MAX_SHOWN, Panel, montage
from vitseek.search.results import Match

RED, GREEN, BLUE = (200, 30, 30), (30, 160, 30), (30, 30, 200)


def picture(folder, name, colour, size=(97, 61)):
    path = folder / name
    Image.new("RGB", size, colour).save(path)
    return path


def opened(path):
    with Image.open(path) as image:
        return image.convert("RGB")


def match(path, score=0.5, labels=()):
    return Match(1, path, score, labels)


def share(image, colour, tolerance=12):
    """Which part of the sheet has this colour, and its bounding box (left, top, right, bottom)."""
    close = (np.abs(np.asarray(image).astype(int) - colour) <= tolerance).all(axis=2)
    rows, columns = np.nonzero(close)
    if not len(rows):
        return 0, None
    return close.sum(), (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)


def test_the_query_is_large_on_the_left_and_matches_follow_in_order(tmp_path):
    query = picture(tmp_path, "query.png", RED)
    colours = [(0, 20 + 23 * i, 255 - 23 * i) for i in range(10)]
    found = [match(picture(tmp_path, f"{i}.png", colour), 0.9 - i / 20) for i, colour in enumerate(colours)]
    assert montage([Panel("query.png", query, found)], tmp_path / "sheet.png") == []
    sheet = opened(tmp_path / "sheet.png")
    query_area, query_box = share(sheet, RED)
    boxes = [share(sheet, colour, tolerance=3)[1] for colour in colours]
    assert query_box[2] < min(box[0] for box in boxes)
    order = sorted(range(10), key=lambda i: (boxes[i][1], boxes[i][0]))
    assert order == list(range(10))
    assert len({box[1] for box in boxes}) == 2  # two rows of five
    assert query_area > 3 * share(sheet, colours[0], tolerance=3)[0]


@pytest.mark.parametrize("size", [(97, 61), (61, 97), (5, 3), (1, 1), (997, 2)])
def test_pictures_are_letterboxed_whole_with_their_proportions(tmp_path, size):
    found = [match(picture(tmp_path, "m.png", GREEN, size))]
    montage([Panel("q", None, found)], tmp_path / "sheet.png")
    sheet = opened(tmp_path / "sheet.png")
    _, (left, top, right, bottom) = share(sheet, GREEN)
    width, height = right - left, bottom - top
    assert max(width, height) == 224
    assert min(width, height) == max(1, round(224 * min(size) / max(size)))
    # in the middle of its tile
    tile_left = left - (224 - width) // 2
    assert sheet.getpixel((tile_left + 1, MARGIN)) == (MAT if height < 220 or width < 220 else GREEN)


def test_exif_orientation_is_applied(tmp_path):
    path = tmp_path / "turned.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6  # stored lying on its side
    Image.new("RGB", (80, 40), GREEN).save(path, exif=exif, quality=100)
    montage([Panel("q", None, [match(path)])], tmp_path / "sheet.png")
    _, (left, top, right, bottom) = share(opened(tmp_path / "sheet.png"), GREEN)
    assert (right - left, bottom - top) == (112, 224)


def test_missing_and_broken_pictures_get_a_tile_and_a_note(tmp_path):
    broken = tmp_path / "broken.jpg"
    broken.write_text("text")
    found = [match(tmp_path / "gone.jpg"), match(broken), match(picture(tmp_path, "ok.png", BLUE))]
    notes = montage([Panel("q", picture(tmp_path, "q.png", RED), found)], tmp_path / "sheet.png")
    assert len(notes) == 2
    assert "gone.jpg" in notes[0]
    assert "broken.jpg" in notes[1]
    assert share(opened(tmp_path / "sheet.png"), BLUE)[0] > 10_000


def test_several_queries_stand_below_each_other(tmp_path):
    panels = [
        Panel("one", picture(tmp_path, "a.png", RED), [match(picture(tmp_path, "b.png", GREEN))] * 3),
        Panel("two", picture(tmp_path, "c.png", BLUE), []),
    ]
    montage(panels, tmp_path / "sheet.png")
    sheet = opened(tmp_path / "sheet.png")
    assert share(sheet, RED)[1][3] < share(sheet, BLUE)[1][1]


@pytest.mark.parametrize("name", ["line\nbreak.png", os.fsdecode(b"latin1-\xe9.png"), "雪.png", "x" * 200 + ".png", ""])
def test_any_title_and_name_can_be_drawn_and_stays_in_its_column(tmp_path, name):
    path = picture(tmp_path, name, GREEN) if name else picture(tmp_path, "q.png", GREEN)
    montage([Panel(name, path, [match(path, -0.3)] * 2)], tmp_path / "sheet.png")
    sheet = np.asarray(opened(tmp_path / "sheet.png")).astype(int)
    gap = sheet[:, MARGIN + 224 + 5 : MARGIN + 224 + 2 * module.GAP - 1]
    assert (gap == 255).all()  # no caption ran from the query's column into the next


def test_letters_that_the_font_lacks_lose_their_accent_or_become_question_marks():
    font = module._font(15)
    assert module._drawable("plain_1.jpg", font) == "plain_1.jpg"
    assert module._drawable("e\u0301t\u00e9", font) in ("été", "ete")
    assert module._drawable("雪.jpg", font) == "?.jpg"


@pytest.mark.parametrize(("suffix", "kind"), [(".png", "PNG"), (".JPG", "JPEG"), (".jpeg", "JPEG"), (".webp", "WEBP")])
def test_the_ending_decides_the_format(tmp_path, suffix, kind):
    montage([Panel("q", picture(tmp_path, "q.png", RED), [])], tmp_path / f"sheet{suffix}")
    with Image.open(tmp_path / f"sheet{suffix}") as sheet:
        assert sheet.format == kind


def test_a_long_list_gets_smaller_tiles_and_is_cut_with_a_note(tmp_path):
    path = picture(tmp_path, "m.png", GREEN, (13, 13))
    notes = montage([Panel("q", path, [match(path)] * (MAX_SHOWN + 7))], tmp_path / "sheet.png")
    assert notes == [f"the montage shows the first {MAX_SHOWN} of {MAX_SHOWN + 7} matches"]
    assert max(opened(tmp_path / "sheet.png").size) < 4000


@pytest.mark.parametrize(
    ("name", "reason"),
    [("sheet.gif", "must end in .png, .jpg"), ("sheet", "must end in"), ("nowhere/sheet.png", "is no folder")],
)
def test_a_target_that_cannot_be_is_refused(tmp_path, name, reason):
    with pytest.raises(UsageError, match=reason):
        montage([Panel("q", None, [])], tmp_path / name)


def test_a_folder_as_target_is_refused(tmp_path):
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(UsageError, match="this is a folder"):
        montage([Panel("q", None, [])], tmp_path / "folder.png")


def test_the_query_and_the_matches_are_never_overwritten(tmp_path):
    query, found = picture(tmp_path, "q.png", RED), picture(tmp_path, "m.png", GREEN)
    (tmp_path / "link.png").symlink_to(found)
    before = query.read_bytes(), found.read_bytes()
    for target in (query, found, tmp_path / "link.png"):
        with pytest.raises(UsageError, match="choose another name"):
            montage([Panel("q", str(query), [match(found)])], target)
    assert (query.read_bytes(), found.read_bytes()) == before


def test_a_full_disk_keeps_the_older_file_and_leaves_nothing_behind(tmp_path, monkeypatch):
    target = picture(tmp_path, "sheet.png", BLUE)
    before = target.read_bytes()

    def full(self, file, *args, **kwargs):
        file.write(b"half a picture")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Image.Image, "save", full)
    with pytest.raises(StorageError, match="No space left on device"):
        montage([Panel("q", None, [])], target)
    assert target.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["sheet.png"]


def test_the_file_has_ordinary_rights(tmp_path):
    montage([Panel("q", None, [])], tmp_path / "sheet.png")
    (tmp_path / "plain").touch()
    assert (tmp_path / "sheet.png").stat().st_mode == Path(tmp_path / "plain").stat().st_mode
