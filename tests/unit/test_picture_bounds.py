"""What may stand around a picture's pixels: as much as cameras and editors write, and no more."""

from __future__ import annotations

import contextlib
import io
import random
import struct
import zlib
from pathlib import Path

import pytest
from PIL import Image

from glimpse.errors import InvalidImage
from glimpse.pictures.bounds import IMAGE_TOO_COMPLEX, check_structure, webp_size
from glimpse.pictures.preprocess import decode
from glimpse.pictures.preprocessing import Preprocessing
from tests.hostile import pictures
from tests.photographs import carried, folder

MIB = 2**20
# Takes Pillow seconds to hours at 16 MiB.
SLOW = (
    "png-texts",
    "png-profile-bomb",
    "png-empty-data-chunks",
    "png-long-exif",
    "jpeg-segments",
    "jpeg-comments",
    "jpeg-exif-in-pieces",
    "jpeg-junk",
    "gif-many-comments",
    "gif-one-comment",
    "bmp-single-pixels",
    "bmp-empty-runs",
    "tiff-many-tags",
    "tiff-long-bits-per-sample",
    "tiff-long-resolution",
    "tiff-long-offsets",
)

NOISE = Image.effect_noise((96, 64), 90).convert("RGB")


def file_of(image: Image.Image = NOISE, file_format: str = "JPEG", **options) -> bytes:
    file = io.BytesIO()
    image.save(file, file_format, **options)
    return file.getvalue()


def segment(marker: int, content: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(content) + 2) + content


def with_segments(*segments: bytes) -> bytes:
    file = file_of()
    return file[:2] + b"".join(segments) + file[2:]


def of_many_scans(scans: int, after: bytes = b"") -> bytes:
    """A progressive JPEG whose last scan comes again, so that it has so many."""
    file = file_of(progressive=True)
    last = file.rindex(b"\xff\xda")
    again = file[last:-2] * (scans - file.count(b"\xff\xda"))
    return file[:-2] + again + file[-2:] + after


def of_many_data_chunks(size_bytes: int) -> bytes:
    """A PNG whose pixels come in pieces of that size."""
    lines = b"".join(b"\0" + random.Random(n).randbytes(3 * 512) for n in range(512))
    file = pictures.png(512, 512, (8, 2), rows=zlib.compress(lines))
    start = file.index(b"IDAT") - 4
    length = int.from_bytes(file[start : start + 4], "big")
    rows = file[start + 8 : start + 8 + length]
    pieces = (rows[at : at + size_bytes] for at in range(0, len(rows), size_bytes))
    chunks = b"".join(
        struct.pack(">I", len(piece))
        + (named := b"IDAT" + piece)
        + struct.pack(">I", zlib.crc32(named))
        for piece in pieces
    )
    return file[:start] + chunks + file[-12:]


def of_bmp_runs(pairs: int) -> bytes:
    head = struct.pack("<2s3I", b"BM", 1_078 + 2 * pairs, 0, 1_078)
    sizes = struct.pack("<3I2H6I", 40, pairs, 1, 1, 8, 1, 2 * pairs, 0, 0, 0, 0)
    return head + sizes + bytes(1_024) + b"\x01\x00" * pairs


def refusal(content: bytes) -> str:
    with pytest.raises(InvalidImage) as caught:
        check_structure(content)
    assert (caught.value.field, caught.value.reason) == ("image", IMAGE_TOO_COMPLEX)
    return caught.value.problem


@pytest.mark.parametrize("name", SLOW)
def test_files_that_are_slow_to_read_are_refused(name):
    assert refusal(pictures.FILES[name](2 * MIB)).startswith("more than ")


def test_scans_are_counted_where_they_are_the_pictures_own():
    assert refusal(of_many_scans(101)) == "more than 100 scans of a JPEG"
    check_structure(of_many_scans(100))
    # The film that a phone puts behind the picture holds the same two bytes by chance.
    check_structure(of_many_scans(10, after=b"\xff\xda\x00\x0c" * 1_000))


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(file_of(progressive=True), id="progressive"),
        pytest.param(file_of(icc_profile=bytes(3 * MIB)), id="large profile"),
        pytest.param(
            with_segments(
                segment(0xE1, b"Exif\0\0MM\0*\0\0\0\x08\0\0" + bytes(60_000)),
                *[segment(0xE1, b"http://ns.adobe.com/xmp/extension/\0" + bytes(65_000))] * 200,
                *[segment(0xED, b"Photoshop 3.0\0" + b"8BIM\x04\x04\0\0\0\0\0\2ab" * 50)] * 8,
            ),
            id="phone and editor",
        ),
        pytest.param(with_segments(b"\xff" * 1_000), id="filled up"),
        pytest.param(
            file_of(file_format="MPO", save_all=True, append_images=[NOISE] * 3), id="MPO"
        ),
        pytest.param(of_many_data_chunks(1_024), id="PNG in pieces"),
        pytest.param(
            file_of(file_format="PNG", save_all=True, append_images=[NOISE.rotate(90)] * 200),
            id="moving PNG",
        ),
        pytest.param(file_of(file_format="GIF", comment=b"a" * 10_000), id="GIF with a comment"),
        pytest.param(
            file_of(NOISE, "WEBP", save_all=True, append_images=[NOISE] * 50),
            id="moving WebP",
        ),
        pytest.param(of_bmp_runs(1_000), id="BMP of runs"),
        pytest.param(
            file_of(NOISE.resize((40, 20_000)), "TIFF", tiffinfo={278: 1}), id="TIFF line by line"
        ),
        pytest.param(file_of(NOISE, "TIFF", big_tiff=True), id="BigTIFF"),
    ],
)
def test_what_cameras_and_editors_write_is_decoded(content):
    assert decode(content, Preprocessing(32), 10**7).pixels.shape == (32, 32, 3)


@pytest.mark.parametrize(
    "path",
    [*carried(), *sorted((folder() or Path("nowhere")).glob("*"))],
    ids=lambda path: path.name,
)
def test_photographs_are_far_from_every_bound(path):
    check_structure(path.read_bytes())


@pytest.mark.parametrize(
    "options", [{}, {"lossless": True}, {"save_all": True, "append_images": [NOISE.rotate(180)]}]
)
def test_the_size_of_a_webp_is_known_before_it_is_opened(options):
    assert webp_size(file_of(NOISE, "WEBP", **options)) == NOISE.size
    assert webp_size(file_of(NOISE, "PNG")) == webp_size(b"RIFF    WEBPVP8X") == (0, 0)


@pytest.mark.parametrize("name", SLOW)
def test_a_file_that_ends_anywhere_is_followed_as_far_as_it_is_there(name):
    content = pictures.FILES[name](64 * 1024)
    for length in (*range(60), 1_000, len(content) // 2, len(content) - 1):
        with contextlib.suppress(InvalidImage):
            check_structure(content[:length])
