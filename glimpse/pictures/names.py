"""Names of picture formats that are not taken, so that a refusal can say what a file is; camera raw
above all, in which other readers find a thumbnail and take it for the picture."""

from __future__ import annotations

import struct

_RAW = "a camera's raw file"
_BEGINNINGS = (
    (0, b"\xff\x0a", "JPEG XL"),
    (0, b"\0\0\0\x0cJXL \r\n\x87\n", "JPEG XL"),
    (0, b"\0\0\0\x0cjP  \r\n\x87\n", "JPEG 2000"),
    (0, b"\xff\x4f\xff\x51", "JPEG 2000"),
    (0, b"8BPS", "a Photoshop document"),
    (4, b"ftypcrx ", f"{_RAW} (CR3)"),
    (8, b"CR\x02", f"{_RAW} (CR2)"),
    (0, b"FUJIFILMCCD-RAW", f"{_RAW} (RAF)"),
    (0, b"IIRO", f"{_RAW} (ORF)"),
    (0, b"IIRS", f"{_RAW} (ORF)"),
    (0, b"MMOR", f"{_RAW} (ORF)"),
    (0, b"IIU\0", f"{_RAW} (RW2)"),
    (0, b"FOVb", f"{_RAW} (X3F)"),
    (0, b"\0MRM", f"{_RAW} (MRW)"),
)
"""Where a file of the format has which bytes."""

_ORDERS = {b"II*\0": "<", b"MM\0*": ">"}
_WHOLE_NUMBERS = {3: ("H", 2), 4: ("L", 4), 13: ("L", 4)}
_MAX_TAGS = 512  # that are looked at, and so many values of each
_MAX_VALUES = 8

# Tags of TIFF/EP, which raw files are, and of DNG.
_KIND, _PHOTOMETRIC, _SUB_DIRECTORIES, _DNG_VERSION = 254, 262, 330, 50706
_REDUCED = 1  # a bit of _KIND: a small copy of another picture of the file
_SENSOR = (32803, 34892)  # values of _PHOTOMETRIC: a colour filter's mosaic, and linear raw


def refused_name(content: bytes) -> str:
    """What a file is that is not taken, such as "JPEG XL"; "" for any other."""
    for at, beginning, name in _BEGINNINGS:
        if content.startswith(beginning, at):
            return name
    return _RAW if _is_raw_tiff(content) else ""


def _is_raw_tiff(content: bytes) -> bool:
    """Whether a TIFF is a camera's raw file: says so, holds what a sensor saw, or begins with a
    small copy of something else."""
    order = _ORDERS.get(content[:4])
    if order is None or len(content) < 8:
        return False
    first = _directory(content, order, struct.unpack_from(f"{order}L", content, 4)[0])
    if _DNG_VERSION in first or _number(first, _KIND) & _REDUCED:
        return True
    below = [_directory(content, order, at) for at in first.get(_SUB_DIRECTORIES, ())]
    return any(_number(each, _PHOTOMETRIC) in _SENSOR for each in (first, *below))


def _directory(content: bytes, order: str, at: int) -> dict[int, tuple[int, ...]]:
    """Of a directory's tags, the first values of each that are whole numbers."""
    found = {}
    if at + 2 > len(content):
        return found
    (count,) = struct.unpack_from(f"{order}H", content, at)
    for number in range(min(count, _MAX_TAGS)):
        entry = at + 2 + 12 * number
        if entry + 12 > len(content):
            break
        tag, kind, values = struct.unpack_from(f"{order}2HL", content, entry)
        letter, size = _WHOLE_NUMBERS.get(kind, ("B", 1))
        values = min(values, _MAX_VALUES)
        if values * size <= 4:
            start = entry + 8
        else:
            (start,) = struct.unpack_from(f"{order}L", content, entry + 8)
        if start + values * size <= len(content):
            found[tag] = struct.unpack_from(f"{order}{values}{letter}", content, start)
    return found


def _number(directory: dict[int, tuple[int, ...]], tag: int) -> int:
    return next(iter(directory.get(tag, ())), 0)
