"""Bad, odd and awkwardly named image files for everyone's tests.

Each function makes one file in a folder and returns its path. `UNREADABLE` lists those that must be refused with a
message, `READABLE` those that look frightening and must work, each with the size it decodes to.
"""

import io
import os
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

NOBODY = 65534
SIZE = (67, 53)  # width, height

Maker = Callable[[Path], Path]


def picture(size: tuple[int, int] = SIZE) -> Image.Image:
    """A colourful gradient: red grows to the right, green downwards, blue is constant."""
    width, height = size
    red, green = np.meshgrid(np.linspace(0, 255, width), np.linspace(0, 255, height))
    return Image.fromarray(np.stack([red, green, np.full_like(red, 90)], axis=-1).astype(np.uint8))


def encoded(kind: str, image: Image.Image | None = None, **options: object) -> bytes:
    """The bytes of a picture in a format."""
    buffer = io.BytesIO()
    (image or picture()).save(buffer, kind, **options)
    return buffer.getvalue()


def _write(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def png_chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png_of_zeros(width: int, height: int) -> bytes:
    """A black one-bit PNG of any size: 20,000 × 20,000 pixels take 49 kB."""
    row = bytes(1 + (width + 7) // 8)
    packer = zlib.compressobj(9)
    rows_at_once = 100
    data = b"".join(packer.compress(row * rows_at_once) for _ in range(height // rows_at_once))
    data += packer.compress(row * (height % rows_at_once)) + packer.flush()
    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    chunks = png_chunk(b"IHDR", header) + png_chunk(b"IDAT", data) + png_chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


# --- to be refused -----------------------------------------------------------------------------------------------


def text_as_jpg(folder: Path) -> Path:
    return _write(folder / "text.jpg", b"Dear diary, this is no photograph.\n" * 20)


def web_page_as_jpg(folder: Path) -> Path:
    return _write(folder / "page.jpg", b"<!DOCTYPE html><html><body>404 Not Found</body></html>")


def svg_as_png(folder: Path) -> Path:
    return _write(folder / "drawing.png", b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>')


def postscript_as_jpg(folder: Path) -> Path:
    return _write(folder / "program.jpg", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n%%EOF\n")


def random_bytes(folder: Path) -> Path:
    return _write(folder / "noise.jpg", np.random.default_rng(7).bytes(4099))


def empty(folder: Path) -> Path:
    return _write(folder / "empty.jpg", b"")


def truncated_jpeg(folder: Path) -> Path:
    content = encoded("JPEG", quality=95)
    return _write(folder / "cut.jpg", content[: len(content) * 2 // 3])


def truncated_png(folder: Path) -> Path:
    content = encoded("PNG")
    return _write(folder / "cut.png", content[: len(content) * 2 // 3])


def truncated_webp(folder: Path) -> Path:
    content = encoded("WEBP")
    return _write(folder / "cut.webp", content[: len(content) // 2])


def truncated_gif(folder: Path) -> Path:
    content = encoded("GIF")
    return _write(folder / "cut.gif", content[: len(content) // 2])


def jpeg_header_only(folder: Path) -> Path:
    return _write(folder / "header.jpg", encoded("JPEG")[:20])


def png_with_broken_header_checksum(folder: Path) -> Path:
    content = bytearray(encoded("PNG"))
    content[29] ^= 0xFF  # after the signature (8), length (4), kind (4) and 13 bytes of IHDR
    return _write(folder / "checksum.png", bytes(content))


def png_with_broken_data(folder: Path) -> Path:
    content = bytearray(encoded("PNG"))
    start = content.index(b"IDAT") + 4
    content[start + 2 : start + 60] = bytes(58)
    return _write(folder / "data.png", bytes(content))


def gif_without_frames(folder: Path) -> Path:
    return _write(folder / "frameless.gif", b"GIF89a" + struct.pack("<HHBBB", 67, 53, 0, 0, 0) + b";")


def png_bomb(folder: Path) -> Path:
    """400 megapixels in 49 kB."""
    return _write(folder / "bomb.png", png_of_zeros(20_000, 20_000))


def icon_bomb(folder: Path) -> Path:
    """An icon that says 16 × 16 and holds a PNG of 20,000 × 20,000."""
    inner = png_of_zeros(20_000, 20_000)
    entry = struct.pack("<BBBBHHII", 16, 16, 0, 0, 1, 32, len(inner), 22)
    return _write(folder / "bomb.ico", struct.pack("<HHH", 0, 1, 1) + entry + inner)


def gif_bomb(folder: Path) -> Path:
    """A GIF of 65,535 × 65,535 with a frame of 1 × 1."""
    content = bytearray(encoded("GIF", picture((1, 1))))
    content[6:10] = struct.pack("<HH", 65535, 65535)
    return _write(folder / "bomb.gif", bytes(content))


def png_text_bomb(folder: Path) -> Path:
    """A small PNG with a compressed comment that unpacks to 128 MB."""
    packer = zlib.compressobj(9)
    text = b"".join(packer.compress(bytes(2**20)) for _ in range(128)) + packer.flush()
    content = encoded("PNG")
    end = content.index(b"IDAT") - 4
    return _write(folder / "comment.png", content[:end] + png_chunk(b"zTXt", b"Comment\0\0" + text) + content[end:])


def folder_called_jpg(folder: Path) -> Path:
    path = folder / "folder.jpg"
    path.mkdir(parents=True)
    return path


def symlink_loop(folder: Path) -> Path:
    """Two links that point at each other; and, beside them, a folder that contains itself."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "loop-a.jpg").symlink_to("loop-b.jpg")
    (folder / "loop-b.jpg").symlink_to("loop-a.jpg")
    (folder / "endless").mkdir()
    (folder / "endless" / "again").symlink_to(folder / "endless", target_is_directory=True)
    return folder / "loop-a.jpg"


def dangling_symlink(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "gone.jpg").symlink_to("nowhere.jpg")
    return folder / "gone.jpg"


def named_pipe(folder: Path) -> Path:
    """Whoever opens it waits for a writer that never comes."""
    folder.mkdir(parents=True, exist_ok=True)
    os.mkfifo(folder / "pipe.jpg")
    return folder / "pipe.jpg"


UNREADABLE: tuple[Maker, ...] = (
    text_as_jpg,
    web_page_as_jpg,
    svg_as_png,
    postscript_as_jpg,
    random_bytes,
    empty,
    truncated_jpeg,
    truncated_png,
    truncated_webp,
    truncated_gif,
    jpeg_header_only,
    png_with_broken_header_checksum,
    png_with_broken_data,
    gif_without_frames,
    png_bomb,
    icon_bomb,
    gif_bomb,
    png_text_bomb,
    folder_called_jpg,
    symlink_loop,
    dangling_symlink,
    named_pipe,
)


# --- to be read --------------------------------------------------------------------------------------------------


def one_pixel(folder: Path) -> Path:
    return _write(folder / "one.png", encoded("PNG", Image.new("RGB", (1, 1), (200, 30, 60))))


def thin_strip(folder: Path) -> Path:
    return _write(folder / "strip.png", encoded("PNG", picture((1, 20_011))))


def animated_gif(folder: Path) -> Path:
    frames = [Image.new("RGB", SIZE, colour) for colour in ((220, 40, 40), (40, 220, 40), (40, 40, 220))]
    return _write(
        folder / "moving.gif", encoded("GIF", frames[0], save_all=True, append_images=frames[1:], duration=50)
    )


def animated_webp(folder: Path) -> Path:
    frames = [Image.new("RGB", SIZE, colour) for colour in ((220, 40, 40), (40, 220, 40))]
    return _write(folder / "moving.webp", encoded("WEBP", frames[0], save_all=True, append_images=frames[1:]))


def cmyk_jpeg(folder: Path) -> Path:
    return _write(folder / "cmyk.jpg", encoded("JPEG", picture().convert("CMYK"), quality=95))


def sixteen_bit_png(folder: Path) -> Path:
    levels = np.linspace(0, 65535, SIZE[0] * SIZE[1]).reshape(SIZE[1], SIZE[0]).astype(np.uint16)
    return _write(folder / "deep.png", encoded("PNG", Image.fromarray(levels)))


def transparent_png(folder: Path) -> Path:
    image = picture()
    image.putalpha(Image.new("L", SIZE, 128))
    return _write(folder / "glass.png", encoded("PNG", image))


def jpeg_called_png(folder: Path) -> Path:
    return _write(folder / "really-a-jpeg.png", encoded("JPEG"))


def file_without_suffix(folder: Path) -> Path:
    return _write(folder / "photograph", encoded("JPEG"))


def capital_suffix(folder: Path) -> Path:
    return _write(folder / "IMG_0001.JPG", encoded("JPEG"))


def rotated_jpeg(folder: Path) -> Path:
    """Stored lying, to be shown upright: EXIF orientation 6."""
    exif = Image.Exif()
    exif[0x0112] = 6
    return _write(folder / "rotated.jpg", encoded("JPEG", exif=exif, quality=95))


def huge_exif(folder: Path) -> Path:
    """A JPEG whose EXIF segment is as long as one may be (64 kB)."""
    exif = Image.Exif()
    exif[0x9286] = b"ASCII\0\0\0" + b"x" * 65_000  # UserComment
    return _write(folder / "huge-exif.jpg", encoded("JPEG", exif=exif))


def corrupt_exif(folder: Path) -> Path:
    """A good JPEG whose EXIF directory points beyond its end and has impossible types."""
    directory = struct.pack("<H", 3)
    directory += struct.pack("<HHII", 0x0112, 99, 4_000_000_000, 4_000_000_000)
    directory += struct.pack("<HHII", 0x8769, 4, 1, 3_000_000_000)
    return _write(folder / "bad-exif.jpg", encoded("JPEG", exif=b"Exif\0\0II*\0\x08\0\0\0" + directory))


def tiff_that_names_itself_next(folder: Path) -> Path:
    """A TIFF whose chain of pictures is a circle."""
    content = bytearray(encoded("TIFF"))
    (start,) = struct.unpack_from("<I", content, 4)
    (entries,) = struct.unpack_from("<H", content, start)
    struct.pack_into("<I", content, start + 2 + 12 * entries, start)
    return _write(folder / "circle.tif", bytes(content))


def name_with_spaces(folder: Path) -> Path:
    return _write(folder / "  summer at  the sea .jpg", encoded("JPEG"))


def name_with_quotes(folder: Path) -> Path:
    return _write(folder / 'it\'s "quoted" `$(touch pwned)`; rm -rf *.jpg', encoded("JPEG"))


def name_with_emoji(folder: Path) -> Path:
    return _write(folder / "🐈‍⬛ größe 日本語.jpg", encoded("JPEG"))


def name_with_newline(folder: Path) -> Path:
    return _write(folder / "first line\nsecond\tline\x1b[31m.jpg", encoded("JPEG"))


def name_with_markup(folder: Path) -> Path:
    return _write(folder / "[bold]<script>alert(1)<&script>[/bold].jpg", encoded("JPEG"))


def name_like_an_option(folder: Path) -> Path:
    return _write(folder / "--help.jpg", encoded("JPEG"))


def name_of_invalid_utf8(folder: Path) -> Path:
    """A Latin-1 name, as old archives leave them; not every file system takes it (macOS does not)."""
    return _write(folder / os.fsdecode(b"caf\xe9-\xff.jpg"), encoded("JPEG"))


def deeply_nested(folder: Path) -> Path:
    return _write(folder.joinpath(*(["nested"] * 150)) / "deep.jpg", encoded("JPEG"))


READABLE: tuple[tuple[Maker, tuple[int, int]], ...] = (
    (one_pixel, (1, 1)),
    (thin_strip, (1, 20_011)),
    (animated_gif, SIZE),
    (animated_webp, SIZE),
    (cmyk_jpeg, SIZE),
    (sixteen_bit_png, SIZE),
    (transparent_png, SIZE),
    (jpeg_called_png, SIZE),
    (file_without_suffix, SIZE),
    (capital_suffix, SIZE),
    (rotated_jpeg, (SIZE[1], SIZE[0])),
    (huge_exif, SIZE),
    (corrupt_exif, SIZE),
    (tiff_that_names_itself_next, SIZE),
    (name_with_spaces, SIZE),
    (name_with_quotes, SIZE),
    (name_with_emoji, SIZE),
    (name_with_newline, SIZE),
    (name_with_markup, SIZE),
    (name_like_an_option, SIZE),
    (name_of_invalid_utf8, SIZE),
    (deeply_nested, SIZE),
)


# --- depends on who asks -----------------------------------------------------------------------------------------


def without_permission(folder: Path) -> Path:
    """A good picture that only its owner could read, and not even he may; root can all the same."""
    path = _write(folder / "secret.jpg", encoded("JPEG"))
    path.chmod(0)
    return path


def run_without_rights(program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run Python code that may call ``drop_rights()``: from then on it is nobody, if it was root.

    Import what you need first: the interpreter's own files may be out of nobody's reach.
    """
    prelude = (
        "import os, sys\n"
        "def drop_rights():\n"
        "    if os.getuid() == 0:\n"
        f"        os.setgroups([]); os.setgid({NOBODY}); os.setuid({NOBODY})\n"
    )
    command = [sys.executable, "-c", prelude + program, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def unreadable_images(folder: Path) -> dict[str, Path]:
    """All of `UNREADABLE` in one folder, by the name of their maker."""
    return {make.__name__: make(folder) for make in UNREADABLE}


def readable_images(folder: Path) -> dict[str, Path]:
    """All of `READABLE` in one folder, by the name of their maker."""
    return {make.__name__: make(folder) for make, _ in READABLE}
