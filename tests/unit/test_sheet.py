"""The contact sheet: its grid, what stands in it, and files that are no pictures."""

from __future__ import annotations

import pytest
from PIL import Image, ImageFont

from glimpse.cli import fonts, sheet
from glimpse.cli.fonts import font_for
from glimpse.cli.sheet import THUMBNAIL, Tile, contact_sheet, tile
from glimpse.pictures.files import readable_formats
from glimpse.results import Hit

RED, GREEN = (255, 0, 0), (0, 128, 0)


def corner(number: int) -> tuple[int, int]:
    """Left and top of a tile."""
    row, column = divmod(number, 5)
    left = sheet._MARGIN + column * (THUMBNAIL + sheet._GAP)
    height = THUMBNAIL + sheet._TEXT_HEIGHT + sheet._GAP
    return left, sheet._MARGIN + sheet._TITLE_HEIGHT + row * height


def middle(picture: Image.Image, number: int):
    left, top = corner(number)
    return picture.getpixel((left + THUMBNAIL // 2, top + THUMBNAIL // 2 + 30))


@pytest.fixture
def red(tmp_path):
    path = tmp_path / "red.png"
    Image.new("RGB", (400, 100), RED).save(path)
    return path


def test_ten_hits_fill_five_columns_and_two_rows(red):
    picture = contact_sheet("a query", [Tile(red, 0.5, "red")] * 10)
    assert [middle(picture, number) for number in range(10)] == [RED] * 10
    assert picture.mode == "RGB"


def test_a_sheet_of_few_hits_is_as_large_and_one_of_more_grows_by_rows(red):
    none, ten, eleven = (contact_sheet("q", [Tile(red, 0, "")] * n) for n in (0, 10, 11))
    assert none.size == ten.size
    assert eleven.width == ten.width
    assert eleven.height - ten.height == THUMBNAIL + sheet._TEXT_HEIGHT + sheet._GAP


def test_a_thumbnail_is_150_pixels_a_side_and_nothing_of_it_is_stretched(tmp_path):
    path = tmp_path / "halves.png"
    wide = Image.new("RGB", (900, 300), GREEN)
    wide.paste(RED, (300, 0, 600, 300))  # the centre square
    wide.save(path)
    picture = contact_sheet("q", [Tile(path, 0, "")])
    left, top = corner(0)
    inside = picture.crop((left + 4, top + 75, left + THUMBNAIL - 4, top + 76))
    assert inside.getcolors() == [(THUMBNAIL - 8, RED)]
    assert picture.getpixel((left + THUMBNAIL + 2, top + 75)) == sheet._BACKGROUND


def test_a_picture_is_turned_as_its_exif_says(tmp_path):
    path = tmp_path / "turned.jpg"
    picture = Image.new("RGB", (300, 300), GREEN)
    picture.paste((255, 0, 0), (0, 0, 300, 100))
    exif = Image.Exif()
    exif[274] = 3  # upside down
    picture.save(path, exif=exif, quality=95)
    shown = contact_sheet("q", [Tile(path, 0, "")])
    left, top = corner(0)
    red, green, _ = shown.split()
    assert green.getpixel((left + 75, top + 20)) == pytest.approx(128, abs=8)
    assert red.getpixel((left + 75, top + 130)) == pytest.approx(255, abs=8)


@pytest.mark.parametrize("file_format", ["HEIF", "AVIF"])
def test_what_phones_write_is_shown(tmp_path, file_format):
    readable_formats()
    path = tmp_path / "phone"
    Image.new("RGB", (64, 64), GREEN).save(path, file_format)
    shown = middle(contact_sheet("q", [Tile(path, 0, "")]), 0)
    assert shown == pytest.approx(GREEN, abs=3)


@pytest.mark.parametrize("content", [b"", b"no picture", b"\xff\xd8\xff\xe0 cut short"])
def test_a_file_that_is_no_picture_leaves_an_empty_place(tmp_path, red, content):
    path = tmp_path / "bad.jpg"
    path.write_bytes(content)
    picture = contact_sheet("q", [Tile(path, 0, "bad"), Tile(None, 0, ""), Tile(red, 0, "")])
    assert [middle(picture, n) for n in range(3)] == [sheet._EMPTY, sheet._EMPTY, RED]


def test_words_stay_within_their_column(red):
    with_words = contact_sheet("w" * 500, [Tile(red, 0.5, "word " * 50 + "w" * 90)] * 5)
    without = contact_sheet("", [Tile(red, 0.5, "")] * 5)
    gap = (corner(0)[0] + THUMBNAIL + 1, 0, corner(1)[0] - 1, with_words.height)
    below_title = (gap[0], corner(0)[1], gap[2], gap[3])
    assert with_words.crop(below_title).tobytes() == without.crop(below_title).tobytes()
    assert with_words.tobytes() != without.tobytes()


def test_a_caption_is_the_metadatas_or_the_files_name_or_the_id():
    assert tile(Hit("i", uri="/x/a.jpg", metadata={"caption": "a dog"})).caption == "a dog"
    assert tile(Hit("i", uri="/x/a.jpg", metadata={"caption": 7})).caption == "a.jpg"
    assert tile(Hit("i")).caption == "i"


def test_plain_names_are_set_in_pillows_own_font():
    font, text = font_for("IMG_0001 (a dog).jpg", 12)
    assert text == "IMG_0001 (a dog).jpg"
    assert font.getname() == ImageFont.load_default(12).getname()


def test_what_no_font_here_has_is_escaped_and_never_drawn_as_a_box(monkeypatch):
    monkeypatch.setattr(fonts, "_FILES", ("no-such-font.ttf",))
    fonts._of_this_machine.cache_clear()
    try:
        assert font_for("犬 café", 12)[1] == "\\u72ac cafe"
    finally:
        fonts._of_this_machine.cache_clear()


def test_a_font_of_this_machine_is_taken_where_it_has_more(monkeypatch, tmp_path):
    more = ImageFont.load_default(12)
    monkeypatch.setattr(fonts, "_of_this_machine", lambda size: (more,))
    monkeypatch.setattr(fonts, "_missing", lambda font, _: set() if font is more else {"犬"})
    assert font_for("犬", 12) == (more, "犬")
