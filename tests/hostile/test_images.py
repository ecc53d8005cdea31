"""Every bad file is refused with a message that names it; every odd one is read."""

import os
import sys
from pathlib import Path

import pytest
from PIL import ImageFile

from tests.hostile import images
from vitseek.errors import ImageError, ImageTooLargeError, UnreadableImageError
from vitseek.preprocess.image import DEFAULT_LIMIT_PIXELS, IMAGE_SUFFIXES, ImagePreprocessing, decode, preprocess

ADVICE = ("copy", "remove", "check", "raise", "name the pictures", "save it anew", "link", "not a regular")


@pytest.mark.parametrize("make", images.UNREADABLE, ids=lambda make: make.__name__)
def test_a_bad_file_is_refused_by_name_with_a_reason_and_advice(make: images.Maker, tmp_path: Path) -> None:
    path = make(tmp_path)
    with pytest.raises(ImageError) as caught:
        decode(path)
    assert str(path) in str(caught.value)
    assert caught.value.reason
    assert any(word in caught.value.reason.lower() for word in ADVICE), caught.value.reason
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("make", "size"), images.READABLE, ids=lambda value: getattr(value, "__name__", ""))
def test_an_odd_file_is_read(make: images.Maker, size: tuple[int, int], tmp_path: Path) -> None:
    try:
        path = make(tmp_path)
    except OSError as error:  # the file system does not take the name
        pytest.skip(f"this file system refuses the file: {error}")
    image = decode(path)
    assert (image.mode, image.size) == ("RGB", size)
    for policy in ("official", "center-crop"):
        pixels = preprocess(path, ImagePreprocessing().with_policy(policy))
        assert pixels.shape == (3, 224, 224)


@pytest.mark.parametrize("make", images.UNREADABLE, ids=lambda make: make.__name__)
def test_the_bytes_of_a_bad_file_are_refused_as_the_file_is(make: images.Maker, tmp_path: Path) -> None:
    path = make(tmp_path)
    if not path.is_file():
        pytest.skip("has no bytes to read")
    with pytest.raises(ImageError, match=r"^image data \(\d+ bytes\): "):
        decode(path.read_bytes())


@pytest.mark.parametrize("make", [images.png_bomb, images.icon_bomb, images.gif_bomb], ids=lambda make: make.__name__)
def test_a_bomb_is_refused_before_memory_is_taken_for_it(
    make: images.Maker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make(tmp_path)
    assert path.stat().st_size < 60_000
    prepared: list[object] = []
    monkeypatch.setattr(ImageFile.ImageFile, "load_prepare", prepared.append)  # where Pillow allocates the pixels
    with pytest.raises(ImageTooLargeError, match=f"limit is {DEFAULT_LIMIT_PIXELS:,}.*VITSEEK_LIMIT_PIXELS="):
        decode(path)
    assert not prepared


@pytest.mark.hostile
@pytest.mark.skipif(sys.platform == "win32", reason="needs the resource module")
def test_refusing_every_bad_file_takes_less_than_a_hundred_megabytes(tmp_path: Path) -> None:
    paths = images.unreadable_images(tmp_path)
    result = images.run_without_rights(
        "import resource\n"
        "from vitseek.preprocess.image import decode\n"
        "from vitseek.errors import ImageError\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "for path in sys.argv[1:]:\n"
        "    try:\n        decode(path)\n"
        "    except ImageError:\n        continue\n"
        "    raise SystemExit(f'{path} was decoded')\n"
        "grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before\n"
        "print(grown * (1 if sys.platform == 'darwin' else 1024))\n",  # bytes on macOS, kB on Linux
        *map(str, paths.values()),
    )
    assert result.stderr == ""
    assert int(result.stdout) < 100_000_000


def test_a_name_of_invalid_utf8_is_printable_in_the_message(tmp_path: Path) -> None:
    path = tmp_path / os.fsdecode(b"caf\xe9-\xff.jpg")
    with pytest.raises(UnreadableImageError) as caught:
        decode(path)
    assert r"caf\xe9-\xff.jpg" in str(caught.value)
    str(caught.value).encode("utf-8")


def test_a_newline_or_an_escape_in_a_name_cannot_forge_output(tmp_path: Path) -> None:
    path = tmp_path / "first\nsecond\x1b[31m.jpg"
    with pytest.raises(UnreadableImageError, match=r"first\\nsecond\\x1b\[31m\.jpg"):
        decode(path)


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX permissions")
def test_a_file_without_read_permission_is_refused_as_such(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("locked")
    path = images.without_permission(folder)
    for parent in (folder, *folder.parents):  # so that it is the file that nobody may read, not the way to it
        if parent.owner() == Path.home().owner() and not parent.stat().st_mode & 0o001:
            parent.chmod(parent.stat().st_mode | 0o011)
    result = images.run_without_rights(
        "from vitseek.preprocess.image import decode\n"
        "from vitseek.errors import UnreadableImageError\n"
        "drop_rights()\n"
        "try:\n    decode(sys.argv[1])\n"
        "except UnreadableImageError as error:\n    print(error)\n",
        str(path),
    )
    assert result.stderr == ""
    assert result.stdout == f"{path}: no permission to read it; check its owner and mode\n"


def test_every_suffix_that_folders_are_walked_for_is_lower_case_with_a_dot() -> None:
    assert all(suffix.startswith(".") and suffix == suffix.lower() for suffix in IMAGE_SUFFIXES)
    assert {".jpg", ".jpeg", ".png", ".webp", ".heic", ".avif", ".gif", ".tif", ".bmp"} <= IMAGE_SUFFIXES
