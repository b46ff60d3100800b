"""Fonts that hold a text's characters: Pillow's own where it does, one of this machine's where not;
what none of them has is written without accents, or escaped."""

from __future__ import annotations

import functools
import unicodedata
from typing import Any

from PIL import ImageFont

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

# Files by name, as Pillow finds them in the folders of Linux, macOS and Windows.
_FILES = (
    "DejaVuSans.ttf",
    "NotoSans-Regular.ttf",
    "NotoSansCJK-Regular.ttc",
    "DroidSansFallbackFull.ttf",
    "wqy-microhei.ttc",
    "wqy-zenhei.ttc",
    "Arial Unicode.ttf",
    "Hiragino Sans GB.ttc",
    "arial.ttf",
    "msyh.ttc",
    "malgun.ttf",
    "YuGothM.ttc",
)
_NO_CHARACTER = "\uffff"


def font_for(text: str, size: int) -> tuple[Font, str]:
    """The font that has most of `text`, and `text` with what it lacks written in ASCII."""
    text = unicodedata.normalize("NFC", text)  # as macOS does not write names of files
    characters = {character for character in text if not character.isspace()}
    best: Font = ImageFont.load_default(size)
    missing = _missing(best, characters)
    for font in _of_this_machine(size) if missing else ():
        lacks = _missing(font, characters)
        if len(lacks) < len(missing):
            best, missing = font, lacks
    return best, "".join(_written(c) if c in missing else c for c in text)


def _written(character: str) -> str:
    """A letter without its accent, or an escape such as \\u72ac."""
    letter = unicodedata.normalize("NFKD", character)[0]
    return letter if letter.isascii() else character.encode("unicode_escape").decode()


def _missing(font: Font, characters: set[str]) -> set[str]:
    if not isinstance(font, ImageFont.FreeTypeFont):  # a Pillow without FreeType
        return {character for character in characters if not character.isascii()}
    box = _drawn(font, _NO_CHARACTER)
    return {character for character in characters if _drawn(font, character) == box}


def _drawn(font: ImageFont.FreeTypeFont, character: str) -> bytes:
    mask: Any = font.getmask(character)
    return bytes(mask)


@functools.cache
def _of_this_machine(size: int) -> tuple[ImageFont.FreeTypeFont, ...]:
    found = []
    for name in _FILES:
        try:
            found.append(ImageFont.truetype(name, size))
        except OSError:
            continue
    return tuple(found)
