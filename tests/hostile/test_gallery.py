"""A gallery under bad conditions: killed, out of disk, without rights, damaged, given every bad image at once."""

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from benchmarks.kill import run

from tests.gallery.fake_model import FakeModel
from tests.hostile import images
from vitseek.errors import StorageError
from vitseek.gallery.gallery import Gallery


@pytest.fixture
def model() -> FakeModel:
    return FakeModel()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 3 MiB."""
    if os.geteuid() != 0 or sys.platform != "linux":
        pytest.skip("mounting a small tmpfs needs root on Linux")
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", disk], capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip(f"cannot mount a tmpfs here: {mounted.stderr.decode().strip()}")
    yield disk
    subprocess.run(["umount", "--lazy", disk], check=True)


@pytest.mark.hostile
def test_ten_kills_lose_no_acknowledged_row_and_leave_a_whole_index(tmp_path: Path) -> None:
    results = run(tmp_path, kills=10, images=600, longest_s=0.4)
    assert [result.lost for result in results] == [0] * 11
    assert [result.damage for result in results] == [[]] * 11
    assert (results[-1].finished, results[-1].present) == (True, 600)
    assert any(0 < result.present < 600 for result in results), "no kill hit a running index"


@pytest.mark.hostile
def test_a_full_disk_is_said_and_what_was_saved_stays_and_the_next_run_goes_on(
    small_disk: Path, tmp_path: Path, model: FakeModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vitseek.gallery.indexing.COMMIT_S", 0.0)
    wide = FakeModel(embed_dim=4099)  # 16 kB a vector: the disk holds some, not all
    photos = tmp_path / "photos"
    for number in range(200):
        images.picture((31 + number, 23)).save(_folder(photos) / f"{number}.png")
    with Gallery(small_disk, roots=[photos], model=wide) as gallery:
        with pytest.raises(StorageError, match="disk is full"):
            gallery.index(batch_size=4)
        saved = gallery.count()
        assert 0 < saved < 200
        assert gallery.check() == []
        assert len(gallery.search(next(gallery.images()).id, k=1000)) == saved
    subprocess.run(["mount", "-o", "remount,size=64m", small_disk], check=True)
    with Gallery(small_disk, model=wide) as gallery:
        report = gallery.index()
        assert (report.images, report.new) == (200, 200 - saved)
        assert gallery.check() == []


@pytest.mark.hostile
def test_a_disk_that_is_full_from_the_start_is_said(small_disk: Path, tmp_path: Path, model: FakeModel) -> None:
    images.picture().save(_folder(tmp_path / "photos") / "a.png")
    with (small_disk / "filler").open("wb", buffering=0) as filler, contextlib.suppress(OSError):
        while True:
            filler.write(bytes(4096))

    def use() -> None:
        with Gallery(small_disk, roots=[tmp_path / "photos"], model=model) as gallery:
            gallery.index()

    with pytest.raises(StorageError, match=r"disk is full|No space left|failed"):
        use()
    (small_disk / "filler").unlink()
    use()
    with Gallery(small_disk) as gallery:
        assert gallery.count() == 1


def test_every_bad_image_is_recorded_with_a_reason_and_every_odd_one_indexed(tmp_path: Path, model: FakeModel) -> None:
    good = images.readable_images(_folder(tmp_path / "photos" / "good"))
    bad = images.unreadable_images(_folder(tmp_path / "photos" / "bad"))
    with Gallery(tmp_path / "photos", model=model) as gallery:
        report = gallery.index()
        found = {record.path for record in gallery.images()}
        reasons = {record.path: record.reason for record in gallery.unreadable()}
        for maker, path in good.items():
            if path.suffix:  # a folder is walked by suffix
                assert path in found, maker
        for maker, path in bad.items():
            if path.is_file() and path.suffix:
                assert reasons.get(path), maker
                assert str(path) not in (reasons[path] or ""), maker
        assert report.unreadable == len(reasons)
        assert gallery.index().images == report.images


def test_names_of_any_bytes_are_found_again(tmp_path: Path, model: FakeModel) -> None:
    names = [
        b"caf\xe9.png",
        b"\xff\xfe.png",
        "ä ö.png".encode(),
        b"a'b\"c.png",
        b"new\nline.png",
        b"-k.png",
        b"%s$(x).png",
    ]
    contents = set()
    for number, name in enumerate(names):
        path = tmp_path / os.fsdecode(name)
        images.picture((20 + number, 17)).save(path)
        contents.add(path)
    with Gallery(tmp_path, model=model) as gallery:
        gallery.index()
        assert {record.path for record in gallery.images()} == contents
        for path in contents:
            assert gallery.search(path, k=1)[0].path == path
            record = gallery.image(gallery.image_id(path))
            record.relative_path.encode("utf-8")  # can be printed and stored anywhere
        assert gallery.index().unchanged == len(names)


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder that others may look into; pytest's own are closed."""
    with tempfile.TemporaryDirectory(prefix="vitseek-rights-") as folder:
        yield Path(folder)


def test_what_may_not_be_read_is_reported_and_comes_back_with_the_right(place: Path) -> None:
    photos = _folder(place / "photos")
    images.picture((31, 23)).save(photos / "open.png")
    images.picture((37, 23)).save(photos / "closed.png")
    images.picture((41, 23)).save(_folder(photos / "shut") / "inside.png")
    program = """
from pathlib import Path
from tests.gallery.fake_model import FakeModel
from vitseek.gallery.gallery import Gallery
photos = Path(sys.argv[1])
model = FakeModel()
with Gallery(sys.argv[2], roots=[photos], model=model) as warm:  # imports all that is needed, while it may
    warm.index()
drop_rights()
with Gallery(photos, model=model) as gallery:
    gallery.index()
    print(gallery.count())
    (photos / "closed.png").chmod(0); (photos / "shut").chmod(0)
    report = gallery.index()
    print(report.images, report.unreadable, report.removed, report.kept)
    print(report.problems[0].reason, "|", report.unseen[0].reason, "|", report.unseen[0].path.name)
    (photos / "closed.png").chmod(0o600); (photos / "shut").chmod(0o700)
    report = gallery.index()
    print(report.images, report.unreadable, report.embedded)
"""
    if os.geteuid() == 0:
        for path in (place, *place.rglob("*")):
            os.chown(path, images.NOBODY, images.NOBODY)
    done = images.run_without_rights(program, str(photos), str(_folder(place / "warm")))
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "3",
        "2 1 0 1",
        "Permission denied | Permission denied | shut",
        "3 0 0",
    ]


def test_a_gallery_in_a_read_only_folder_can_be_searched_but_not_changed(
    tmp_path: Path, photos: Path, model: FakeModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Gallery(photos, model=model) as gallery:
        gallery.index()
    before = sorted(path.name for path in (photos / ".vitseek").iterdir())
    real = os.access
    # Even root: as on a disk that is mounted read-only.
    monkeypatch.setattr(os, "access", lambda path, mode, **more: mode != os.W_OK and real(path, mode, **more))
    with Gallery(photos, model=model) as gallery:
        assert len(gallery.search(1, k=100)) == 7
        shutil.rmtree(photos / ".vitseek" / "cache")
        gallery._matrices.forget()
        assert len(gallery.search(1, k=100)) == 7
        with pytest.raises(StorageError, match="read-only"):
            gallery.add_labels([1], "x")
    assert sorted(path.name for path in (photos / ".vitseek").iterdir()) == [name for name in before if name != "cache"]


def _folder(path: Path) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    return path
