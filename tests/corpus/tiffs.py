"""TIFF files, made byte by byte where Pillow does not write them; cameras' raw ones among them."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tests.corpus.case import Case, refused
from tests.corpus.drawn import (
    alpha,
    colours_of,
    gray,
    over_white,
    picture,
    rgb,
    saved,
    with_alpha,
)

_UNSUPPORTED = "IMAGE_UNSUPPORTED"
Tags = Mapping[int, int | Sequence[int] | bytes]


def tiff(data: bytes, tags: Tags, order: str = "<", below: Sequence[Tags] = ()) -> bytes:
    """A TIFF of one strip, and of directories below its own that have no pixels."""
    head = b"II*\0" if order == "<" else b"MM\0*"
    content = bytearray(head + struct.pack(f"{order}L", 8 + len(data)) + data)
    size = 2 + 12 * (len(tags) + 2 + bool(below)) + 4
    extra_at = 8 + len(data) + size
    extra = bytearray()
    places = []
    for each in below:
        places.append(extra_at + len(extra))
        extra += _directory(each, order, extra_at + len(extra))
    full = {273: 8, 279: len(data), **tags}
    if below:
        full[330] = places
    content += _directory(full, order, 8 + len(data), extra_at, extra)
    return bytes(content + extra)


def _directory(
    tags: Tags, order: str, at: int, extra_at: int = 0, extra: bytearray | None = None
) -> bytes:
    entries = b""
    more = bytearray() if extra is None else extra
    start = extra_at or at + 2 + 12 * len(tags) + 4
    for tag, value in sorted(tags.items()):
        if isinstance(value, bytes):
            kind, count, packed = 1, len(value), value
        else:
            numbers = [value] if isinstance(value, int) else list(value)
            is_long = max(numbers) > 0xFFFF or tag in (273, 279, 330)
            kind, count = (4 if is_long else 3), len(numbers)
            packed = struct.pack(f"{order}{count}{'L' if is_long else 'H'}", *numbers)
        if len(packed) > 4:
            place = struct.pack(f"{order}L", start + len(more))
            more += packed + bytes(len(packed) % 2)
            packed = place
        entries += struct.pack(f"{order}2HL", tag, kind, count) + packed.ljust(4, b"\0")
    block = struct.pack(f"{order}H", len(tags)) + entries + bytes(4)
    return block if extra is not None else block + bytes(more)


def plain(samples: NDArray[np.integer], photometric: int, order: str = "<", **more: Tags) -> bytes:
    """Samples [H, W] or [H, W, C] of 8 or 16 bits, not compressed."""
    height, width = samples.shape[:2]
    channels = samples.shape[2] if samples.ndim == 3 else 1
    kind = samples.dtype.newbyteorder(order)
    bits = [8 * samples.dtype.itemsize] * channels
    tags = {
        256: width,
        257: height,
        258: bits,
        259: 1,
        262: photometric,
        277: channels,
        278: height,
    }
    return tiff(samples.astype(kind).tobytes(), {**tags, **more.get("tags", {})}, order)


def _wide(samples: NDArray[np.uint8]) -> NDArray[np.uint16]:
    return samples.astype(np.uint16) * 257


def _of_12_bits(samples: NDArray[np.uint8]) -> NDArray[np.uint16]:
    return samples.astype(np.uint16) * 16


def _seen(samples: NDArray[np.uint16], white: int) -> NDArray[np.uint8]:
    return np.rint(samples.astype(np.float64) * 255 / white).astype(np.uint8)


def _compressed(name: str, compression: str) -> Case:
    make = lambda: saved(rgb(), "TIFF", compression=compression)  # noqa: E731
    return Case(f"tiff/{name}.tif", make, shown=picture, within=12 if compression == "jpeg" else 0)


def _pages() -> bytes:
    file = io.BytesIO()
    rgb().save(file, "TIFF", save_all=True, append_images=[rgb().rotate(180)] * 2)
    return file.getvalue()


def _bits() -> Image.Image:
    return Image.fromarray(gray() > 120)


def _in_bits() -> NDArray[np.uint8]:
    return colours_of(np.where(gray() > 120, 255, 0).astype(np.uint8))


def _raw(tags: Tags, below: Sequence[Tags] = ()) -> Callable[[], bytes]:
    """What a camera writes: a small picture first, as every reader of TIFF understands it."""
    samples = np.full((120, 160, 3), 90, np.uint8)
    plain_tags = {256: 160, 257: 120, 258: [8, 8, 8], 259: 1, 262: 2, 277: 3, 278: 120}
    return lambda: tiff(samples.tobytes(), {**plain_tags, **tags}, below=below)


_SENSOR = {254: 0, 256: 6000, 257: 4000, 262: 32803}

CASES = [
    Case("tiff/rgb.tif", lambda: plain(picture(), 2), shown=picture),
    Case("tiff/rgb-of-motorola.tiff", lambda: plain(picture(), 2, ">"), shown=picture),
    Case("tiff/rgb-16.tif", lambda: plain(_wide(picture()), 2), shown=picture),
    Case("tiff/rgb-16-of-motorola.tif", lambda: plain(_wide(picture()), 2, ">"), shown=picture),
    *(
        Case(
            f"tiff/rgb-16-of-12-bits{name}.tif",
            make,
            shown=lambda: _seen(_of_12_bits(picture()), 4095),
            within=1,
        )
        for name, make in {
            "": lambda: plain(_of_12_bits(picture()), 2),
            "-of-motorola": lambda: plain(_of_12_bits(picture()), 2, ">"),
        }.items()
    ),
    Case("tiff/gray.tif", lambda: plain(gray(), 1), shown=lambda: colours_of(gray())),
    Case("tiff/gray-16.tif", lambda: plain(_wide(gray()), 1), shown=lambda: colours_of(gray())),
    Case(
        "tiff/gray-16-of-12-bits.tif",
        lambda: plain(_of_12_bits(gray()), 1),
        shown=lambda: colours_of(_seen(_of_12_bits(gray()), 4095)),
        within=1,
    ),
    Case(
        "tiff/gray-16-of-12-bits-of-motorola.tif",
        lambda: plain(_of_12_bits(gray()), 1, ">"),
        shown=lambda: colours_of(_seen(_of_12_bits(gray()), 4095)),
        within=1,
    ),
    Case(
        "tiff/gray-16-that-says-its-white.tif",
        lambda: plain(gray().astype(np.uint16) * 3, 1, tags={281: 1000}),
        shown=lambda: colours_of(_seen(gray().astype(np.uint16) * 3, 1000)),
        within=1,
    ),
    Case(
        "tiff/gray-of-which-0-is-white.tif",
        lambda: plain(255 - gray(), 0),
        shown=lambda: colours_of(gray()),
    ),
    Case(
        "tiff/gray-16-of-which-0-is-white.tif",
        lambda: plain(65535 - _wide(gray()), 0),
        shown=lambda: colours_of(gray()),
    ),
    Case(
        "tiff/rgb-alpha.tif",
        lambda: plain(np.dstack((picture(), alpha())), 2, tags={338: 2}),
        shown=lambda: over_white(picture(), alpha()),
        within=1,
    ),
    Case(
        "tiff/rgb-alpha-16.tif",
        lambda: plain(_wide(np.dstack((picture(), alpha()))), 2, tags={338: 2}),
        shown=lambda: over_white(picture(), alpha()),
        within=1,
    ),
    Case(
        "tiff/rgb-and-something.tif",
        lambda: plain(np.dstack((picture(), alpha())), 2, tags={338: 0}),
        shown=picture,
    ),
    Case(
        "tiff/cmyk.tif",
        lambda: plain(np.dstack((255 - picture(), np.zeros_like(gray()))), 5),
        shown=picture,
        within=1,
    ),
    Case(
        "tiff/palette.tif",
        lambda: saved(rgb().quantize(64), "TIFF"),
        shown=lambda: np.asarray(rgb().quantize(64).convert("RGB")),
    ),
    Case("tiff/bits.tif", lambda: saved(_bits(), "TIFF"), shown=_in_bits),
    Case("tiff/fax.tif", lambda: saved(_bits(), "TIFF", compression="group4"), shown=_in_bits),
    _compressed("lzw", "tiff_lzw"),
    _compressed("deflate", "tiff_deflate"),
    _compressed("packbits", "packbits"),
    _compressed("jpeg", "jpeg"),
    Case(
        "tiff/rgb-16-deflate.tif",
        lambda: _deflated(_wide(picture())),
        shown=picture,
    ),
    Case(
        "tiff/rgb-16-of-12-bits-deflate.tif",
        lambda: _deflated(_of_12_bits(picture())),
        shown=lambda: _seen(_of_12_bits(picture()), 4095),
        within=1,
    ),
    Case(
        "tiff/transparent.tif",
        lambda: saved(with_alpha(), "TIFF", compression="tiff_lzw"),
        shown=lambda: over_white(picture(), alpha()),
        within=1,
    ),
    Case("tiff/big.tif", lambda: saved(rgb(), "TIFF", big_tiff=True), shown=picture),
    Case("tiff/pages.tif", _pages, shown=picture),
    Case(
        "tiff/turned.tif",
        lambda: plain(picture(), 2, tags={274: 3}),
        shown=lambda: picture()[::-1, ::-1].copy(),
    ),
    refused(
        "tiff/float.tif",
        lambda: saved(Image.fromarray(gray().astype(np.float32)), "TIFF"),
        _UNSUPPORTED,
    ),
    refused(
        "tiff/integers.tif",
        lambda: saved(Image.fromarray(gray().astype(np.int32) * 10_000), "TIFF"),
        _UNSUPPORTED,
    ),
    refused("tiff/cut.tif", lambda: plain(picture(), 2)[:1_000], "IMAGE_UNREADABLE"),
    # Raw files, as if somebody had renamed them.
    refused("raw/dng.tif", _raw({50706: bytes((1, 4, 0, 0))}), _UNSUPPORTED),
    refused("raw/nef.tif", _raw({254: 1}, below=[_SENSOR]), _UNSUPPORTED),
    refused("raw/arw.jpg", _raw({254: 1, 271: b"SONY\0"}, below=[_SENSOR]), _UNSUPPORTED),
    refused("raw/srw.tif", _raw({254: 0}, below=[{254: 1, 262: 6}, _SENSOR]), _UNSUPPORTED),
]


def _deflated(samples: NDArray[np.uint16]) -> bytes:
    import zlib

    height, width = samples.shape[:2]
    tags = {256: width, 257: height, 258: [16] * 3, 259: 8, 262: 2, 277: 3, 278: height}
    return tiff(zlib.compress(samples.astype("<u2").tobytes()), tags)
