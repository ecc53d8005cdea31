"""`vitseek tune`: a table of what was measured, one recommendation, and nothing changed."""

import json
from pathlib import Path

import pytest

import vitseek
from vitseek.gallery import tuning
from vitseek.gallery.gallery import Gallery
from vitseek.gallery.tuning import Measured, Tuning

FOUND = Tuning(
    "tiny", 40,
    [
        Measured("", 10.0, 1.0, 1.0, 0.5),
        Measured("--reduction merge-24", 12.5, 1.25, 0.97, 0.51),
        Measured("--size 160", problem="too small"),
    ],
    "--reduction merge-24",
)  # fmt: skip


@pytest.fixture
def indexed(photos: Path) -> Path:
    with vitseek.Gallery(photos) as gallery:
        gallery.index()
    return photos


def test_the_table_and_the_command_to_index_with(run_command, indexed, monkeypatch):
    asked = {}

    def tune(self, *, images, agreement, progress):
        asked.update(images=images, agreement=agreement)
        progress("exact", 0, 3)
        return FOUND

    monkeypatch.setattr(Gallery, "tune", tune)
    ran = run_command("tune", "--gallery", indexed, "--images", 40)
    assert asked == {"images": 40, "agreement": 0.95}
    title, header, exact, merged = ran.out.splitlines()
    assert title == "tiny, 40 pictures"
    assert header.split() == ["options", "images/s", "faster", "top", "10", "mAP"]
    assert exact.split() == ["exact", "(numpy)", "10.0", "1.00", "×", "1.000", "0.500"]
    assert merged.split() == ["*", "--reduction", "merge-24", "12.5", "1.25", "×", "0.970", "0.510"]
    assert "--size 160: too small" in ran.err
    assert f"recommended, with at least 95% of the top 10: vitseek index {indexed} --reduction merge-24" in ran.err
    document = json.loads(run_command("tune", "--gallery", indexed, "--json").out)
    assert document["recommended"] == "--reduction merge-24"


def test_a_small_gallery_is_refused_with_how_many_are_needed(run_command, indexed):
    ran = run_command("tune", "--gallery", indexed)
    assert ran.status == 2
    assert f"7 usable pictures of one size are too few to measure with: at least {tuning.LEAST_PICTURES}" in ran.err
    assert "Traceback" not in ran.err


def test_speed_is_an_option_of_index(run_command, photos, monkeypatch):
    from vitseek.gallery import shortcuts

    monkeypatch.setattr(shortcuts, "is_installed", lambda engine: False)
    ran = run_command("index", photos, "--speed", "fast")
    assert ran.status == 0
    assert "(vitseek-tiny/merge-24)" in ran.out
    assert "one of exact, fast, faster" in run_command("index", photos, "--speed", "quick").err
    assert "'merge-0' is no way to leave out tokens" in run_command("index", photos, "--reduction", "merge-0").err
    assert "take a multiple of that" in run_command("index", photos, "--size", "100").err
