"""Picture files that are worst for what decodes them: many pixels from few bytes, and headers that
take long to read. Nothing here looks at what a service says to them.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable, Mapping

from PIL import Image

from tests.hostile.sizes import MAX_IMAGE_PIXELS

Make = Callable[[int], bytes]
"""A file, made for a service that takes files of so many bytes."""

_WIDTH, _HEIGHT = 10_000, 5_000
assert _WIDTH * _HEIGHT == MAX_IMAGE_PIXELS
_WEBP_SIDE = 16_383  # its greatest
_PNG = b"\x89PNG\r\n\x1a\n"
_JFIF_END = 20
_SMALL = 64
_MAX_KEPT_BYTES = 4 * 2**20


def saved(format: str, size: tuple[int, int], mode: str = "RGB", **options: object) -> bytes:
    """One colour, as Pillow writes it."""
    file = io.BytesIO()
    Image.new(mode, size).save(file, format, **options)
    return file.getvalue()


def png(width: int, height: int, kind: tuple[int, int], *before: bytes, rows: bytes) -> bytes:
    """A PNG of that (depth, colour type), with chunks `before` the compressed rows."""
    header = struct.pack(">2I5B", width, height, *kind, 0, 0, 0)
    parts = (_chunk(b"IHDR", header), *before, _chunk(b"IDAT", rows), _chunk(b"IEND", b""))
    return _PNG + b"".join(parts)


def _chunk(kind: bytes, content: bytes) -> bytes:
    checksum = zlib.crc32(kind + content)
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checksum)


def _png_of(depth: int, colour: int, channels: int, rows: int = _HEIGHT) -> Make:
    """The greatest PNG: all zero, and compressed as far as that goes."""

    def make(_: int) -> bytes:
        row = bytes(1 + (_WIDTH * channels * depth + 7) // 8)
        packer = zlib.compressobj(9)
        packed = b"".join(packer.compress(row) for _ in range(rows)) + packer.flush()
        return png(_WIDTH, rows, (depth, colour), rows=packed)

    return make


def _small_png(chunk: bytes) -> Make:
    """A small PNG with the same chunk before its rows as often as there is room for."""

    def make(max_bytes: int) -> bytes:
        rows = zlib.compress(bytes(_SMALL * (1 + 3 * _SMALL)))
        many = chunk * ((max_bytes - 1_000) // len(chunk))
        return png(_SMALL, _SMALL, (8, 2), many, rows=rows)

    return make


def _png_of_many_data_chunks(max_bytes: int) -> bytes:
    rows = zlib.compress(bytes(_SMALL * (1 + 3 * _SMALL)))
    header = _chunk(b"IHDR", struct.pack(">2I5B", _SMALL, _SMALL, 8, 2, 0, 0, 0))
    empty = _chunk(b"IDAT", b"")
    many = empty * ((max_bytes - 1_000) // len(empty))
    return _PNG + header + many + _chunk(b"IDAT", rows) + _chunk(b"IEND", b"")


def _png_with_long_exif(max_bytes: int) -> bytes:
    rows = zlib.compress(bytes(_SMALL * (1 + 3 * _SMALL)))
    return png(_SMALL, _SMALL, (8, 2), _chunk(b"eXIf", _many_tags()), rows=rows)


def _many_tags() -> bytes:
    """A TIFF directory of as many entries as one takes."""
    entries = b"".join(struct.pack("<2H2I", tag, 3, 1, 1) for tag in range(1, 0xFFFF))
    return struct.pack("<2sHIH", b"II", 42, 8, 0xFFFE) + entries + bytes(4)


def _jpeg_with(segment: bytes) -> Make:
    """A small JPEG with the same segment after its first one as often as there is room for."""

    def make(max_bytes: int) -> bytes:
        file = saved("JPEG", (_SMALL, _SMALL))
        many = segment * ((max_bytes - len(file)) // len(segment))
        return file[:_JFIF_END] + many + file[_JFIF_END:]

    return make


def _segment(marker: int, content: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(content) + 2) + content


def _jpeg_of_many_scans(max_bytes: int) -> bytes:
    """The greatest progressive JPEG, whose last scan comes again and again."""
    file = saved("JPEG", (_WIDTH, _HEIGHT), "L", quality=1, progressive=True)
    last = file.rindex(b"\xff\xda")
    scan = file[last:-2]
    return file[:-2] + scan * ((max_bytes - len(file)) // len(scan)) + file[-2:]


def _bmp(width: int, height: int, bits: int, compression: int, content: bytes) -> bytes:
    palette = bytes(4 << bits) if bits <= 8 else b""
    start = 54 + len(palette)
    head = struct.pack("<2sIII", b"BM", start + len(content), 0, start)
    sizes = struct.pack("<3I2H6I", 40, width, height, 1, bits, compression, len(content), *[0] * 4)
    return head + sizes + palette + content


def _bmp_of_runs(_: int) -> bytes:
    """The greatest BMP, in runs of 250 pixels and line by line."""
    return _bmp(_WIDTH, _HEIGHT, 8, 1, (b"\xfa\x00" * (_WIDTH // 250) + b"\x00\x00") * _HEIGHT)


def _bmp_of_single_pixels(max_bytes: int) -> bytes:
    """Runs of one pixel: as many steps as there are pixels."""
    runs = (max_bytes - 2_000) // 2
    return _bmp(runs, 1, 8, 1, b"\x01\x00" * runs)


def _bmp_of_empty_runs(max_bytes: int) -> bytes:
    """Runs past a line's end, which add no pixel: as many steps as there are pairs of bytes."""
    return _bmp(1, MAX_IMAGE_PIXELS, 8, 1, b"\xff\x00" * ((max_bytes - 2_000) // 2))


def _gif(width: int, height: int, extension: bytes = b"", times: int = 0) -> bytes:
    file = saved("GIF", (_SMALL, _SMALL))
    start = 13 + (3 << (file[10] & 7) + 1 if file[10] & 0x80 else 0)
    screen = file[:6] + struct.pack("<2H", width, height) + file[10:start]
    return screen + extension * times + file[start:]


def _gif_of_many_comments(max_bytes: int) -> bytes:
    comment = b"!\xfe\x01a\x00"
    return _gif(_SMALL, _SMALL, comment, (max_bytes - 10_000) // len(comment))


def _gif_of_one_comment(max_bytes: int) -> bytes:
    comment = b"!\xfe" + b"\x01a" * ((max_bytes - 10_000) // 2) + b"\x00"
    return _gif(_SMALL, _SMALL, comment, 1)


def _animation(format: str, frames: int) -> bytes:
    file, size = io.BytesIO(), (_SMALL, _SMALL)
    first, *rest = (Image.new("RGB", size, (n % 256, n // 256, 7)) for n in range(frames))
    first.save(file, format, save_all=True, append_images=rest)
    return file.getvalue()


def _tiff_with(tag: int, kind: int, size_bytes: int) -> Make:
    """A small TIFF in which one tag has as many values as there is room for."""

    def make(max_bytes: int) -> bytes:
        count = (max_bytes - 1_000) // size_bytes
        # Width, height, bits, no compression, gray, place of the pixels, rows, their bytes.
        plain = {256: 8, 257: 8, 258: 8, 259: 1, 262: 1, 273: 8, 278: 8, 279: 64}
        entries = {each: struct.pack("<2H2I", each, 4, 1, value) for each, value in plain.items()}
        end = 10 + 12 * len({*entries, tag}) + 4
        entries[tag] = struct.pack("<2H2I", tag, kind, count, end)
        body = b"".join(entries[each] for each in sorted(entries))
        head = struct.pack("<2sHIH", b"II", 42, 8, len(entries))
        return head + body + bytes(4) + b"\x01" * (count * size_bytes)

    return make


def _webp_of_declared_size(_: int) -> bytes:
    content = struct.pack("<B", 0x2F) + struct.pack("<I", 0x0FFFFFFF) + bytes(16)
    parts = b"WEBPVP8L" + struct.pack("<I", len(content)) + content + b"\x00"
    return b"RIFF" + struct.pack("<I", len(parts)) + parts


def _filled(max_bytes: int) -> bytes:
    """A small picture, and after its end as many bytes as are taken."""
    return saved("PNG", (_SMALL, _SMALL)).ljust(max_bytes, b"\x00")


def _greatest(format: str, mode: str = "RGB", **options: object) -> Make:
    return lambda _: saved(format, (_WIDTH, _HEIGHT), mode, **options)


FILES: Mapping[str, Make] = {
    "png@max-pixels": _png_of(8, 2, 3),
    "png@past-pixels": _png_of(8, 2, 3, rows=_HEIGHT + 1),
    "png-gray-of-16-bits@max-pixels": _png_of(16, 0, 1),
    "png-rgba-of-16-bits@max-pixels": _png_of(16, 6, 4),
    "png-of-1-bit@max-pixels": _png_of(1, 0, 1),
    "png-of-4-gigapixels": lambda _: png(2**16, 2**16, (8, 2), rows=zlib.compress(b"")),
    "png-of-2^62-pixels": lambda _: png(2**31 - 1, 2**31 - 1, (8, 2), rows=b""),
    "png-of-one-line": lambda _: saved("PNG", (MAX_IMAGE_PIXELS, 1), "L"),
    "png-texts": _small_png(_chunk(b"tEXt", b"a\x00")),
    "png-large-texts": _small_png(_chunk(b"tEXt", b"a\x00" + b"a" * 2**20)),
    "png-text-bombs": _small_png(_chunk(b"zTXt", b"a\x00\x00" + zlib.compress(bytes(2**20)))),
    "png-profile-bomb": _small_png(_chunk(b"iCCP", b"a\x00\x00" + zlib.compress(bytes(2**20)))),
    "png-empty-data-chunks": _png_of_many_data_chunks,
    "png-long-exif": _png_with_long_exif,
    "jpeg@max-pixels": _greatest("JPEG", quality=1),
    "jpeg-past-pixels": lambda _: saved("JPEG", (_WIDTH, _HEIGHT + 1), quality=1),
    "jpeg-of-4-gigapixels": lambda _: saved("JPEG", (8, 8)).replace(
        struct.pack(">2H", 8, 8), struct.pack(">2H", 65_500, 65_500), 1
    ),
    "jpeg-of-many-scans": _jpeg_of_many_scans,
    "jpeg-progressive@max-pixels": _greatest("JPEG", quality=1, progressive=True),
    "jpeg-cmyk@max-pixels": _greatest("JPEG", "CMYK", quality=1),
    "jpeg-segments": _jpeg_with(_segment(0xE5, b"")),
    "jpeg-comments": _jpeg_with(_segment(0xFE, b"")),
    "jpeg-exif-in-pieces": _jpeg_with(_segment(0xE1, b"Exif\0\0" + b"a" * 10)),
    "jpeg-junk": _jpeg_with(b"\x00"),
    "webp@max-pixels": lambda _: saved("WEBP", (_WEBP_SIDE, 3_051), lossless=True, quality=0),
    "webp-of-declared-size": _webp_of_declared_size,
    "webp-of-500-frames": lambda _: _animation("WEBP", 500),
    "gif@max-pixels": _greatest("GIF", "P"),
    "gif-of-4-gigapixels": lambda _: _gif(0xFFFF, 0xFFFF),
    "gif-of-500-frames": lambda _: _animation("GIF", 500),
    "gif-many-comments": _gif_of_many_comments,
    "gif-one-comment": _gif_of_one_comment,
    "bmp-of-1-bit@max-pixels": lambda _: _bmp(_WIDTH, _HEIGHT, 1, 0, bytes(1_252 * _HEIGHT)),
    "bmp-runs@max-pixels": _bmp_of_runs,
    "bmp-single-pixels": _bmp_of_single_pixels,
    "bmp-empty-runs": _bmp_of_empty_runs,
    "bmp-of-2^62-pixels": lambda _: _bmp(2**31 - 1, 2**31 - 1, 24, 0, bytes(100)),
    "tiff@max-pixels": _greatest("TIFF", compression="tiff_deflate"),
    "tiff-lzw@max-pixels": _greatest("TIFF", compression="tiff_lzw"),
    "tiff-fax@max-pixels": _greatest("TIFF", "1", compression="group4"),
    "tiff-gray-of-16-bits@max-pixels": _greatest("TIFF", "I;16", compression="tiff_deflate"),
    "tiff-of-500-pages": lambda _: _animation("TIFF", 500),
    "tiff-many-tags": lambda _: _many_tags(),
    "tiff-long-bits-per-sample": _tiff_with(258, 3, 2),
    "tiff-long-resolution": _tiff_with(282, 5, 8),
    "tiff-long-offsets": _tiff_with(273, 4, 4),
    "small-png@max-bytes": _filled,
    "small-png@past-bytes": lambda max_bytes: _filled(max_bytes + 1),
    "zeros@max-bytes": bytes,
    "nothing": lambda _: b"",
}
"""By name; "@max-pixels" is as many as are taken."""

_kept: dict[tuple[str, int], bytes] = {}


def file(name: str, max_bytes: int) -> bytes:
    """One of FILES; kept where it is small, since those of many pixels take seconds to make."""
    kept = _kept.get((name, max_bytes))
    if kept is not None:
        return kept
    content = FILES[name](max_bytes)
    if len(content) <= _MAX_KEPT_BYTES:
        _kept[name, max_bytes] = content
    return content
