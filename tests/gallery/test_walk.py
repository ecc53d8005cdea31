import os
import tracemalloc
from pathlib import Path

import pytest

from vitseek.gallery.walk import Walk


def found(walk: Walk, below: bytes = b"") -> list[bytes]:
    return [file.raw_path for file in walk.files(below)]


def walk(root: Path, **options: object) -> Walk:
    return Walk(os.fsencode(root), {".jpg", ".png"}, **options)  # type: ignore[arg-type]


def touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def test_images_are_found_by_suffix_in_any_case_and_in_order(tmp_path: Path) -> None:
    touch(*(tmp_path / name for name in ("b.jpg", "a.PNG", "notes.txt", "sub/c.Jpg", "sub/deep/d.png", "jpg")))
    walking = walk(tmp_path)
    assert found(walking) == [b"a.PNG", b"b.jpg", b"sub/c.Jpg", b"sub/deep/d.png"]
    assert walking.other_files == 2


def test_hidden_files_and_folders_are_left_out(tmp_path: Path) -> None:
    touch(*(tmp_path / name for name in (".hidden.jpg", ".vitseek/x.jpg", ".trash/y.jpg", "seen.jpg")))
    assert found(walk(tmp_path)) == [b"seen.jpg"]


def test_a_loop_of_links_ends(tmp_path: Path) -> None:
    touch(tmp_path / "a" / "x.jpg")
    (tmp_path / "a" / "up").symlink_to(tmp_path)
    (tmp_path / "a" / "self").symlink_to("self")
    (tmp_path / "a" / "one").symlink_to("two")
    (tmp_path / "a" / "two").symlink_to("one")
    assert found(walk(tmp_path)) == [b"a/x.jpg"]


def test_a_linked_folder_is_followed_and_a_picture_listed_once_under_its_real_path(tmp_path: Path) -> None:
    root, outside = tmp_path / "root", tmp_path / "outside"
    touch(root / "real" / "x.jpg", outside / "y.jpg")
    (root / "a-link").symlink_to(root / "real")
    (root / "elsewhere").symlink_to(outside)
    assert found(walk(root)) == [b"real/x.jpg", b"elsewhere/y.jpg"]


def test_a_linked_picture_is_a_picture(tmp_path: Path) -> None:
    touch(tmp_path / "real.jpg")
    (tmp_path / "link.jpg").symlink_to("real.jpg")
    assert found(walk(tmp_path)) == [b"link.jpg", b"real.jpg"]


def test_a_link_to_nowhere_is_unknown_not_deleted(tmp_path: Path) -> None:
    (tmp_path / "disk").symlink_to(tmp_path / "not-mounted")
    (tmp_path / "gone.jpg").symlink_to(tmp_path / "nothing.jpg")
    walking = walk(tmp_path)
    assert found(walking) == []
    assert sorted(path for path, _ in walking.unseen) == [b"disk/", b"gone.jpg"]


def test_names_that_are_not_utf8_are_kept_byte_for_byte(tmp_path: Path) -> None:
    name = b"caf\xe9 \xff '\"\xf0\x9f\x98\x80.jpg"
    Path(os.fsdecode(os.path.join(os.fsencode(tmp_path), name))).touch()  # noqa: PTH118
    assert found(walk(tmp_path)) == [name]


def test_other_roots_are_left_to_themselves(tmp_path: Path) -> None:
    touch(tmp_path / "a.jpg", tmp_path / "other" / "b.jpg")
    assert found(walk(tmp_path, leave_out=[os.fsencode(tmp_path / "other")])) == [b"a.jpg"]


def test_only_a_part_can_be_walked(tmp_path: Path) -> None:
    touch(tmp_path / "a.jpg", tmp_path / "sub" / "b.jpg")
    assert found(walk(tmp_path), b"sub") == [b"sub/b.jpg"]


def test_a_pipe_named_like_a_picture_is_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    assert found(walk(tmp_path)) == []


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything; tests/hostile/test_gallery.py drops its rights")
def test_a_folder_without_permission_is_unknown(tmp_path: Path) -> None:
    touch(tmp_path / "closed" / "x.jpg")
    (tmp_path / "closed").chmod(0)
    walking = walk(tmp_path)
    try:
        assert found(walking) == []
        assert walking.unseen == [(b"closed/", "Permission denied")]
    finally:
        (tmp_path / "closed").chmod(0o700)


def test_what_is_known_of_a_file_is_let_go_when_the_next_one_comes(tmp_path: Path) -> None:
    """A folder may hold a million: what stat says of each would be 0.7 GB."""
    files = 4001
    for number in range(files):
        (tmp_path / f"IMG_{number:05d}.jpg").touch()
    tracemalloc.start()
    try:
        count = sum(1 for _ in walk(tmp_path).files())
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert count == files
    assert peak_bytes / files < 400
