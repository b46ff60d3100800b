"""How much of a picture file may be something else than pixels; what it shows is Pillow's to say.

Pillow reads what stands around the pixels with Python's loops, some of them quadratic: files of a
few megabytes, made for it, take it minutes. Cameras, phones and editors stay far below each bound.
What is damaged, Pillow refuses; here a file is only followed as far as it can be. Takes
milliseconds, also for the files that it refuses, and bounds them together with a decode worker's
CPU time: what no bound here foresees ends there.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator

from glimpse.errors import InvalidImage
from glimpse.pictures.png_chunks import SIGNATURE, chunks

IMAGE_TOO_COMPLEX = "IMAGE_TOO_COMPLEX"

_MAX_PARTS = 1_000
_BYTES_PER_PART = 256
"""Chunks of PNG and WebP beyond _MAX_PARTS have so many bytes on average: a PNG's pixels may come
in thousands of them, an animation's frames, too."""

_MAX_JPEG_SEGMENTS = 1_000  # before the pixels; of up to 64 KiB each
_MAX_JPEG_SCANS = 100  # libtiff's own bound for JPEG within TIFF; encoders write about ten
_MAX_JPEG_EXIF_SEGMENTS = 16  # Pillow copies all that came before to each
_MAX_JPEG_TABLE_BYTES = 2**16
_MAX_JPEG_JUNK_BYTES = 2**16
_MAX_PHOTOSHOP_RESOURCES = 4_096
_MAX_PROFILES = 8  # of colour, or EXIF, in PNG and WebP; one of a kind is allowed
_MAX_GIF_BLOCKS = 20_000  # before the pixels, of up to 255 bytes
_MAX_GIF_COMMENT_BYTES = 2**18  # Pillow copies all that came before to each block
_MAX_BMP_RUNS_BYTES = 2**17  # of run lengths, which Pillow decodes in Python
_MAX_TIFF_TAGS = 6_000  # more than fit into a JPEG's segment, so that broken EXIF spoils no picture
_MAX_TIFF_NUMBERS = 2**16  # offsets of strips and tiles, mostly
_MAX_TIFF_FRACTIONS = 4_096

_SEQUENTIAL_FRAMES = (0xC0, 0xC1)
_SCAN = b"\xff\xda"
_END = 0xD9
_MARKER_WITHIN_SCANS = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]")
_EXIF = b"Exif\0\0"
_BMP_RUNS = (1, 2)
_TIFF_HEADS = {b"II*\0": "<", b"MM\0*": ">", b"II+\0": "<", b"MM\0+": ">"}
_TIFF_VALUE_BYTES = {3: 2, 4: 4, 5: 8, 6: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8}
_TIFF_FRACTIONS = (5, 10)
_TIFF_DIRECTORIES = (34665, 34853, 40965)  # tags of EXIF, GPS, interoperability


def check_structure(content: bytes) -> None:
    """Raises InvalidImage, reason IMAGE_TOO_COMPLEX, for a file that breaks a bound."""
    if content.startswith(b"\xff\xd8"):
        _check_jpeg(content)
    elif content.startswith(SIGNATURE):
        _check_png(content)
    elif content.startswith(b"RIFF") and content[8:12] == b"WEBP":
        _check_webp(content)
    elif content.startswith((b"GIF87a", b"GIF89a")):
        _check_gif(content)
    elif content.startswith(b"BM"):
        _check_bmp(content)
    else:
        _check_tiff(content)


def webp_size(content: bytes) -> tuple[int, int]:
    """The width and height that a WebP declares, 0 of any other file: opening it takes memory for
    them, unlike other formats. Source: RFC 9649 and, for lossy ones, RFC 6386."""
    kind, head = content[12:16], content[20:30]
    if not content.startswith(b"RIFF") or content[8:12] != b"WEBP" or len(head) < 10:
        return 0, 0
    if kind == b"VP8X":
        width, height = (int.from_bytes(head[at : at + 3], "little") for at in (4, 7))
        return width + 1, height + 1
    if kind == b"VP8L":
        sizes = int.from_bytes(head[1:5], "little")
        return (sizes & 0x3FFF) + 1, (sizes >> 14 & 0x3FFF) + 1
    width, height = (int.from_bytes(head[at : at + 2], "little") & 0x3FFF for at in (6, 8))
    return width, height


def has_several_scans(content: bytes) -> bool:
    """Whether a JPEG's pixels come in several passes, as those of progressive ones do."""
    components = b""
    for marker, start, _ in _segments(content):
        if marker in _SEQUENTIAL_FRAMES:
            components = content[start + 5 : start + 6]
        elif marker == 0xDA:
            return content[start : start + 1] != components
    return True


def _check(count: int, most: int, what: str) -> None:
    if count > most:
        raise InvalidImage("image", f"more than {most} {what}", reason=IMAGE_TOO_COMPLEX)


def _check_jpeg(content: bytes) -> None:
    exif: list[bytes] = []
    table_bytes = resources = 0
    scans_at, pictures_at, components = 0, (0, 0), b""
    for segments, (marker, start, end) in enumerate(_segments(content), 1):
        if marker == 0xDA:
            # All components in one: further scans are not read.
            scans_at = 0 if components and content[start : start + 1] == components else end
            break
        _check(segments, _MAX_JPEG_SEGMENTS, "JPEG segments before the pixels")
        if marker == 0xDB:
            table_bytes += end - start
            _check(table_bytes, _MAX_JPEG_TABLE_BYTES, "bytes of JPEG quantization tables")
        elif marker in _SEQUENTIAL_FRAMES:
            components = content[start + 5 : start + 6]
        elif marker == 0xE1 and content.startswith(_EXIF, start):
            exif.append(content[start + len(_EXIF) : end])
            _check(len(exif), _MAX_JPEG_EXIF_SEGMENTS, "EXIF segments")
        elif marker == 0xE2 and content.startswith(b"MPF\0", start):
            pictures_at = start + 4, end  # the last one counts
        elif marker == 0xED:
            resources += content.count(b"8BIM", start, end)
            _check(resources, _MAX_PHOTOSHOP_RESOURCES, "Photoshop resources")
    _check_tiff(b"".join(exif))
    _check_tiff(content[slice(*pictures_at)])
    # Counted fast, with those of a preview or a film that follows; exactly, only where it matters.
    if scans_at and content.count(_SCAN, scans_at) >= _MAX_JPEG_SCANS:
        _check_scans(content, scans_at)


def _segments(content: bytes) -> Iterator[tuple[int, int, int]]:
    """The marker, begin and end of what each segment holds, up to the first scan's, as Pillow looks
    for them: past what is no marker."""
    at, junk_bytes, size = 2, 0, len(content)
    while at + 4 <= size:
        marker = content[at + 1]
        if content[at] != 0xFF or marker in (0x00, 0xFF):
            at, junk_bytes = at + 1, junk_bytes + 1
            _check(junk_bytes, _MAX_JPEG_JUNK_BYTES, "bytes between JPEG segments")
        elif marker < 0xC0 or 0xD0 <= marker <= 0xD8 or marker == _END:
            at, junk_bytes = at + 2, junk_bytes + 2
            _check(junk_bytes, _MAX_JPEG_JUNK_BYTES, "bytes between JPEG segments")
        else:
            end = at + 2 + max(2, int.from_bytes(content[at + 2 : at + 4], "big"))
            yield marker, at + 4, end
            at = end


def _check_scans(content: bytes, at: int) -> None:
    scans = 1
    while (found := _MARKER_WITHIN_SCANS.search(content, at)) is not None:
        marker, at = found[0][1], found.end()
        if marker == _END:
            return
        scans += marker == 0xDA
        _check(scans, _MAX_JPEG_SCANS, "scans of a JPEG")
        at += max(2, int.from_bytes(content[at : at + 2], "big"))


def _check_png(content: bytes) -> None:
    profiles = 0
    most = _MAX_PARTS + len(content) // _BYTES_PER_PART
    for count, chunk in enumerate(chunks(content), 1):
        _check(count, most, "PNG chunks in a file of this length")
        if chunk.kind in (b"iCCP", b"eXIf"):
            profiles += 1
            _check(profiles, _MAX_PROFILES, "colour profiles and EXIF chunks")
            _check_tiff(content[chunk.start : chunk.end])
        elif chunk.kind == b"IEND":
            return


def _check_webp(content: bytes) -> None:
    chunks = profiles = 0
    most = _MAX_PARTS + len(content) // _BYTES_PER_PART
    at, size = 12, len(content)
    while at + 8 <= size:
        start = at + 8
        end = start + int.from_bytes(content[at + 4 : at + 8], "little")
        chunks += 1
        _check(chunks, most, "WebP chunks in a file of this length")
        if content.startswith(b"EXIF", at):
            profiles += 1
            _check(profiles, _MAX_PROFILES, "EXIF chunks")
            _check_tiff(content[start:end].removeprefix(_EXIF))
        at = end + (end & 1)


def _check_gif(content: bytes) -> None:
    blocks = comment_bytes = 0
    at, size = 13, len(content)
    if at <= size and content[10] & 0x80:
        at += 3 << (content[10] & 7) + 1
    while at < size and content[at] not in b",;":
        blocks += 1
        is_extension, is_comment = content[at] == ord("!"), content[at + 1 : at + 2] == b"\xfe"
        at += 2 if is_extension else 1
        while is_extension and at < size and (length := content[at]):
            blocks += 1
            comment_bytes += length if is_comment else 0
            _check(blocks, _MAX_GIF_BLOCKS, "GIF blocks before the pixels")
            at += 1 + length
        at += is_extension
        _check(blocks, _MAX_GIF_BLOCKS, "GIF blocks before the pixels")
        _check(comment_bytes, _MAX_GIF_COMMENT_BYTES, "bytes of comments")


def _check_bmp(content: bytes) -> None:
    is_of_runs = len(content) >= 34 and int.from_bytes(content[30:34], "little") in _BMP_RUNS
    if is_of_runs and int.from_bytes(content[14:18], "little") >= 40:
        _check(len(content), _MAX_BMP_RUNS_BYTES, "bytes of a BMP that holds run lengths")


def _check_tiff(content: bytes) -> None:
    """Of a file, or of EXIF, which is one without pixels: the directories that Pillow reads."""
    order = _TIFF_HEADS.get(content[:4])
    if order is None or len(content) < 16:
        return
    is_big = b"+" in content[:4]
    (first,) = struct.unpack_from(f"{order}{'8xQ' if is_big else '4xL'}", content)
    _Directories(content, order, is_big).check(first, may_lead_on=2)


class _Directories:
    """The directories of one TIFF, counted together."""

    def __init__(self, content: bytes, order: str, is_big: bool) -> None:
        self._content = content
        self._count = struct.Struct(f"{order}{'Q' if is_big else 'H'}")
        self._entry = struct.Struct(f"{order}{'HHQQ' if is_big else 'HHLL'}")
        self._tags = self._numbers = self._fractions = 0

    def check(self, at: int, may_lead_on: int) -> None:
        """The directory there, and those that it leads to."""
        if at + self._count.size > len(self._content):
            return
        (count,) = self._count.unpack_from(self._content, at)
        at += self._count.size
        for _ in range(count):
            if at + self._entry.size > len(self._content):
                return
            tag, kind, values, value = self._entry.unpack_from(self._content, at)
            at += self._entry.size
            self._tags += 1
            _check(self._tags, _MAX_TIFF_TAGS, "TIFF or EXIF tags")
            if values * _TIFF_VALUE_BYTES.get(kind, 0) <= len(self._content):  # else it is skipped
                self._numbers += values if kind in _TIFF_VALUE_BYTES else 0
                self._fractions += values if kind in _TIFF_FRACTIONS else 0
                _check(self._numbers, _MAX_TIFF_NUMBERS, "numbers in TIFF or EXIF tags")
                _check(self._fractions, _MAX_TIFF_FRACTIONS, "fractions in TIFF or EXIF tags")
            if tag in _TIFF_DIRECTORIES and may_lead_on:
                self.check(value, may_lead_on - 1)
