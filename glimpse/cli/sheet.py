"""A contact sheet: thumbnails with score and caption."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont, ImageOps

from glimpse.cli.fonts import Font, font_for
from glimpse.pictures.files import readable_formats
from glimpse.results import Hit

COLUMNS = 5
MIN_ROWS = 2
THUMBNAIL = 150  # pixels a side, as in the tutorial's sheet

_GAP = 18
_MARGIN = 28
_TITLE_HEIGHT = 46
_TEXT_HEIGHT = 54
_CAPTION_LINES = 2
_RADIUS = 8
_BACKGROUND = (246, 246, 244)
_EMPTY = (226, 226, 222)
_INK = (38, 38, 40)
_FAINT = (120, 120, 122)


@dataclass(frozen=True)
class Tile:
    """One picture of a sheet: its file (None: not at hand), its score and the words below it."""

    path: Path | None
    score: float
    caption: str


def tile(hit: Hit) -> Tile:
    """A hit's tile. The caption is its metadata's "caption", or its file's name, or its id."""
    caption = hit.metadata.get("caption")
    if not isinstance(caption, str) or not caption:
        caption = hit.uri.rstrip("/").rpartition("/")[2] or hit.id
    return Tile(hit.path, hit.score, caption)


def contact_sheet(title: str, tiles: Sequence[Tile]) -> Image.Image:
    """A sheet of 5 columns, 2 rows or as many as are needed, under the title; RGB.

    A file that cannot be read as a picture leaves an empty place with its caption.
    """
    rows = max(MIN_ROWS, -(-len(tiles) // COLUMNS))
    width = 2 * _MARGIN + COLUMNS * THUMBNAIL + (COLUMNS - 1) * _GAP
    height = 2 * _MARGIN + _TITLE_HEIGHT + rows * (THUMBNAIL + _TEXT_HEIGHT) + (rows - 1) * _GAP
    sheet = Image.new("RGB", (width, height), _BACKGROUND)
    draw = ImageDraw.Draw(sheet)
    font, title = font_for(title, 26)
    title = _shortened(draw, title, font, width - 2 * _MARGIN)
    draw.text((_MARGIN, _MARGIN - 6), title, fill=_INK, font=font)
    for number, one in enumerate(tiles):
        row, column = divmod(number, COLUMNS)
        left = _MARGIN + column * (THUMBNAIL + _GAP)
        top = _MARGIN + _TITLE_HEIGHT + row * (THUMBNAIL + _TEXT_HEIGHT + _GAP)
        _place(sheet, draw, one, left, top)
    return sheet


def _place(sheet: Image.Image, draw: ImageDraw.ImageDraw, one: Tile, left: int, top: int) -> None:
    picture = _thumbnail(one.path)
    if picture is None:
        box = (left, top, left + THUMBNAIL - 1, top + THUMBNAIL - 1)
        draw.rounded_rectangle(box, _RADIUS, fill=_EMPTY)
        centre = (left + THUMBNAIL / 2, top + THUMBNAIL / 2)
        draw.text(centre, "no picture", fill=_FAINT, font=ImageFont.load_default(14), anchor="mm")
    else:
        sheet.paste(picture, (left, top), _rounded_mask())
    score_font = ImageFont.load_default(15)
    draw.text((left, top + THUMBNAIL + 5), f"{one.score:.3f}", fill=_INK, font=score_font)
    caption_font, caption = font_for(one.caption, 12)
    caption = "\n".join(_wrapped(draw, caption, caption_font, THUMBNAIL))
    place = (left, top + THUMBNAIL + 24)
    draw.multiline_text(place, caption, fill=_FAINT, font=caption_font, spacing=2)


def _thumbnail(path: Path | None) -> Image.Image | None:
    """The centre square of a picture as a viewer shows it, or None when there is no reading it."""
    if path is None:
        return None
    formats = readable_formats()  # HEIC among them where pillow-heif is installed
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # large pictures: the bomb itself is an error
            with Image.open(path, formats=formats) as picture:
                picture.draft("RGB", (2 * THUMBNAIL, 2 * THUMBNAIL))
                upright = ImageOps.exif_transpose(picture).convert("RGBA")
    except Exception:  # broken files make Pillow raise almost every built-in exception
        return None
    square = ImageOps.fit(upright, (THUMBNAIL, THUMBNAIL), Image.Resampling.LANCZOS)
    ground = Image.new("RGBA", square.size, _BACKGROUND)
    return Image.alpha_composite(ground, square).convert("RGB")


def _rounded_mask() -> Image.Image:
    large = Image.new("L", (4 * THUMBNAIL, 4 * THUMBNAIL), 0)
    box = (0, 0, 4 * THUMBNAIL - 1, 4 * THUMBNAIL - 1)
    ImageDraw.Draw(large).rounded_rectangle(box, 4 * _RADIUS, fill=255)
    return large.reduce(4)


def _wrapped(draw: ImageDraw.ImageDraw, text: str, font: Font, width: int) -> list[str]:
    """`text` on at most two lines, broken between words, the last one cut with dots."""
    words, lines = text.split(), []
    while words and len(lines) < _CAPTION_LINES - 1:
        count = len(words)
        while count > 1 and draw.textlength(" ".join(words[:count]), font=font) > width:
            count -= 1
        lines.append(_shortened(draw, " ".join(words[:count]), font, width))
        words = words[count:]
    return [*lines, _shortened(draw, " ".join(words), font, width)] if words else lines


def _shortened(draw: ImageDraw.ImageDraw, text: str, font: Font, width: int) -> str:
    """`text` on one line, cut with dots where it is wider than `width` pixels."""
    text = " ".join(text.split())
    if draw.textlength(text, font=font) <= width:
        return text
    while text and draw.textlength(text + "…", font=font) > width:
        text = text[:-1]
    return text.rstrip() + "…"
