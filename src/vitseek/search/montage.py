"""Queries and their matches as one picture: a contact sheet for a report or a chat."""

import math
import os
import tempfile
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from vitseek.errors import ImageError, StorageError, UsageError
from vitseek.preprocess.image import ImageSource, decode
from vitseek.search.results import Match, one_line

FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP"}
MAX_SHOWN = 200  # matches of one query; a sheet of more is no picture any more

PAPER, INK, FAINT = (255, 255, 255), (24, 27, 31), (112, 118, 126)
MAT, TRACK, ACCENT = (241, 243, 245), (226, 230, 234), (34, 110, 214)
MARGIN, GAP = 28, 18  # px
JPEG_QUALITY = 90


@dataclass(frozen=True, slots=True)
class Panel:
    """One query with its matches. ``picture`` is None for a query that is no picture."""

    title: str
    picture: ImageSource | None
    matches: Sequence[Match]


def montage(panels: Sequence[Panel], target: Path) -> list[str]:
    """Draw the panels below each other and write them to ``target``, whose ending decides the format.

    Returns
    -------
    Notes: pictures that could not be shown (a grey tile stands in their place), matches beyond `MAX_SHOWN`.

    Raises
    ------
    UsageError
        If the ending is none of `FORMATS`, or the file is a query or a match.
    StorageError
        If the file cannot be written; an older file of that name stays as it was.
    """
    check_target(target, panels)
    notes: list[str] = []
    sheets = [_sheet(panel, notes) for panel in panels]
    width, height = max(sheet.width for sheet in sheets), sum(sheet.height for sheet in sheets)
    whole = Image.new("RGB", (width, height), PAPER)
    top = 0
    for sheet in sheets:
        whole.paste(sheet, (0, top))
        if top:
            ImageDraw.Draw(whole).line((MARGIN, top, width - MARGIN, top), TRACK, 1)
        top += sheet.height
    _write(whole, target)
    return notes


def check_target(target: Path, panels: Sequence[Panel] = ()) -> None:
    """Refuse what cannot or must not be written, before time is spent on a search."""
    if target.suffix.lower() not in FORMATS:
        raise UsageError(
            f"cannot save the montage to '{one_line(str(target))}': the name must end in {', '.join(FORMATS)}, "
            "which decides the format"
        )
    if target.is_dir() or not target.parent.is_dir():
        place = f"'{one_line(str(target.parent))}' is no folder" if not target.is_dir() else "this is a folder"
        raise UsageError(f"cannot save the montage to '{one_line(str(target))}': {place}")
    if not target.exists():
        return
    for panel in panels:
        query = [panel.picture] if isinstance(panel.picture, (str, os.PathLike)) else []
        for path in (*query, *(match.path for match in panel.matches)):
            if Path(path).exists() and target.samefile(path):
                raise UsageError(
                    f"'{one_line(str(target))}' is one of the pictures that were searched; "
                    "the montage would overwrite it: choose another name"
                )


def _sheet(panel: Panel, notes: list[str]) -> Image.Image:
    matches = panel.matches[:MAX_SHOWN]
    if len(matches) < len(panel.matches):
        notes.append(f"the montage shows the first {MAX_SHOWN} of {len(panel.matches)} matches")
    tile = 224 if len(matches) <= 24 else 160 if len(matches) <= 60 else 112
    columns = min(max(len(matches), 1), max(5, math.ceil(math.sqrt(1.6 * len(matches)))))
    rows = max(1, math.ceil(len(matches) / columns))
    small, large = _font(round(9 + tile / 37)), _font(round(11 + tile / 28))
    line = round(small.size * 1.4)
    cell = tile + 10 + round(large.size * 1.35) + line
    side = cell + GAP + tile if rows > 1 else tile  # the query ends where the second row's pictures end

    width = MARGIN + side + 2 * GAP + columns * (tile + GAP) - GAP + MARGIN
    height = MARGIN + max(rows * (cell + GAP) - GAP, side + 10 + 3 * line) + MARGIN
    sheet = Image.new("RGB", (width, height), PAPER)
    draw = ImageDraw.Draw(sheet)

    if panel.picture is None:
        draw.rectangle((MARGIN, MARGIN, MARGIN + side - 1, MARGIN + side - 1), MAT)
        _write_block(draw, (MARGIN, MARGIN), panel.title, large, side)
    else:
        _place(sheet, panel.picture, (MARGIN, MARGIN), side, small, notes)
        draw.rectangle((MARGIN - 4, MARGIN - 4, MARGIN + side + 3, MARGIN + side + 3), outline=ACCENT, width=3)
    _write_line(draw, (MARGIN, MARGIN + side + 12), "query", large, ACCENT, side)
    _write_line(draw, (MARGIN, MARGIN + side + 12 + round(large.size * 1.35)), panel.title, small, FAINT, side)

    left = MARGIN + side + 2 * GAP
    if not matches:
        _write_line(draw, (left, MARGIN), "nothing found", large, FAINT, tile)
    full = max([1.0, *(match.score for match in matches)])  # standard scores, of a search in two spaces, pass 1
    for index, match in enumerate(matches):
        x, y = left + index % columns * (tile + GAP), MARGIN + index // columns * (cell + GAP)
        _place(sheet, match.path, (x, y), tile, small, notes)
        draw.rectangle((x, y + tile, x + tile - 1, y + tile + 3), TRACK)
        filled = round(tile * min(max(match.score / full, 0), 1))
        if filled:
            draw.rectangle((x, y + tile, x + filled - 1, y + tile + 3), ACCENT)
        score = f"{match.score:.3f}"
        score_left = x + tile - large.getlength(score)
        _write_line(draw, (x, y + tile + 9), str(index + 1), large, INK, tile)
        draw.text((score_left, y + tile + 9), score, INK, large)
        caption = ", ".join(match.labels) or match.path.name
        _write_line(draw, (x, y + tile + 9 + round(large.size * 1.35)), caption, small, FAINT, tile)
    return sheet


def _font(size: int) -> ImageFont.FreeTypeFont:
    font = ImageFont.load_default(size)
    if not isinstance(font, ImageFont.FreeTypeFont):
        raise UsageError("this Pillow was built without FreeType, which captions need: pip install --upgrade pillow")
    return font


def _place(
    sheet: Image.Image,
    source: ImageSource,
    at: tuple[int, int],
    side: int,
    font: ImageFont.FreeTypeFont,
    notes: list[str],
) -> None:
    """The picture, whole, in the middle of a square; a grey tile where it cannot be read."""
    x, y = at
    draw = ImageDraw.Draw(sheet)
    draw.rectangle((x, y, x + side - 1, y + side - 1), MAT)
    try:
        picture = decode(source)
    except ImageError as error:
        notes.append(f"not shown in the montage: {error}")
        words = "not readable" if not isinstance(source, Path) or source.exists() else "file is gone"
        draw.line((x, y, x + side - 1, y + side - 1), TRACK, 2)
        draw.line((x, y + side - 1, x + side - 1, y), TRACK, 2)
        draw.text((x + side / 2, y + side / 2), words, FAINT, font, anchor="mm", stroke_width=6, stroke_fill=MAT)
        return
    scale = side / max(picture.size)
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    kind = Image.Resampling.NEAREST if scale >= 4 else Image.Resampling.LANCZOS  # a 32 px icon stays crisp
    fitted = picture.resize(size, kind, reducing_gap=3.0)
    sheet.paste(fitted, (x + (side - size[0]) // 2, y + (side - size[1]) // 2))


def _write_line(
    draw: ImageDraw.ImageDraw,
    at: tuple[float, float],
    text: str,
    font: ImageFont.FreeTypeFont,
    colour: tuple[int, int, int],
    width: float,
) -> None:
    """One line of text; what is too wide loses its middle, because names differ at their ends."""
    text = _drawable(one_line(text), font)
    shown, keep = text, len(text)
    while keep > 2 and font.getlength(shown) > width:
        keep -= 1
        shown = f"{text[: keep // 2]}…{text[len(text) - (keep - keep // 2) :]}"
    draw.text(at, shown, colour, font)


def _write_block(
    draw: ImageDraw.ImageDraw, at: tuple[int, int], text: str, font: ImageFont.FreeTypeFont, side: int
) -> None:
    """Words in the place of a picture: in the middle of a square, broken between them, as many lines as fit."""
    lines = [""]
    for word in _drawable(one_line(text), font).split():
        longer = f"{lines[-1]} {word}".strip()
        lines = [*lines[:-1], longer] if font.getlength(longer) <= side - 2 * GAP else [*lines, word]
    height = round(font.size * 1.4)
    lines = [line for line in lines if line][: max(1, (side - 2 * GAP) // height)]
    top = at[1] + (side - height * len(lines)) // 2
    for number, line in enumerate(lines):
        left = at[0] + max(GAP, (side - font.getlength(line)) / 2)
        _write_line(draw, (left, top + number * height), line, font, INK, side - 2 * GAP)


def _drawable(text: str, font: ImageFont.FreeTypeFont) -> str:
    """Letters that the font lacks: without their accent, or as question marks, instead of empty boxes."""
    box = bytes(font.getmask("\uffff"))

    def known(letter: str) -> bool:
        return letter == " " or bytes(font.getmask(letter)) != box

    shown = ""
    for letter in unicodedata.normalize("NFC", text):
        base = unicodedata.normalize("NFKD", letter)[0]
        shown += letter if known(letter) else base if known(base) else "?"
    return shown


def _write(picture: Image.Image, target: Path) -> None:
    # Beside the target and then renamed: a full disk leaves no half picture under its name.
    name = ""
    try:
        handle, name = tempfile.mkstemp(dir=target.parent, prefix=".montage-", suffix=target.suffix)
        with os.fdopen(handle, "wb") as file:
            kind = FORMATS[target.suffix.lower()]
            picture.save(file, kind, **({} if kind == "PNG" else {"quality": JPEG_QUALITY}))
        umask = os.umask(0)
        os.umask(umask)
        Path(name).chmod(0o666 & ~umask)  # mkstemp's 0600 is for secrets
        Path(name).replace(target)
    except OSError as error:
        if name:
            Path(name).unlink(missing_ok=True)
        reason = error.strerror or error
        raise StorageError(f"cannot save the montage to '{one_line(str(target))}': {reason}") from error
