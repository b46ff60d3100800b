"""What a message is made of that is not parsed yet; what it means is the parser's job.

A field of two bytes becomes an object of a hundred: parsing 8 MiB of empty images holds everybody
up for 0.3 s, and no bound of a request can be looked at before. What is large is copied by it, and
copied again whenever it is asked for.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
from collections.abc import Callable
from typing import TypeVar

from google.protobuf.descriptor import Descriptor
from google.protobuf.message import DecodeError, Message

from glimpse.errors import InvalidInput

MAX_FIELDS = 16_384
"""Fields of a message and of those in it, each entry of a repeated one: more than any may have."""

MAX_STRUCT_BYTES = 2**16
"""One google.protobuf.Struct, whose own values are not counted. As JSON, numbers take a quarter of
it, and all else more: 16 KiB of JSON always fit."""

MAX_TEXT_BYTES = 2**18
"""One text: 65,536 characters, which no field takes more of."""

Kind = TypeVar("Kind", bound=Message)
Content = bytes | memoryview
Field = tuple[int, memoryview]
"""A field's number, and what it holds: text, bytes or a message."""

_Part = tuple[int, int, Descriptor]  # where a message begins and ends, and its kind
_Inner = tuple[str, Descriptor]  # a field's name and the kind of message in it

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5  # wire types; those of groups have no content


def check_fields(content: bytes, kind: Descriptor) -> None:
    """Raises InvalidInput for a message of `kind` with too many fields, or too long a text or
    Struct. Takes some milliseconds at most; what is no message at all passes."""
    if len(content) < 2 * MAX_FIELDS:
        return
    fields, parts = 0, [(0, len(content), kind)]
    with contextlib.suppress(IndexError):  # it ends within a field: the parser says so
        while parts:
            place, end, kind = parts.pop()
            messages, texts = _messages_in(kind), _texts_in(kind)
            while place < end:
                fields += 1
                _check_count(fields)
                number, size_bytes, place = _next(content, place)
                if size_bytes and (inner := messages.get(number)) is not None:
                    parts += _part(inner, place, size_bytes, end)
                elif MAX_TEXT_BYTES < size_bytes <= end - place and number in texts:
                    raise _too_long(texts[number], MAX_TEXT_BYTES, size_bytes)
                place += size_bytes


def take_apart(content: Content, *numbers: int) -> tuple[bytes, list[Field]]:
    """The message without the fields of these numbers, to be parsed; and these, as they follow each
    other, neither parsed nor copied.

    Raises InvalidInput for too many fields, and where one goes beyond the message.
    """
    taken: list[Field] = []
    kept: list[Content] = []
    view, place, kept_from = memoryview(content), 0, 0
    try:
        for fields in itertools.count(1):
            if place == len(view):
                break
            _check_count(fields)
            number, size_bytes, begin = _next(view, place)
            end = begin + size_bytes
            if end > len(view):
                raise IndexError
            if number in numbers and view[place] & 7 == _BYTES:
                kept.append(view[kept_from:place])
                taken.append((number, view[begin:end]))
                kept_from = end
            place = end
    except IndexError:
        raise InvalidInput("request", "is not a valid message (it is cut off)") from None
    return b"".join([*kept, view[kept_from:]]), taken


def parse(kind: type[Kind], content: bytes, field: str = "request") -> Kind:
    """The message of that kind; raises InvalidInput, naming `field` where it is none, and as
    check_fields does."""
    check_fields(content, kind.DESCRIPTOR)  # pyright: ignore[reportArgumentType]
    return parsed(kind.FromString, content, field)


def parsed(parser: Callable[[bytes], Kind], content: bytes, field: str = "request") -> Kind:
    """What the parser makes of it; raises InvalidInput, naming `field`, for what is no message."""
    try:
        return parser(content)
    except DecodeError as error:
        raise InvalidInput(field, f"is not a valid message ({error})") from None


def _next(content: Content, place: int) -> tuple[int, int, int]:
    """The number of the field at `place`, the size of what it holds, and where that begins; what is
    not counted in bytes has the size 0, and is behind. Raises IndexError past the end."""
    tag, place = _varint(content, place)
    number, wire_type, size_bytes = tag >> 3, tag & 7, 0
    if wire_type == _VARINT:
        _, place = _varint(content, place)
    elif wire_type == _FIXED64:
        place += 8
    elif wire_type == _FIXED32:
        place += 4
    elif wire_type == _BYTES:
        size_bytes, place = _varint(content, place)
    return number, size_bytes, place


def _check_count(fields: int) -> None:
    if fields > MAX_FIELDS:
        raise InvalidInput("request", f"must have at most {MAX_FIELDS} fields and entries in all")


def _part(inner: _Inner, place: int, size_bytes: int, end: int) -> list[_Part]:
    """The message within a message that is to be looked through; none for a Struct."""
    name, kind = inner
    if kind.full_name != "google.protobuf.Struct":
        return [(place, min(place + size_bytes, end), kind)]
    if size_bytes > MAX_STRUCT_BYTES:
        raise _too_long(name, MAX_STRUCT_BYTES, size_bytes)
    return []


def _too_long(name: str, max_bytes: int, size_bytes: int) -> InvalidInput:
    return InvalidInput(
        name, f"must have at most {max_bytes} bytes in a message; it has {size_bytes}"
    )


def _varint(content: Content, place: int) -> tuple[int, int]:
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


@functools.lru_cache(256)
def _texts_in(kind: Descriptor) -> dict[int, str]:
    """Names of the fields that are texts, by their numbers."""
    return {field.number: field.name for field in kind.fields if field.type == field.TYPE_STRING}
