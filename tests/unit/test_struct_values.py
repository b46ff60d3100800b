"""A serialised Struct becomes the JSON object that protobuf would make of it."""

from __future__ import annotations

import json

import pytest
from google.protobuf import struct_pb2

from glimpse.errors import InvalidInput
from services.indexer.bounds import MetadataBudget
from services.indexer.struct_values import object_of


def read(content):
    return object_of(content, MetadataBudget(len(content)), "metadata")


def written(value):
    struct = struct_pb2.Struct()
    struct.update(value)
    return struct.SerializeToString()


def entry(value):
    """A Struct with this serialised Value under the key "k"."""
    inner = b"\x0a\x01k\x12" + bytes([len(value)]) + value
    return b"\x0a" + bytes([len(inner)]) + inner


@pytest.mark.parametrize(
    "value",
    [
        {},
        {"": ""},
        {f"key{n}": n for n in range(-500, 500)},
        {"half": -0.5, "most": 2**53, "more": 2.0**54, "least": 5e-324},
        {"a": "x" * 127, "b": "x" * 128, "c": "犬 🐕", "d": '"\\\n\0'},
        {"yes": True, "no": False, "nothing": None},
        {"n": {"o": {"p": [1, [2.5, "x", None, {"q": {}}], []]}}},
    ],
    ids=lambda value: str(value)[:20],
)
def test_values_come_out_as_they_went_in(value):
    assert json.dumps(read(written(value)), sort_keys=True) == json.dumps(value, sort_keys=True)


def test_of_a_value_that_is_several_the_last_one_counts():
    number, text = struct_pb2.Value(number_value=7), struct_pb2.Value(string_value="x")
    number, text = number.SerializeToString(), text.SerializeToString()
    assert read(entry(number + text)) == {"k": "x"}
    assert read(entry(text + number)) == {"k": 7}
    assert read(entry(b"")) == {"k": None}
    assert read(entry(number) + entry(text)) == {"k": "x"}


@pytest.mark.parametrize(
    "content",
    [b"\xff", entry(b"\xff"), entry(b"\x11" + bytes(7)), entry(b"\x1a\x02\xc3\x28"), b"\x0a\x7f"],
)
def test_what_is_no_struct_is_refused_and_named(content):
    with pytest.raises(InvalidInput) as raised:
        read(content)
    assert raised.value.field == "metadata"


def test_more_entries_than_fit_are_refused_before_they_are_converted():
    with pytest.raises(InvalidInput, match="16384"):
        read(written({f"key{n}": n for n in range(1_500)}))
    with pytest.raises(InvalidInput, match="16384"):
        read(written({"n": [None] * 5_500}))
