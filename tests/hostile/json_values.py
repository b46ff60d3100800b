"""JSON that is worst for what reads it, as protobuf's Struct and Value on the wire."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping

from google.protobuf import struct_pb2

from tests.hostile.contracts import delimited
from tests.hostile.sizes import MAX_METADATA_BYTES, MAX_METADATA_LEVELS
from tests.hostile.texts import NOT_UTF8

# Field numbers of google/protobuf/struct.proto.
_FIELDS, _KEY, _VALUE = 1, 1, 2
_STRING, _STRUCT, _LIST, _VALUES = 3, 5, 6, 1
_NULL = b"\x08\x00"
_MANY = 100_000

Make = Callable[[int], bytes]
"""A message on the wire, made for a service that takes messages of so many bytes."""


def number(value: float) -> bytes:
    """A Value that is a number."""
    return struct_pb2.Value(number_value=value).SerializeToString(deterministic=True)


def text(content: bytes) -> bytes:
    """A Value that is text, whether it is UTF-8 or not."""
    return delimited(_STRING, content)


def array(*items: bytes) -> bytes:
    """A Value that is a list of Values."""
    return delimited(_LIST, b"".join(delimited(_VALUES, item) for item in items))


def array_of(item: bytes, count: int) -> bytes:
    """A Value that is a list of the same Value so many times."""
    return delimited(_LIST, delimited(_VALUES, item) * count)


def struct(entries: Mapping[bytes, bytes]) -> bytes:
    """A Struct of these keys and Values."""
    return b"".join(entry(key, value) for key, value in entries.items())


def entry(key: bytes, value: bytes) -> bytes:
    """What a Struct holds for one key."""
    return delimited(_FIELDS, delimited(_KEY, key) + delimited(_VALUE, value))


def object_of(content: bytes) -> bytes:
    """A Value that is the Struct."""
    return delimited(_STRUCT, content)


@functools.lru_cache(4)
def many_keys(max_bytes: int) -> bytes:
    """A Struct of as many different keys, all null, as so many bytes take."""
    keys = (b"%x" % number for number in range(max_bytes))
    entries, left = [], max_bytes
    for key in keys:
        content = entry(key, _NULL)
        left -= len(content)
        if left < 0:
            break
        entries.append(content)
    return b"".join(entries)


def nested_structs(levels: int) -> bytes:
    """A Struct so many levels deep."""
    content = struct({b"d": number(1)})
    for _ in range(levels - 1):
        content = struct({b"d": object_of(content)})
    return content


def nested_lists(levels: int) -> bytes:
    """A Value: lists so many levels deep."""
    content = number(1)
    for _ in range(levels):
        content = array(content)
    return content


def _in_struct(value: bytes) -> bytes:
    return struct({b"a": value})


_JSON_AROUND = len('{"a": ""}')

VALUES: Mapping[str, Make] = {
    "text-of-16Ki": lambda _: text(b"a" * MAX_METADATA_BYTES),
    "text-of-1Mi": lambda _: text(b"a" * 2**20),
    "text@message": lambda most: text(b"a" * most),
    "quotes@max": lambda _: text(b'"' * 8_000),
    "quotes-of-1Mi": lambda _: text(b'\\"' * 2**19),
    "control-characters": lambda _: text(b"\x01" * 2_000),
    "no-utf8": lambda _: text(NOT_UTF8),
    "long-prefix": lambda _: text("\U0010ffff".encode() * 4_000),
    "nan": lambda _: number(float("nan")),
    "infinity": lambda _: number(float("-inf")),
    "huge-number": lambda _: number(1e308),
    "whole-number-past-64-bits": lambda _: number(2.0**70),
    "nulls-of-16Ki": lambda _: array_of(_NULL, MAX_METADATA_BYTES // 6),
    "nulls-of-1.3M": lambda _: array_of(_NULL, 1_300_000 // 4),
    "nulls@message": lambda most: array_of(_NULL, most // 4 - 8),
    "numbers@message": lambda most: array_of(number(0.5), most // 11 - 8),
    "texts@message": lambda most: array_of(text(b""), most // 4 - 8),
    "empty-lists@message": lambda most: array_of(array(), most // 4 - 8),
    "list-of-100,000-texts": lambda _: array_of(text(b"a"), _MANY),
    "list-of-1,024-texts": lambda _: array_of(text(b"a" * 60), 1_024),
    "list-of-1,025-texts": lambda _: array_of(text(b"a" * 60), 1_025),
    "list-of-1,024-numbers": lambda _: array_of(number(1), 1_024),
    "keys-of-100,000": lambda _: object_of(many_keys(_MANY * 16)),
    "nested-lists@max": lambda _: nested_lists(MAX_METADATA_LEVELS - 1),
    "nested-lists@past": lambda _: nested_lists(MAX_METADATA_LEVELS),
    "nested-lists-of-40": lambda _: nested_lists(40),
    "nested-lists-of-1,000": lambda _: nested_lists(1_000),
}
"""For a google.protobuf.Value, and for what a Struct holds."""

STRUCTS: Mapping[str, Make] = {
    **{name: lambda most, make=make: _in_struct(make(most)) for name, make in VALUES.items()},
    "size@max": lambda _: _in_struct(text(b"a" * (MAX_METADATA_BYTES - _JSON_AROUND))),
    "size@past": lambda _: _in_struct(text(b"a" * (MAX_METADATA_BYTES - _JSON_AROUND + 1))),
    "keys-of-16Ki": lambda _: many_keys(MAX_METADATA_BYTES),
    "keys-of-1.3M": lambda _: many_keys(1_300_000),
    "keys@message": many_keys,
    "same-key@message": lambda most: entry(b"", _NULL) * (most // len(entry(b"", _NULL))),
    "long-key": lambda _: struct({b"k" * 2**20: _NULL}),
    "key-of-no-utf8": lambda _: struct({NOT_UTF8: _NULL}),
    "key-of-control-characters": lambda _: struct({b"\x00\x1b[2J": _NULL}),
    "nested@max": lambda _: nested_structs(MAX_METADATA_LEVELS),
    "nested@past": lambda _: nested_structs(MAX_METADATA_LEVELS + 1),
    "nested-30": lambda _: nested_structs(30),
    "nested-1,000": lambda _: nested_structs(1_000),
}
"""For a google.protobuf.Struct."""
