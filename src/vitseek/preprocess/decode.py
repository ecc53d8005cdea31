"""From a file, bytes or a stream to an upright RGB picture, or to an error that names it and says what to do."""

import io
import os
import stat
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from PIL import Image

from vitseek.errors import ConfigError, ImageError, ImageTooLargeError, MissingDecoderError, UnreadableImageError
from vitseek.preprocess import formats
from vitseek.preprocess.colour import to_rgb
from vitseek.preprocess.quiet import quiet_pillow

ImageSource = str | os.PathLike[str] | bytes | BinaryIO | Image.Image

DEFAULT_LIMIT_PIXELS = 200_000_000
"""Enough for the 200-megapixel sensors of telephones; decoding that many takes 0.8 GB, four bytes a pixel."""

LIMIT_VARIABLE = "VITSEEK_LIMIT_PIXELS"

ORIENTATION_TAG = 0x0112
# EXIF 2.32, tag Orientation: what turns the stored pixels upright.
UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def decode(
    source: ImageSource, *, limit_pixels: int | None = None, before_loading: Callable[[int], None] | None = None
) -> Image.Image:
    """Decode a picture: first frame, EXIF orientation applied, 8-bit RGB, transparency over white.

    Parameters
    ----------
    source
        A path, the bytes of a file, a binary stream, or a Pillow image.
    limit_pixels
        Refuse pictures with more pixels than this, judged by the header before anything is decoded. By default the
        environment variable ``VITSEEK_LIMIT_PIXELS``, or else `DEFAULT_LIMIT_PIXELS`.
    before_loading
        Called with the number of pixels that the header announces, before memory is taken for them: it may wait.

    Returns
    -------
    image in mode ``RGB``; a Pillow image that is upright RGB already is returned itself

    Raises
    ------
    UnreadableImageError
        If the source is not an image, is cut off or damaged, or cannot be read.
    MissingDecoderError
        If it is HEIC and pillow-heif is not installed.
    ImageTooLargeError
        If it has more pixels than the limit.
    """
    limit = _default_limit() if limit_pixels is None else limit_pixels
    name = source_name(source)
    with _as_image_error(name), quiet_pillow():
        if isinstance(source, Image.Image):
            _check_size(name, source.size, limit)
            source.load()
            return _upright(to_rgb(source), source)
        with _opened(name, source) as stream:
            return _decode_stream(name, stream, limit, before_loading)


def source_name(source: ImageSource) -> str:
    """What a message calls the source: printable on one line, whatever bytes the file's name is made of."""
    if isinstance(source, bytes):
        return f"image data ({len(source)} bytes)"
    if isinstance(source, str | os.PathLike):
        return _printable(os.fspath(source))
    path = getattr(source, "filename", None) or getattr(source, "name", None)
    if isinstance(path, str | bytes | os.PathLike) and path:
        return _printable(os.fsdecode(path))
    return "image" if isinstance(source, Image.Image) else "image stream"


def _printable(path: str) -> str:
    visible = path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in visible)


def _default_limit() -> int:
    text = os.environ.get(LIMIT_VARIABLE)
    if text is None:
        return DEFAULT_LIMIT_PIXELS
    try:
        limit = int(text)
    except ValueError:
        limit = 0
    if limit < 1:
        raise ConfigError(f"{LIMIT_VARIABLE} must be a positive whole number of pixels; it is {text!r}.")
    return limit


@contextmanager
def _as_image_error(name: str) -> Iterator[None]:
    """Turn whatever a decoder raises into an error that names the picture."""
    try:
        yield
    except (ImageError, ConfigError):
        raise
    except Image.DecompressionBombError as error:  # Pillow's own limit, in the few plug-ins that look at it
        raise ImageTooLargeError(name, f"{error} The header gave no warning of it; shrink the picture.") from error
    except MemoryError as error:
        raise UnreadableImageError(name, "not enough free memory to decode it; close something or shrink it") from error
    except Exception as error:
        # As wide as this on purpose: on damaged files Pillow's plug-ins have been seen to raise OSError, SyntaxError,
        # ValueError, TypeError, KeyError, IndexError, AttributeError, struct.error, zlib.error and more.
        text = str(error) or type(error).__name__
        if "truncated" in text.lower() or isinstance(error, EOFError):
            reason = f"it is cut off ({text}); copy or download it again"
        else:
            reason = f"it is damaged ({text}); copy or download it again, or save it anew with an image editor"
        raise UnreadableImageError(name, reason) from error


@contextmanager
def _opened(name: str, source: str | os.PathLike[str] | bytes | BinaryIO) -> Iterator[BinaryIO]:
    """A seekable binary stream at position 0; closed afterwards only if it was opened here."""
    if isinstance(source, bytes):
        yield io.BytesIO(source)
    elif isinstance(source, str | os.PathLike):
        with _open_file(name, Path(source)) as stream:
            yield stream
    else:
        try:
            source.seek(0)
        except (AttributeError, OSError):  # a pipe or a socket
            yield io.BytesIO(source.read())
        else:
            yield source


def _open_file(name: str, path: Path) -> BinaryIO:
    try:
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            raise UnreadableImageError(name, "it is a folder; name the pictures in it")
        if not stat.S_ISREG(mode):  # opening a named pipe would wait for ever
            raise UnreadableImageError(name, "it is not a regular file but a pipe, socket or device")
        return path.open("rb")
    except FileNotFoundError as error:
        reason = "it is a link to a file that is gone" if path.is_symlink() else "there is no such file; check the path"
        raise UnreadableImageError(name, reason) from error
    except PermissionError as error:
        raise UnreadableImageError(name, "no permission to read it; check its owner and mode") from error
    except (OSError, ValueError) as error:  # ValueError: a null character in the path
        text = getattr(error, "strerror", None) or error
        raise UnreadableImageError(name, f"it cannot be opened ({text}); check the path") from error


def _decode_stream(
    name: str, stream: BinaryIO, limit: int, before_loading: Callable[[int], None] | None
) -> Image.Image:
    prefix = stream.read(formats.SNIFF_BYTES)
    if not prefix:
        raise UnreadableImageError(name, "the file is empty (0 bytes); copy or download it again")
    refusal: Exception | None = None
    for format_name, factory in formats.candidates(prefix, Path(name).suffix.lower()):
        if format_name == "ICO":  # Pillow decodes an icon when it opens it
            for size in _icon_sizes(stream):
                _check_size(name, size, limit)
        stream.seek(0)
        try:
            image = factory(stream, "")
        except Exception as error:  # not of this format after all, or damaged; see _as_image_error
            refusal = error
            continue
        _check_size(name, image.size, limit)
        if before_loading is not None:
            before_loading(image.width * image.height)
        image.load()
        picture = _upright(to_rgb(image), image)
        picture.info = {}  # the orientation is dealt with: whoever decodes this picture again must not turn it again
        return picture
    if refusal is not None:
        raise refusal
    if formats.is_heif(prefix):
        raise MissingDecoderError(name, 'HEIC needs a decoder that is not installed: pip install "vitseek[heif]"')
    raise UnreadableImageError(name, f"it is not an image but {formats.describe(prefix)}; remove it or leave it out")


def _check_size(name: str, size: tuple[int, int], limit: int) -> None:
    width, height = size
    if width < 1 or height < 1:
        raise UnreadableImageError(name, f"it has no pixels ({width} × {height})")
    if width * height > limit:
        raise ImageTooLargeError(
            name,
            f"{width} × {height} = {width * height:,} pixels, but the limit is {limit:,}. If you trust the file, "
            f"raise the limit with the environment variable {LIMIT_VARIABLE}={width * height}, or shrink the picture.",
        )


def _icon_sizes(stream: BinaryIO) -> Iterator[tuple[int, int]]:
    """The true sizes of the PNG files inside an icon, whose own directory can only say up to 256."""
    stream.seek(4)
    count = int.from_bytes(stream.read(2), "little")
    directory = stream.read(16 * count)
    for entry in range(0, len(directory) - 15, 16):
        (offset,) = struct.unpack_from("<I", directory, entry + 12)
        stream.seek(offset)
        start = stream.read(24)
        if start.startswith(b"\x89PNG") and len(start) == 24:
            yield struct.unpack_from(">II", start, 16)


def _upright(picture: Image.Image, original: Image.Image) -> Image.Image:
    """Apply the EXIF orientation; broken EXIF data means that none is known, and does not lose the picture."""
    try:
        orientation = original.getexif().get(ORIENTATION_TAG, 1)
        turn = UPRIGHT.get(orientation)
    except Exception:  # the EXIF parser fails in as many ways as the decoders do
        return picture
    if turn is None:
        return picture
    turned = picture.transpose(turn)
    turned.info = {}
    return turned
