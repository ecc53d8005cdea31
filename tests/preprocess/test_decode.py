"""Decoding: every mode, format and orientation to an upright RGB picture, without side effects."""

import io
import os
import sys
import threading
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms

from tests.hostile.images import cmyk_jpeg, encoded, picture, sixteen_bit_png
from vitseek.errors import ConfigError, ImageTooLargeError, MissingDecoderError, UnreadableImageError
from vitseek.preprocess.image import decode

ONE_LEVEL = 1


def levels(image: Image.Image) -> np.ndarray:
    return np.asarray(image).astype(int)


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "PPM", "QOI", "DDS", "SGI", "PCX", "DIB", "TGA"])
def test_lossless_formats_give_the_pixels_that_were_saved(kind: str, tmp_path: Path) -> None:
    path = tmp_path / f"picture.{kind.lower()}"
    path.write_bytes(encoded(kind))
    np.testing.assert_array_equal(levels(decode(path)), levels(picture()))


def test_a_one_bit_bitmap_gives_the_pixels_that_were_saved() -> None:
    bitmap = picture().convert("1")
    np.testing.assert_array_equal(levels(decode(encoded("XBM", bitmap))), levels(bitmap.convert("RGB")))


@pytest.mark.parametrize("kind", ["EPS", "PDF", "MSP", "SPIDER", "ICNS"])
def test_formats_off_the_list_are_refused_though_pillow_writes_them(kind: str) -> None:
    mode = {"MSP": "1", "SPIDER": "F"}.get(kind, "RGB")
    with pytest.raises(UnreadableImageError, match="not an image but"):
        decode(encoded(kind, picture((64, 64)).convert(mode)))


@pytest.mark.parametrize(("kind", "options"), [("WEBP", {"lossless": True}), ("JPEG2000", {"irreversible": False})])
def test_lossless_variants_give_the_pixels_that_were_saved(kind: str, options: dict[str, bool]) -> None:
    np.testing.assert_array_equal(levels(decode(encoded(kind, **options))), levels(picture()))


@pytest.mark.parametrize(("kind", "tolerance"), [("JPEG", 6), ("WEBP", 12), ("AVIF", 12), ("GIF", 40)])
def test_lossy_formats_come_close(kind: str, tolerance: int) -> None:
    options = {"quality": 95} if kind != "GIF" else {}
    assert np.abs(levels(decode(encoded(kind, **options))) - levels(picture())).mean() < tolerance


def test_heic_is_read_when_its_extra_is_installed(tmp_path: Path) -> None:
    heif = pytest.importorskip("pillow_heif", reason="needs the extra: pip install 'vitseek[heif]'")
    buffer = io.BytesIO()
    heif.from_pillow(picture()).save(buffer, quality=95)
    decoded = decode(buffer.getvalue())
    assert np.abs(levels(decoded) - levels(picture())).mean() < 6
    assert "HEIF" not in Image.OPEN, "vitseek must not register decoders in everybody's Pillow"


def test_heic_without_its_extra_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    header = (24).to_bytes(4, "big") + b"ftypheic" + bytes(4) + b"mif1heic" + bytes(40)
    with pytest.raises(MissingDecoderError, match=r'pip install "vitseek\[heif\]"'):
        decode(header)


def stored_for(orientation: int, upright: Image.Image) -> Image.Image:
    """The pixels that this orientation turns into the upright picture."""
    undo = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,  # shown after a quarter turn clockwise, so stored a quarter turn back
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    return upright.transpose(undo[orientation]) if orientation in undo else upright


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_exif_orientation_comes_out_upright(orientation: int, kind: str) -> None:
    upright = picture()
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"WEBP": {"lossless": True}, "JPEG": {"quality": 95, "subsampling": 0}, "AVIF": {"quality": 95}}
    decoded = decode(encoded(kind, stored_for(orientation, upright), exif=exif, **options.get(kind, {})))
    assert decoded.size == upright.size
    error = np.abs(levels(decoded) - levels(upright))
    assert error.mean() < {"JPEG": 1.5, "AVIF": 1.5}.get(kind, 1e-9)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_heic_is_turned_once_and_not_twice(orientation: int) -> None:
    plugin = pytest.importorskip("pillow_heif.as_plugin", reason="needs the extra: pip install 'vitseek[heif]'")
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = stored_for(orientation, picture()).copy()
    stored.encoderinfo = {"exif": exif.tobytes(), "quality": 95}
    buffer = io.BytesIO()
    plugin._save_heif(stored, buffer, "picture.heic")  # turns the EXIF orientation into HEIF's own
    decoded = decode(buffer.getvalue())
    assert decoded.size == picture().size
    assert np.abs(levels(decoded) - levels(picture())).mean() < 1.5


@pytest.mark.parametrize("orientation", [0, 9, 255])
def test_an_orientation_that_does_not_exist_is_ignored(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    np.testing.assert_array_equal(levels(decode(encoded("PNG", exif=exif))), levels(picture()))


def test_decoding_a_decoded_picture_does_not_turn_it_again() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    once = decode(encoded("JPEG", exif=exif))
    assert decode(once).size == once.size == (53, 67)


def test_transparency_shows_white_and_half_transparency_half_white() -> None:
    image = Image.new("RGBA", (3, 1), (0, 0, 0, 0))
    image.putpixel((1, 0), (100, 0, 200, 255))
    image.putpixel((2, 0), (100, 0, 200, 128))
    shown = levels(decode(encoded("PNG", image)))[0]
    assert shown[0].tolist() == [255, 255, 255]
    assert shown[1].tolist() == [100, 0, 200]
    assert np.abs(shown[2] - [177, 127, 227]).max() <= ONE_LEVEL


def test_grey_with_alpha_shows_white() -> None:
    image = Image.new("LA", (2, 1), (40, 0))
    image.putpixel((1, 0), (40, 255))
    assert levels(decode(encoded("PNG", image)))[0].tolist() == [[255] * 3, [40] * 3]


def test_a_transparent_palette_colour_shows_white() -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 200, 100, 50])
    image.putpixel((1, 0), 1)
    shown = levels(decode(encoded("PNG", image, transparency=0)))[0]
    assert shown.tolist() == [[255] * 3, [200, 100, 50]]


def test_a_palette_with_alpha_per_colour_is_blended() -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([0, 0, 0, 200, 100, 50])
    image.putpixel((1, 0), 1)
    shown = levels(decode(encoded("PNG", image, transparency=bytes([128, 255]))))[0]
    assert shown[1].tolist() == [200, 100, 50]
    assert np.abs(shown[0] - 127).max() <= ONE_LEVEL


@pytest.mark.parametrize(("mode", "key"), [("RGB", (10, 20, 30)), ("L", 10)])
def test_a_colour_declared_transparent_shows_white(mode: str, key: int | tuple[int, ...]) -> None:
    image = Image.new(mode, (2, 1), key)
    image.putpixel((1, 0), tuple(k + 90 for k in key) if isinstance(key, tuple) else key + 90)
    shown = levels(decode(encoded("PNG", image, transparency=key)))[0]
    assert shown[0].tolist() == [255] * 3
    assert shown[1].tolist() == ([100, 110, 120] if mode == "RGB" else [100] * 3)


def test_one_bit_pictures_are_black_and_white() -> None:
    image = Image.new("1", (2, 1))
    image.putpixel((1, 0), 1)
    assert levels(decode(encoded("TIFF", image)))[0].tolist() == [[0] * 3, [255] * 3]


def test_cmyk_comes_out_in_the_right_colours(tmp_path: Path) -> None:
    assert np.abs(levels(decode(cmyk_jpeg(tmp_path))) - levels(picture())).mean() < 6


def test_cmyk_inverted_by_adobe_is_not_a_negative() -> None:
    content = encoded("JPEG", Image.new("CMYK", (16, 16), (0, 255, 255, 0)), quality=95)
    assert b"Adobe" in content, "Pillow writes the marker, and with it inverted values, as Photoshop does"
    assert np.abs(levels(decode(content)) - [255, 0, 0]).max() < 6
    tiff = encoded("TIFF", Image.new("CMYK", (16, 16), (0, 255, 255, 0)))
    assert np.abs(levels(decode(tiff)) - [255, 0, 0]).max() <= ONE_LEVEL


def test_lab_tiff_is_converted() -> None:
    to_lab = ImageCms.buildTransform(ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), "RGB", "LAB")
    lab = ImageCms.applyTransform(Image.new("RGB", (5, 3), (200, 60, 30)), to_lab)
    assert lab is not None
    assert np.abs(levels(decode(encoded("TIFF", lab))) - [200, 60, 30]).max() < 6


def test_sixteen_bit_grey_is_scaled_not_clipped(tmp_path: Path) -> None:
    grey = levels(decode(sixteen_bit_png(tmp_path)))
    assert grey[0, 0].tolist() == [0] * 3
    assert grey[-1, -1].tolist() == [255] * 3
    assert abs(grey.mean() - 127.5) < 1
    assert len(np.unique(grey)) == 256


@pytest.mark.parametrize("order", ["<u2", ">u2"])
def test_sixteen_bit_tiff_is_scaled_in_either_byte_order(order: str) -> None:
    values = np.array([[0, 257, 32768, 65535]], dtype=np.uint16)
    image = Image.frombytes("I;16" if order == "<u2" else "I;16B", (4, 1), values.astype(order).tobytes())
    assert levels(decode(encoded("TIFF", image)))[0, :, 0].tolist() == [0, 1, 128, 255]


def test_sixteen_bit_pgm_is_scaled() -> None:
    content = b"P5 3 1 65535\n" + np.array([0, 32768, 65535], dtype=">u2").tobytes()
    assert levels(decode(content))[0, :, 0].tolist() == [0, 128, 255]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0.0, 0.5, 1.0], [0, 128, 255]),  # the scale 0…1
        ([0.0, 100.0, 255.0], [0, 100, 255]),  # the scale 0…255
        ([-1000.0, 0.0, 1000.0], [0, 128, 255]),  # any other is stretched
        ([np.nan, np.inf, 1.0], [0, 0, 255]),
        ([7e9, 7e9, 7e9], [0, 0, 0]),
    ],
)
def test_float_tiff_is_scaled_by_its_range(values: list[float], expected: list[int]) -> None:
    content = encoded("TIFF", Image.fromarray(np.array([values], dtype=np.float32)))
    assert levels(decode(content))[0, :, 0].tolist() == expected


@pytest.mark.parametrize(
    ("values", "expected"),
    [([0, 100, 255], [0, 100, 255]), ([0, 257, 65535], [0, 1, 255]), ([-(2**30), 0, 2**30], [0, 128, 255])],
)
def test_integer_tiff_is_scaled_by_its_range(values: list[int], expected: list[int]) -> None:
    content = encoded("TIFF", Image.fromarray(np.array([values], dtype=np.int32)))
    assert levels(decode(content))[0, :, 0].tolist() == expected


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF", "AVIF"])
def test_the_first_frame_of_a_moving_picture_is_taken(kind: str) -> None:
    frames = [Image.new("RGB", (31, 17), colour) for colour in ((230, 20, 20), (20, 230, 20), (20, 20, 230))]
    content = encoded(kind, frames[0], save_all=True, append_images=frames[1:])
    red, green, blue = levels(decode(content)).mean(axis=(0, 1))
    assert red > 200
    assert max(green, blue) < 50


def test_a_stream_is_read_from_its_start_and_left_open() -> None:
    stream = io.BytesIO(encoded("PNG"))
    stream.seek(40)
    np.testing.assert_array_equal(levels(decode(stream)), levels(picture()))
    assert not stream.closed


def test_a_stream_that_cannot_seek_is_read() -> None:
    reader, writer = os.pipe()
    content = encoded("PNG", picture((19, 13)))
    feeder = threading.Thread(target=lambda: (os.write(writer, content), os.close(writer)))
    feeder.start()
    with os.fdopen(reader, "rb") as stream:
        assert decode(stream).size == (19, 13)
    feeder.join()


def test_a_stream_with_a_name_is_called_by_it(tmp_path: Path) -> None:
    path = tmp_path / "nothing.png"
    path.write_bytes(b"nothing at all")
    with path.open("rb") as stream, pytest.raises(UnreadableImageError, match=r"nothing\.png"):
        decode(stream)


def test_a_pillow_image_is_not_changed() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    with Image.open(io.BytesIO(encoded("JPEG", exif=exif))) as original:
        assert decode(original).size == (53, 67)
        assert original.size == (67, 53)
        assert original.getexif()[0x0112] == 6


def test_the_limit_holds_per_call_and_not_by_pillows_global(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 11)  # Pillow itself would raise from 23 pixels on
    content = encoded("PNG")
    assert decode(content).size == (67, 53)
    assert decode(content, limit_pixels=67 * 53).size == (67, 53)
    with pytest.raises(ImageTooLargeError, match=r"67 × 53 = 3,551 pixels, but the limit is 3,550"):
        decode(content, limit_pixels=67 * 53 - 1)
    with pytest.raises(ImageTooLargeError):
        decode(picture(), limit_pixels=10)


def test_the_limit_can_be_raised_by_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VITSEEK_LIMIT_PIXELS", "3550")
    with pytest.raises(ImageTooLargeError):
        decode(encoded("PNG"))
    monkeypatch.setenv("VITSEEK_LIMIT_PIXELS", "3551")
    assert decode(encoded("PNG")).size == (67, 53)


@pytest.mark.parametrize("text", ["", "many", "0", "-5", "1e9"])
def test_a_limit_that_is_no_number_is_refused(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VITSEEK_LIMIT_PIXELS", text)
    with pytest.raises(ConfigError, match="VITSEEK_LIMIT_PIXELS must be a positive whole number"):
        decode(encoded("PNG"))


def test_no_warning_of_pillow_leaks_and_the_filters_are_restored_from_many_threads() -> None:
    image = Image.new("P", (31, 17))
    image.putpalette([1, 2, 3] * 256)
    content = encoded("GIF", image, transparency=0)
    failures: list[BaseException] = []

    def work() -> None:
        try:
            for _ in range(20):
                decode(content)
        except BaseException as error:
            failures.append(error)

    before = list(warnings.filters)
    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert list(warnings.filters) == before


def test_warnings_of_pillow_are_heard_again_after_decoding() -> None:
    decode(encoded("PNG"))
    with pytest.warns(Image.DecompressionBombWarning):
        Image._decompression_bomb_check((100_000, 1000))


@pytest.mark.parametrize("length", [1, 2, 3, 5, 31])
def test_a_text_of_any_length_is_called_text(length: int) -> None:
    with pytest.raises(UnreadableImageError, match="it is not an image but text"):
        decode(b"Dear diary, this is no photograph"[:length])


def test_a_missing_file_a_folder_and_a_null_character_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(UnreadableImageError, match="no such file"):
        decode(tmp_path / "none.jpg")
    with pytest.raises(UnreadableImageError, match="it is a folder"):
        decode(tmp_path)
    with pytest.raises(UnreadableImageError, match="cannot be opened"):
        decode(f"{tmp_path}/a\0b.jpg")
