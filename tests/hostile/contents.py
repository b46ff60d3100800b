"""What is put into a field in order to hurt whoever reads it, by the field's type and name.

A new field is given what all fields of its type are given. To give more to those of a name, add to
texts.BY_FIELD, or to FILE_FIELDS here.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from google.protobuf.descriptor import FieldDescriptor

from tests.hostile import json_values, pictures, sizes, texts
from tests.hostile.contracts import Place, Times, Value, nested, places, well_formed

FILE_FIELDS = ("file", "image", "content")
"""Bytes that are picture files."""

_FILES_OF_EVERY_FIELD = (
    "png@max-pixels",
    "png@past-pixels",
    "small-png@max-bytes",
    "small-png@past-bytes",
    "zeros@max-bytes",
    "nothing",
)
"""Each service reads files by one decoder, whatever field they come in: the others of
pictures.FILES are put into its first field that takes files, these into each."""

_NEW_EACH_CALL = ("text", "texts", "collection", "id", "ids", "image_id")
"""Where a service remembers what it has seen: nothing is asked for twice."""

_MESSAGE_MARGIN_BYTES = 64 * 1024  # for what else a message holds
_LEVELS = {
    "nested@max": sizes.MAX_CONDITION_LEVELS - 1,
    "nested@past": sizes.MAX_CONDITION_LEVELS,
    "nested-45": 45,
    "nested-1,000": 1_000,
}
_FLOATS = {
    "nan": float("nan"),
    "infinity": float("inf"),
    "minus-infinity": float("-inf"),
    "denormal": 1e-45,
    "huge": 3.4e38,
}


@dataclass(frozen=True)
class Content:
    """A name, and the field's values in the n-th call that is made with it."""

    name: str
    make: Callable[[int], Sequence[Value]]
    is_new_each_call: bool = False


def contents(place: Place) -> Iterator[Content]:
    """All that this field is attacked with."""
    field = place.field
    if field.is_repeated:
        yield from _entries(place)
    if field.message_type is not None:
        yield from _messages(place)
    elif field.type == FieldDescriptor.TYPE_BYTES:
        yield from _bytes(place)
    elif field.type == FieldDescriptor.TYPE_STRING:
        yield from _texts(place)
    elif field.cpp_type in (FieldDescriptor.CPPTYPE_FLOAT, FieldDescriptor.CPPTYPE_DOUBLE):
        yield from _floats(field)
    else:
        yield from _whole_numbers(field)


def few_contents(place: Place) -> Iterator[Content]:
    """Of all those, the first of each level, and of what is for fields of its name alone."""
    own = next(iter(texts.BY_FIELD.get(place.field.name, ())), "")
    seen: set[str] = set()
    for content in contents(place):
        kind, _, level = content.name.partition("@")
        if level not in seen or kind == own:
            yield content
        seen.add(level)


def _most_bytes(place: Place) -> int:
    return sizes.max_message_bytes(place.method.service) - _MESSAGE_MARGIN_BYTES


def _fixed(name: str, make: Callable[[], Value]) -> Content:
    return Content(name, lambda _: (make(),))


def _entries(place: Place) -> Iterator[Content]:
    """Many of them, of the usual kind; and as many as a message takes, of none."""
    field = place.field
    for level, count in sizes.counts(field).items():
        if field.type == FieldDescriptor.TYPE_STRING:
            yield Content(
                f"entries@{level}",
                lambda call, count=count: [f"a{call}.{n}" for n in range(count)],
                is_new_each_call=True,
            )
            longest = max(sizes.lengths(field).values()) - 1
            yield _fixed(f"long-entries@{level}", lambda c=count, n=longest: Times("a" * n, c))
        elif field.message_type is not None:
            usual = well_formed(field.message_type)
            yield _fixed(f"entries@{level}", functools.partial(Times, usual, count))
        else:
            yield _fixed(f"entries@{level}", lambda c=count: np.ones(c, np.float32).tobytes())
    most = _most_bytes(place)
    if field.is_packed:
        yield _fixed("entries@message", lambda: bytes(most // 4 * 4))
    else:
        yield _fixed("empty-entries@message", lambda: Times(b"", most // 2))


def _messages(place: Place) -> Iterator[Content]:
    if place.cycle:
        for name, levels in _LEVELS.items():
            yield _fixed(name, lambda levels=levels: nested(place.cycle, levels))
    kinds = {
        "google.protobuf.Struct": json_values.STRUCTS,
        "google.protobuf.Value": json_values.VALUES,
    }
    for name, make in kinds.get(place.field.message_type.full_name, {}).items():
        yield _fixed(name, functools.partial(make, _most_bytes(place)))


@functools.cache
def _decoded() -> frozenset[str]:
    """The first field of each service that takes picture files."""
    first: dict[str, str] = {}
    for place in places():
        if place.field.name in FILE_FIELDS:
            first.setdefault(place.method.service, place.name)
    return frozenset(first.values())


def _bytes(place: Place) -> Iterator[Content]:
    levels = sizes.lengths(place.field)
    if place.field.name in FILE_FIELDS:
        most = min(levels.values())
        for name in pictures.FILES if place.name in _decoded() else _FILES_OF_EVERY_FIELD:
            yield _fixed(name, functools.partial(pictures.file, name, most))
    else:
        for level, size in levels.items():
            yield _fixed(f"zeros@{level}", functools.partial(bytes, size))
    yield _fixed("zeros@message", functools.partial(bytes, _most_bytes(place)))


def _texts(place: Place) -> Iterator[Content]:
    field = place.field
    own = texts.BY_FIELD.get(field.name, {})
    for level, size in sizes.lengths(field).items():
        makes = {**texts.ANY, **own}
        if level == "past":
            # It is refused for its length; that this is looked at too late, one text shows which is
            # bad for what reads the field.
            makes = {name: makes[name] for name in ("letters", *list(own)[:1])}
        for name, make in makes.items():
            yield _text(f"{name}@{level}", field, functools.partial(make, size))
    yield _fixed("letters@message", lambda: b"a" * _most_bytes(place))
    yield _fixed("no-utf8", lambda: texts.NOT_UTF8)
    if field.name in _NEW_EACH_CALL:
        yield Content("new-each-call", lambda call: (f"hostile{call}",), is_new_each_call=True)


def _text(name: str, field: FieldDescriptor, make: Callable[[], str]) -> Content:
    if field.name not in ("text", "texts"):
        return _fixed(name, make)

    def numbered(call: int) -> Sequence[Value]:
        text, number = make(), f"{call} "
        return (number + text[len(number) :],)

    return Content(name, numbered, is_new_each_call=True)


def _floats(field: FieldDescriptor) -> Iterator[Content]:
    for name, value in _FLOATS.items():
        if field.is_repeated:
            count = min(sizes.counts(field).values())
            values = np.full(count, value, np.float32).tobytes()
            yield _fixed(name, lambda values=values: values)
        else:
            yield _fixed(name, lambda value=value: value)
    yield from _bounds(field)


def _whole_numbers(field: FieldDescriptor) -> Iterator[Content]:
    kinds = FieldDescriptor
    if field.cpp_type == kinds.CPPTYPE_BOOL:
        yield _fixed("true", lambda: True)
        return
    if field.cpp_type == kinds.CPPTYPE_ENUM:
        known = [value.number for value in field.enum_type.values]
        numbers = {"greatest@max": max(known), "unknown@past": max(known) + 1, "negative": -1}
    else:
        bits = 64 if field.cpp_type in (kinds.CPPTYPE_INT64, kinds.CPPTYPE_UINT64) else 32
        signed = field.cpp_type in (kinds.CPPTYPE_INT64, kinds.CPPTYPE_INT32)
        least, greatest = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
        numbers = {"zero": 0, "least": least, "greatest": greatest}
    for name, number in numbers.items():
        yield _fixed(name, lambda number=number: number)
    yield from _bounds(field)


def _bounds(field: FieldDescriptor) -> Iterator[Content]:
    greatest = sizes.greatest(field)
    if greatest is None or field.is_repeated:
        return
    kind = float if field.cpp_type == FieldDescriptor.CPPTYPE_FLOAT else int
    for level, number in (("max", greatest), ("past", greatest + 1)):
        yield _fixed(f"number@{level}", lambda number=number: kind(number))
