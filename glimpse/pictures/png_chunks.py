"""The chunks of a PNG, and a PNG without those that show nothing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

SIGNATURE = b"\x89PNG\r\n\x1a\n"

# Pillow refuses a PNG in which one of these is longer than a megabyte once it is decompressed.
_TEXTS = (b"tEXt", b"zTXt", b"iTXt", b"iCCP")
_XMP = b"XML:com.adobe.xmp\0\0"  # not compressed; may say how the picture is to be turned


class Chunk(NamedTuple):
    """Where a chunk lies in its file."""

    kind: bytes
    at: int  # of its length, which comes first
    start: int  # of what it holds
    end: int  # of that; a checksum of 4 bytes follows


def chunks(content: bytes) -> Iterator[Chunk]:
    """Those of a PNG, as far as they can be followed."""
    at, size = len(SIGNATURE), len(content)
    while at + 8 <= size:
        kind, start = content[at + 4 : at + 8], at + 8
        end = start + int.from_bytes(content[at : at + 4], "big")
        yield Chunk(kind, at, start, end)
        at = end + 4


def without_texts(content: bytes) -> bytes:
    """A PNG without texts and colour profiles, of which no pixel depends; any other file as it is.

    Kept is XMP that is not compressed.
    """
    if not content.startswith(SIGNATURE):
        return content
    kept, begin = [], 0
    for chunk in chunks(content):
        if chunk.kind in _TEXTS and not content.startswith(_XMP, chunk.start):
            kept.append(content[begin : chunk.at])
            begin = chunk.end + 4
        elif chunk.kind == b"IEND":
            break
    return b"".join((*kept, content[begin:])) if kept else content
