"""How many fields a message has that is not parsed yet; what they mean is the parser's job.

A field of two bytes becomes an object of a hundred: parsing 8 MiB of empty images holds everybody
up for 0.3 s, and no bound of a request can be looked at before.
"""

from __future__ import annotations

import contextlib
import functools

from google.protobuf.descriptor import Descriptor

from glimpse.errors import InvalidInput

MAX_FIELDS = 16_384
"""Fields of a message and of those in it, each entry of a repeated one: more than any may have."""

MAX_STRUCT_BYTES = 2**20
"""One google.protobuf.Struct, whose own values are not counted."""

_Part = tuple[int, int, Descriptor]  # where a message begins and ends, and its kind
_Inner = tuple[str, Descriptor]  # a field's name and the kind of message in it

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5  # wire types; those of groups have no content


def check_fields(content: bytes, kind: Descriptor) -> None:
    """Raises InvalidInput for a message of `kind` with too many fields. Takes some milliseconds at
    most; what is no message at all passes."""
    if len(content) < 2 * MAX_FIELDS:
        return
    fields, parts = 0, [(0, len(content), kind)]
    with contextlib.suppress(IndexError):  # it ends within a field: the parser says so
        while parts:
            place, end, kind = parts.pop()
            messages = _messages_in(kind)
            while place < end:
                fields += 1
                if fields > MAX_FIELDS:
                    raise InvalidInput(
                        "request", f"must have at most {MAX_FIELDS} fields and entries in all"
                    )
                tag, place = _varint(content, place)
                wire_type = tag & 7
                if wire_type == _VARINT:
                    _, place = _varint(content, place)
                elif wire_type == _FIXED64:
                    place += 8
                elif wire_type == _FIXED32:
                    place += 4
                elif wire_type == _BYTES:
                    size, place = _varint(content, place)
                    if (inner := messages.get(tag >> 3)) is not None:
                        parts += _part(inner, place, size, end)
                    place += size


def _part(inner: _Inner, place: int, size_bytes: int, end: int) -> list[_Part]:
    """The message within a message that is to be looked through; none for a Struct."""
    name, kind = inner
    if kind.full_name != "google.protobuf.Struct":
        return [(place, min(place + size_bytes, end), kind)]
    if size_bytes > MAX_STRUCT_BYTES:
        raise InvalidInput(
            name, f"must have at most {MAX_STRUCT_BYTES} bytes as a message; it has {size_bytes}"
        )
    return []


def _varint(content: bytes, place: int) -> tuple[int, int]:
    """The number at `place`, and the place behind it."""
    value, place = content[place], place + 1
    if value < 0x80:
        return value, place
    value, shift = value & 0x7F, 7
    while True:
        byte = content[place]
        place += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80 or shift > 63:
            return value, place
        shift += 7


@functools.lru_cache(256)
def _messages_in(kind: Descriptor) -> dict[int, _Inner]:
    """Name and kind of the fields that are messages, by their numbers."""
    return {
        field.number: (field.name, field.message_type)
        for field in kind.fields
        if field.message_type is not None
    }
