"""PNG files: every kind of samples and of transparency, and what stands around the pixels."""

from __future__ import annotations

import functools
import io
import random
import struct
import zlib
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tests.corpus.case import Case, Colours
from tests.corpus.drawn import (
    HEIGHT,
    WIDTH,
    alpha,
    colours_of,
    from_levels,
    gray,
    levels,
    over_white,
    picture,
    rgb,
    saved,
)

_GRAY, _RGB, _PALETTE, _GRAY_ALPHA, _RGBA = 0, 2, 3, 4, 6
_CHANNELS = {_GRAY: 1, _RGB: 3, _PALETTE: 1, _GRAY_ALPHA: 2, _RGBA: 4}
Chunk = tuple[bytes, bytes]


def _chunk(kind: bytes, content: bytes) -> bytes:
    checksum = zlib.crc32(kind + content)
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checksum)


def png(
    samples: NDArray[np.integer],
    depth: int,
    colour: int,
    *before: Chunk,
    after: tuple[Chunk, ...] = (),
) -> bytes:
    """Of samples [H, W] or [H, W, C], below 2^depth."""
    height, width = samples.shape[:2]
    flat = samples.reshape(height, width * _CHANNELS[colour])
    if depth == 16:
        lines = flat.astype(">u2").view(np.uint8).reshape(height, -1)
    elif depth == 8:
        lines = flat.astype(np.uint8)
    else:
        bits = np.unpackbits(flat.astype(np.uint8)[..., None], axis=-1)[..., 8 - depth :]
        lines = np.packbits(bits.reshape(height, -1), axis=-1)
    rows = b"".join(b"\0" + line.tobytes() for line in lines)
    head = struct.pack(">2I5B", width, height, depth, colour, 0, 0, 0)
    parts = [(b"IHDR", head), *before, (b"IDAT", zlib.compress(rows)), *after, (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(*part) for part in parts)


def _wide(samples: NDArray[np.uint8]) -> NDArray[np.uint16]:
    """The same in 16 bits: 255 becomes 65535."""
    return samples.astype(np.uint16) * 257


def _few(bits: int) -> Case:
    few = functools.partial(levels, gray(), bits)
    return Case(
        f"png/gray-{bits}.png",
        lambda: png(few(), bits, _GRAY),
        shown=lambda: colours_of(from_levels(few(), bits)),
    )


def _few_transparent(bits: int) -> Case:
    """One level is transparent, and white lies behind it."""
    few, key = functools.partial(levels, gray(), bits), 0

    def shown() -> Colours:
        seen = from_levels(few(), bits)
        seen[few() == key] = 255
        return colours_of(seen)

    chunk = (b"tRNS", struct.pack(">H", key))
    return Case(f"png/gray-{bits}-key.png", lambda: png(few(), bits, _GRAY, chunk), shown=shown)


def _middle_transparent(bits: int) -> Case:
    """As above, of a level that is not 0: some readers forget to spread it."""
    few, key = functools.partial(levels, gray(), bits), (1 << bits) // 2

    def shown() -> Colours:
        seen = from_levels(few(), bits)
        seen[few() == key] = 255
        return colours_of(seen)

    chunk = (b"tRNS", struct.pack(">H", key))
    name = f"png/gray-{bits}-key-within.png"
    return Case(name, lambda: png(few(), bits, _GRAY, chunk), shown=shown)


def _palette(bits: int, opacity: bytes = b"") -> Case:
    """Colours of a palette, of which the first have an opacity of their own."""
    count = 1 << bits
    table = np.array([(7 * i % 256, 255 - i * 255 // count, 5 * i % 256) for i in range(count)])
    few = functools.partial(levels, gray(), bits)

    def shown() -> Colours:
        seen = np.full(count, 255, np.uint8)
        seen[: len(opacity)] = tuple(opacity)
        return over_white(table.astype(np.uint8)[few()], seen[few()])

    chunks = [(b"PLTE", table.astype(np.uint8).tobytes())]
    chunks += [(b"tRNS", opacity)] if opacity else []
    name = f"png/palette-{bits}{'-transparent' if opacity else ''}.png"
    return Case(
        name, lambda: png(few(), bits, _PALETTE, *chunks), shown=shown, within=1 if opacity else 0
    )


def _black_logo() -> NDArray[np.uint8]:
    """Black with an opacity: what becomes a black square where alpha is dropped."""
    logo = np.zeros((HEIGHT, WIDTH, 4), np.uint8)
    logo[16:48, 24:72, 3] = 255
    return logo


def _with_chunk(name: str, *before: Chunk, after: tuple[Chunk, ...] = ()) -> Case:
    return Case(name, lambda: png(picture(), 8, _RGB, *before, after=after), shown=picture)


def _turned(orientation: int) -> bytes:
    entry = struct.pack(">2HI2H", 0x112, 3, 1, orientation, 0)
    return b"MM\0*\0\0\0\x08\0\x01" + entry + bytes(4)


_XMP = (
    b"XML:com.adobe.xmp\0\0\0\0\0<x:xmpmeta xmlns:x='adobe:ns:meta/'><rdf:RDF "
    b"xmlns:rdf='http://www.w3.org/1999/02/22-rdf-syntax-ns#'><rdf:Description "
    b'xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="3"/></rdf:RDF></x:xmpmeta>'
)


def _noise(size: int) -> bytes:
    return random.Random(5).randbytes(size)


def _moving() -> bytes:
    file = io.BytesIO()
    rgb().save(file, "PNG", save_all=True, append_images=[Image.new("RGB", (WIDTH, HEIGHT))])
    return file.getvalue()


def _only(maximum: int) -> Callable[[], NDArray[np.uint16]]:
    """Gray of 16 bits, of which only samples up to `maximum` are in use."""
    return lambda: (gray().astype(np.uint32) * maximum // int(gray().max())).astype(np.uint16)


def _range(name: str, maximum: int, white: int) -> Case:
    samples = _only(maximum)
    return Case(
        name,
        lambda: png(samples(), 16, _GRAY),
        shown=lambda: colours_of(
            np.rint(samples().astype(np.float64) * 255 / white).astype(np.uint8)
        ),
        within=1,
    )


def _of_12_bits() -> NDArray[np.uint16]:
    return picture().astype(np.uint16) * 16


CASES = [
    Case("png/rgb.png", lambda: png(picture(), 8, _RGB), shown=picture),
    Case("png/rgb-16.png", lambda: png(_wide(picture()), 16, _RGB), shown=picture),
    Case(
        "png/rgb-16-of-12-bits.png",
        lambda: png(_of_12_bits(), 16, _RGB),
        shown=lambda: np.rint(_of_12_bits() * (255 / 4095)).astype(np.uint8),
        within=1,
    ),
    *(_few(bits) for bits in (1, 2, 4, 8)),
    Case(
        "png/gray-16.png", lambda: png(_wide(gray()), 16, _GRAY), shown=lambda: colours_of(gray())
    ),
    _range("png/gray-16-of-8-bits.png", 255, 255),
    _range("png/gray-16-of-10-bits.png", 1_000, 1_023),
    _range("png/gray-16-of-12-bits.png", 4_000, 4_095),
    _range("png/gray-16-of-14-bits.png", 16_000, 16_383),
    *(_palette(bits) for bits in (1, 2, 4, 8)),
    *(_palette(bits, bytes((0, 128, 255))) for bits in (2, 4, 8)),
    *(_few_transparent(bits) for bits in (1, 2, 4, 8)),
    *(_middle_transparent(bits) for bits in (1, 2, 4, 8)),
    Case(
        "png/gray-16-key.png",
        lambda: png(_wide(gray()), 16, _GRAY, (b"tRNS", struct.pack(">H", 257 * 90))),
        shown=lambda: colours_of(np.where(gray() == 90, 255, gray()).astype(np.uint8)),
    ),
    Case(
        "png/rgb-key.png",
        lambda: png(picture(), 8, _RGB, (b"tRNS", struct.pack(">3H", 20, 30, 40))),
        shown=lambda: _keyed(),
    ),
    Case(
        "png/rgb-16-key.png",
        lambda: png(
            _wide(picture()), 16, _RGB, (b"tRNS", struct.pack(">3H", 20 * 257, 30 * 257, 40 * 257))
        ),
        shown=lambda: _keyed(),
    ),
    Case(
        "png/rgba.png",
        lambda: png(np.dstack((picture(), alpha())), 8, _RGBA),
        shown=lambda: over_white(picture(), alpha()),
        within=1,
    ),
    Case(
        "png/rgba-16.png",
        lambda: png(_wide(np.dstack((picture(), alpha()))), 16, _RGBA),
        shown=lambda: over_white(picture(), alpha()),
        within=1,
    ),
    Case(
        "png/gray-alpha.png",
        lambda: png(np.dstack((gray(), alpha())), 8, _GRAY_ALPHA),
        shown=lambda: over_white(colours_of(gray()), alpha()),
        within=1,
    ),
    Case(
        "png/gray-alpha-16.png",
        lambda: png(_wide(np.dstack((gray(), alpha()))), 16, _GRAY_ALPHA),
        shown=lambda: over_white(colours_of(gray()), alpha()),
        within=1,
    ),
    Case(
        "png/black-logo.png",
        lambda: png(_black_logo(), 8, _RGBA),
        shown=lambda: over_white(_black_logo()[..., :3], _black_logo()[..., 3]),
    ),
    Case(
        "png/black.png",
        lambda: png(np.zeros((8, 8), np.uint16), 16, _GRAY),
        shown=lambda: np.zeros((8, 8, 3), np.uint8),
    ),
    Case(
        "png/one-pixel.png",
        lambda: png(np.full((1, 1, 3), 77), 8, _RGB),
        shown=lambda: np.full((1, 1, 3), 77, np.uint8),
    ),
    Case("png/moving.png", _moving, shown=picture),
    Case("png/as-pillow-writes-it.png", lambda: saved(rgb(), "PNG", optimize=True), shown=picture),
    _with_chunk("png/2-mb-of-text.png", (b"zTXt", b"a\0\0" + zlib.compress(bytes(2**21)))),
    _with_chunk("png/2-mb-of-profile.png", (b"iCCP", b"a\0\0" + zlib.compress(_noise(2**21)))),
    _with_chunk("png/2-mb-of-unicode.png", (b"iTXt", b"a\0\1\0\0\0" + zlib.compress(bytes(2**21)))),
    _with_chunk("png/2-mb-of-plain-text.png", (b"tEXt", b"a\0" + b"a" * 2**21)),
    _with_chunk("png/text-behind.png", after=((b"zTXt", b"a\0\0" + zlib.compress(bytes(2**21))),)),
    Case(
        "png/turned.png",
        lambda: png(picture(), 8, _RGB, (b"eXIf", _turned(3))),
        shown=lambda: picture()[::-1, ::-1],
    ),
    Case(
        "png/turned-behind.png",
        lambda: png(picture(), 8, _RGB, after=((b"eXIf", _turned(3)),)),
        shown=lambda: picture()[::-1, ::-1],
    ),
    Case(
        "png/turned-by-xmp.png",
        lambda: png(picture(), 8, _RGB, (b"iTXt", _XMP)),
        shown=lambda: picture()[::-1, ::-1],
    ),
]


def _keyed() -> Colours:
    """The picture with its disc's colour transparent."""
    seen = picture().copy()
    seen[(seen == (20, 30, 40)).all(axis=-1)] = 255
    return seen
