"""WebP, GIF, BMP, AVIF and HEIC files, and those of formats that are not taken."""

from __future__ import annotations

import io
import itertools
import struct
from collections.abc import Callable

import numpy as np
from PIL import Image

from tests.corpus import reference
from tests.corpus.case import PASSED_OVER, Case, Colours, refused
from tests.corpus.drawn import (
    HEIGHT,
    WIDTH,
    alpha,
    colours_of,
    gray,
    over_white,
    picture,
    rgb,
    saved,
    with_alpha,
)

_UNSUPPORTED, _UNREADABLE = "IMAGE_UNSUPPORTED", "IMAGE_UNREADABLE"
_TRUNCATED, _TOO_LARGE = "IMAGE_TRUNCATED", "IMAGE_TOO_LARGE"
_LOSSY = 16  # levels by which a lossy format may miss the drawing after it was made smaller


def _palette() -> Image.Image:
    return rgb().quantize(200)


def _of_palette() -> Colours:
    return np.asarray(_palette().convert("RGB"))


def _moving(format: str, **options: object) -> bytes:
    file = io.BytesIO()
    more = [rgb().rotate(180), rgb().rotate(90)]
    rgb().save(file, format, save_all=True, append_images=more, **options)
    return file.getvalue()


def _transparent_gif() -> bytes:
    image = _palette()
    return saved(image, "GIF", transparency=image.getpixel((30, 24)))


def _seen_of_transparent_gif() -> Colours:
    image = _palette()
    seen = np.array(image.convert("RGB"))
    seen[np.asarray(image) == image.getpixel((30, 24))] = 255
    return seen


def _bmp(
    bits: int, compression: int, pixels: bytes, palette: bytes = b"", masks: bytes = b""
) -> bytes:
    start = 54 + len(masks) + len(palette)
    colours = len(palette) // 4
    head = struct.pack("<2s3I", b"BM", start + len(pixels), 0, start)
    sizes = struct.pack(
        "<3I2H6I", 40, WIDTH, HEIGHT, 1, bits, compression, len(pixels), 0, 0, colours, 0
    )
    return head + sizes + masks + palette + pixels


def _bmp_of_runs() -> bytes:
    """Of 8 bits, each line in runs of one colour."""
    lines = b""
    for line in gray()[::-1]:
        starts = [0, *(np.flatnonzero(np.diff(line.astype(int))) + 1), WIDTH]
        for begin, end in itertools.pairwise(starts):
            lines += bytes((end - begin, line[begin]))
        lines += b"\0\0"
    return _bmp(8, 1, lines + b"\0\1", bytes(b for n in range(256) for b in (n, n, n, 0)))


def _bmp_of_16_bits() -> bytes:
    red, green, blue = (picture()[..., band].astype(np.uint16) for band in range(3))
    packed = (red >> 3) << 11 | (green >> 2) << 5 | blue >> 3
    masks = struct.pack("<3I", 0xF800, 0x07E0, 0x001F)
    return _bmp(16, 3, packed[::-1].astype("<u2").tobytes(), masks=masks)


def _heif(image: Image.Image | None = None, **options: object) -> bytes:
    import pillow_heif

    pillow_heif.register_heif_opener()
    return saved(image or rgb(), "HEIF", **{"quality": 95, "chroma": 444} | options)


def _avif(image: Image.Image | None = None, **options: object) -> bytes:
    return saved(image or rgb(), "AVIF", **{"quality": 95, "subsampling": "4:4:4"} | options)


def _lossy(name: str, make: Callable[[], bytes], shown: Callable[[], Colours] = picture) -> Case:
    return Case(name, make, shown=shown, within=_LOSSY)


def _exif(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x112] = orientation
    return exif


def _half(content: bytes) -> bytes:
    return content[: len(content) // 2]


def _turned() -> Colours:
    """As orientation 6 has it: by a quarter, clockwise."""
    return np.ascontiguousarray(np.rot90(picture(), -1))


def _head(head: bytes) -> Callable[[], bytes]:
    return lambda: head + bytes(500)


def _box(kind: bytes, brand: bytes) -> bytes:
    return struct.pack(">I", 24) + b"ftyp" + brand + bytes(4) + brand + kind.ljust(4)[:4]


CASES = [
    Case("webp/lossless.webp", lambda: saved(rgb(), "WEBP", lossless=True), shown=picture),
    Case(
        "webp/lossy.webp",
        lambda: saved(rgb(), "WEBP", quality=90),
        shown=lambda: reference.decoded(saved(rgb(), "WEBP", quality=90)),
        within=3,
    ),
    Case(
        "webp/transparent.webp",
        lambda: saved(with_alpha(), "WEBP", lossless=True, exact=True),
        shown=lambda: over_white(picture(), alpha()),
        within=1,
    ),
    Case("webp/moving.webp", lambda: _moving("WEBP", lossless=True), shown=picture),
    Case(
        "webp/turned.webp",
        lambda: saved(rgb(), "WEBP", lossless=True, exif=_exif(6)),
        shown=_turned,
    ),
    refused("webp/cut.webp", lambda: _half(saved(rgb(), "WEBP", lossless=True)), _UNREADABLE),
    Case("gif/still.gif", lambda: saved(_palette(), "GIF"), shown=_of_palette),
    Case(
        "gif/line-by-line.gif", lambda: saved(_palette(), "GIF", interlace=False), shown=_of_palette
    ),
    Case(
        "gif/gray.gif",
        lambda: saved(Image.fromarray(gray()), "GIF"),
        shown=lambda: colours_of(gray()),
    ),
    Case("gif/moving.gif", lambda: _moving("GIF"), shown=lambda: _of_frame(_moving("GIF"))),
    Case("gif/transparent.gif", _transparent_gif, shown=_seen_of_transparent_gif),
    refused("gif/cut.gif", lambda: saved(_palette(), "GIF")[:1_500], _TRUNCATED),
    Case("bmp/rgb.bmp", lambda: saved(rgb(), "BMP"), shown=picture),
    Case("bmp/palette.bmp", lambda: saved(_palette(), "BMP"), shown=_of_palette),
    Case(
        "bmp/gray.bmp",
        lambda: saved(Image.fromarray(gray()), "BMP"),
        shown=lambda: colours_of(gray()),
    ),
    Case(
        "bmp/bits.bmp",
        lambda: saved(Image.fromarray(gray() > 120), "BMP"),
        shown=lambda: colours_of(np.where(gray() > 120, 255, 0).astype(np.uint8)),
    ),
    Case("bmp/runs.bmp", _bmp_of_runs, shown=lambda: colours_of(gray())),
    Case("bmp/rgb-16.bmp", _bmp_of_16_bits, shown=picture, within=8),
    Case(
        "bmp/rgb-32.bmp",
        lambda: _bmp(32, 0, np.dstack((picture()[::-1, :, ::-1], gray() * 0)).tobytes()),
        shown=picture,
    ),
    refused("bmp/cut.bmp", lambda: saved(rgb(), "BMP")[:5_000], _TRUNCATED),
    _lossy("avif/rgb.avif", _avif),
    # Decoders spread colours of half the size differently over an edge.
    Case(
        "avif/half-the-colours.avif", lambda: _avif(subsampling="4:2:0"), shown=picture, within=32
    ),
    _lossy("avif/gray.avif", lambda: _avif(Image.fromarray(gray())), lambda: colours_of(gray())),
    _lossy(
        "avif/transparent.avif",
        lambda: _avif(with_alpha()),
        lambda: over_white(picture(), alpha()),
    ),
    _lossy("avif/moving.avif", lambda: _moving("AVIF", quality=95, subsampling="4:4:4")),
    _lossy("avif/turned.avif", lambda: _avif(exif=_exif(6)), _turned),
    refused("avif/cut.avif", lambda: _half(_avif()), _UNREADABLE),
    _lossy("heic/rgb.heic", _heif),
    _lossy("heic/rgb.heif", lambda: _heif(quality=80)),
    _lossy("heic/named.jpg", _heif),
    _lossy("heic/half-the-colours.HEIC", lambda: _heif(chroma=420)),
    _lossy("heic/gray.heic", lambda: _heif(Image.fromarray(gray())), lambda: colours_of(gray())),
    _lossy(
        "heic/transparent.heic",
        lambda: _heif(with_alpha()),
        lambda: over_white(picture(), alpha()),
    ),
    _lossy("heic/turned.heic", lambda: _heif(exif=_exif(6).tobytes()), _turned),
    # EXIF says something else than the container, which alone counts.
    _lossy("heic/not-turned.heic", lambda: _heif(exif=_exif(6))),
    _lossy("heic/several.heic", lambda: _heif(save_all=True, append_images=[rgb().rotate(180)])),
    refused("heic/cut.heic", lambda: _half(_heif()), _UNREADABLE),
    # By their names, where a folder is indexed, and by what is in them otherwise.
    Case("not-taken/picture.jxl", _head(b"\xff\x0a"), PASSED_OVER),
    Case("not-taken/photograph.dng", _head(b"II*\0"), PASSED_OVER),
    Case("not-taken/photograph.CR3", _head(_box(b"crx ", b"crx ")), PASSED_OVER),
    Case("not-taken/drawing.psd", _head(b"8BPS"), PASSED_OVER),
    Case("not-taken/film.mov", _head(_box(b"qt  ", b"qt  ")), PASSED_OVER),
    refused("not-taken/jpeg-xl.jpg", _head(b"\xff\x0a"), _UNSUPPORTED),
    refused("not-taken/jpeg-xl-in-a-box.jpg", _head(b"\0\0\0\x0cJXL \r\n\x87\n"), _UNSUPPORTED),
    refused("not-taken/jpeg-2000.jpg", _head(b"\0\0\0\x0cjP  \r\n\x87\n"), _UNSUPPORTED),
    refused("not-taken/photoshop.jpg", _head(b"8BPS"), _UNSUPPORTED),
    refused("raw/cr2.jpg", _head(b"II*\0\x10\0\0\0CR\x02\0"), _UNSUPPORTED),
    refused("raw/cr3.jpg", _head(_box(b"crx ", b"crx ")), _UNSUPPORTED),
    refused("raw/raf.jpg", _head(b"FUJIFILMCCD-RAW 0201"), _UNSUPPORTED),
    refused("raw/orf.jpg", _head(b"IIRO\x08\0\0\0"), _UNSUPPORTED),
    refused("raw/rw2.jpg", _head(b"IIU\0\x08\0\0\0"), _UNSUPPORTED),
    refused("not-taken/empty.jpg", lambda: b"", "IMAGE_EMPTY"),
    refused("not-taken/nothing.jpg", lambda: bytes(5_000), _UNREADABLE),
    refused("not-taken/text.jpg", lambda: b"[.ShellClassInfo]\r\n", _UNREADABLE),
    refused("png/cut.png", lambda: _half(saved(rgb(), "PNG")), _TRUNCATED),
    Case("png/no-end.png", lambda: saved(rgb(), "PNG")[:-12], shown=picture),
    refused("png/too-large.png", lambda: _declared(20_000, 20_000), _TOO_LARGE),
]


def _of_frame(content: bytes) -> Colours:
    """The first frame of a GIF, whose palette its writer has chosen."""
    with Image.open(io.BytesIO(content)) as image:
        return np.asarray(image.convert("RGB"))


def _declared(width: int, height: int) -> bytes:
    """A PNG that says so, and ends."""
    from tests.hostile.pictures import png

    return png(width, height, (8, 2), rows=b"")
