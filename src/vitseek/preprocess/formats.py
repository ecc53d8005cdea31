"""Which image formats are read, how each is told from its first bytes, and by which decoder.

Pillow's own ``Image.open`` is not used, for three reasons: it checks for decompression bombs against a limit that
is global to the process; it tries every plug-in it knows, among them some that start Ghostscript (EPS) or read
files within files; and it imports them all, which costs a cold start 30 ms. The plug-ins are called directly
instead, each imported when a file of its kind turns up.
"""

from codecs import getincrementaldecoder
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import BinaryIO

from PIL import Image, ImageFile

SNIFF_BYTES = 32  # Pillow's plug-ins look at 16; the brands of a HEIF file may reach further

Factory = Callable[[BinaryIO, str], ImageFile.ImageFile]


@dataclass(frozen=True)
class Format:
    """One format that is read: Pillow's name, its plug-in's module, and the suffixes that folders are walked for."""

    name: str
    module: str
    suffixes: tuple[str, ...]


# In the order in which they are tried. Left out on purpose: EPS (runs Ghostscript), WMF/EMF (Windows only), FPX/MIC
# (need olefile), GRIB/HDF5/BUFR/MPEG (stubs that decode nothing), ICNS, SPIDER, IPTC, MCIDAS and others that hold no
# photographs.
FORMATS = (
    Format("JPEG", "PIL.JpegImagePlugin", (".jpg", ".jpeg", ".jpe", ".jfif", ".mpo")),
    Format("PNG", "PIL.PngImagePlugin", (".png", ".apng")),
    Format("WEBP", "PIL.WebPImagePlugin", (".webp",)),
    Format("GIF", "PIL.GifImagePlugin", (".gif",)),
    Format("TIFF", "PIL.TiffImagePlugin", (".tif", ".tiff")),
    Format("BMP", "PIL.BmpImagePlugin", (".bmp",)),
    Format("AVIF", "PIL.AvifImagePlugin", (".avif", ".avifs")),
    Format("JPEG2000", "PIL.Jpeg2KImagePlugin", (".jp2", ".j2k", ".j2c", ".jpc", ".jpf", ".jpx")),
    Format("PPM", "PIL.PpmImagePlugin", (".ppm", ".pgm", ".pbm", ".pnm", ".pfm")),
    Format("ICO", "PIL.IcoImagePlugin", (".ico",)),
    Format("PSD", "PIL.PsdImagePlugin", (".psd",)),
    Format("QOI", "PIL.QoiImagePlugin", (".qoi",)),
    Format("DDS", "PIL.DdsImagePlugin", (".dds",)),
    Format("SGI", "PIL.SgiImagePlugin", (".sgi",)),
    Format("SUN", "PIL.SunImagePlugin", ()),
    Format("PCX", "PIL.PcxImagePlugin", (".pcx",)),
    Format("DIB", "PIL.BmpImagePlugin", (".dib",)),
    Format("XBM", "PIL.XbmImagePlugin", (".xbm",)),
    Format("XPM", "PIL.XpmImagePlugin", (".xpm",)),
)
TGA = Format("TGA", "PIL.TgaImagePlugin", (".tga",))  # has no signature: tried only for files that are called so
HEIF_SUFFIXES = (".heic", ".heif", ".hif")
HEIF_BRANDS = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1"})

IMAGE_SUFFIXES = frozenset(s for row in (*FORMATS, TGA) for s in row.suffixes) | frozenset(HEIF_SUFFIXES)
"""Suffixes, in lower case and with the dot, of files that are taken for images when a folder is walked."""


def candidates(prefix: bytes, suffix: str) -> list[tuple[str, Factory]]:
    """Decoders that accept a file's first bytes, most likely first, each with the name of its format."""
    found: list[tuple[str, Factory]] = []
    padded = prefix.ljust(SNIFF_BYTES, b"\0")  # some plug-ins fail on a file of three bytes instead of refusing it
    for row in (*FORMATS, TGA) if suffix in TGA.suffixes else FORMATS:
        import_module(row.module)
        factory, accepts = Image.OPEN[row.name]
        verdict = accepts is None or accepts(padded)
        if verdict is True:  # a string says why the plug-in cannot work here, such as "not compiled in"
            found.append((row.name, factory))
            if row.name in ("JPEG", "PNG"):
                break  # signatures that nothing else shares: spare the import of the rest
    if is_heif(prefix) and (decoder := _heif_factory()):
        found.append(("HEIF", decoder))
    return found


def is_heif(prefix: bytes) -> bool:
    """Whether the file declares itself HEIF (``mif1`` may also hold AVIF, which is tried first)."""
    return prefix[4:8] == b"ftyp" and prefix[8:12] in HEIF_BRANDS


def _heif_factory() -> Factory | None:
    try:
        from pillow_heif import HeifImageFile
    except ImportError:
        return None
    return HeifImageFile  # called directly: registering it would change Pillow for all


def describe(prefix: bytes) -> str:
    """What a file that no decoder accepts looks like, for the message to the user."""
    head = prefix.lstrip().lower()
    for start, text in (
        (b"%pdf", "a PDF document"),
        (b"%!ps", "a PostScript file, which vitseek does not run"),
        (b"<svg", "an SVG drawing, not pixels"),
        (b"<!doctype html", "a web page"),
        (b"<html", "a web page"),
        (b"<?xml", "an XML file"),
        (b"pk\x03\x04", "a ZIP archive"),
        (b"\x1f\x8b", "a gzip archive"),
        (b"version https://git-lfs", "a Git LFS pointer; fetch the real file with `git lfs pull`"),
    ):
        if head.startswith(start):
            return text
    if prefix[4:8] == b"ftyp":
        return "a video or an image of a kind that is not read"
    if not prefix.strip(b"\0"):
        return "zero bytes only"
    try:
        text = getincrementaldecoder("utf-8")().decode(prefix)  # incremental: a letter cut in two is no error
    except UnicodeDecodeError:
        return "an unknown format"
    return "text" if all(letter.isprintable() or letter.isspace() for letter in text) else "an unknown format"
