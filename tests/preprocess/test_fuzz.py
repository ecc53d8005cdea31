"""Whatever bytes arrive, decoding gives a picture or an ImageError, and nothing else."""

import io

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from tests.hostile.images import encoded, picture
from vitseek.errors import ImageError
from vitseek.preprocess.image import decode

SMALL = (19, 13)
KINDS = ("JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP", "AVIF", "JPEG2000", "PPM", "ICO", "QOI", "DDS", "SGI", "PCX")
SIGNATURES = (
    b"\xff\xd8\xff",
    b"\x89PNG\r\n\x1a\n",
    b"GIF89a",
    b"RIFF\x40\0\0\0WEBPVP8 ",
    b"II*\0\x08\0\0\0",
    b"MM\0*\0\0\0\x08",
    b"BM",
    b"\0\0\0\x20ftypavif",
    b"\0\0\0\x20ftypheic",
    b"\0\0\0\x0cjP  \r\n\x87\n",
    b"P6 ",
    b"\0\0\1\0\1\0",
    b"8BPS\0\1",
    b"qoif",
    b"DDS ",
    b"\x01\xda\0\1",
    b"#define a_width 9\n",
    b"/* XPM */",
)
quick = settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])


def decodes_or_refuses(content: bytes) -> None:
    refusal = None
    try:
        image = decode(content, limit_pixels=1_000_000)
    except ImageError as error:
        refusal = error
    if refusal is None:
        assert image.mode == "RGB"
        assert min(image.size) > 0
    else:
        assert refusal.reason
        assert "\n" not in str(refusal)


@quick
@given(st.binary(max_size=300))
def test_random_bytes_never_crash(content: bytes) -> None:
    decodes_or_refuses(content)


@quick
@given(st.sampled_from(SIGNATURES), st.binary(max_size=200))
def test_random_bytes_after_a_true_signature_never_crash(signature: bytes, rest: bytes) -> None:
    decodes_or_refuses(signature + rest)


@pytest.mark.parametrize("kind", KINDS)
def test_real_files_with_flipped_cut_and_doubled_parts_never_crash(kind: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    exif[0x010E] = "description"
    options = {"exif": exif} if kind in ("JPEG", "PNG", "WEBP", "TIFF", "AVIF") else {}
    original = encoded(kind, picture(SMALL), **options)
    rng = np.random.default_rng(KINDS.index(kind))
    for _ in range(120):
        content = bytearray(original)
        for _ in range(rng.integers(1, 5)):
            start = int(rng.integers(0, max(1, len(content))))
            stop = start + int(rng.integers(1, 9))
            action = rng.integers(4)
            if action == 0:
                content[start:stop] = rng.bytes(len(content[start:stop]))
            elif action == 1:
                del content[start:stop]
            elif action == 2:
                content[start:start] = content[start:stop]
            else:
                content[start:stop] = b"\xff" * len(content[start:stop])
        decodes_or_refuses(bytes(content))


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_cut_anywhere_never_crashes(kind: str) -> None:
    content = encoded(kind, picture(SMALL))
    for length in range(0, len(content), max(1, len(content) // 97)):
        decodes_or_refuses(content[:length])


def test_a_stream_that_fails_while_it_is_read_is_an_unreadable_image() -> None:
    class Failing(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            if self.tell() > 40:
                raise OSError(5, "Input/output error")
            return super().read(size)

    with pytest.raises(ImageError, match="Input/output error"):
        decode(Failing(encoded("PNG")))
