"""What metadata a row takes, and that its text means the same."""

from __future__ import annotations

import json

import pytest

from glimpse.errors import InvalidInput
from services.vectors.metadata import MAX_METADATA_BYTES, Metadata


@pytest.mark.parametrize(
    "bad",
    [
        ["no object"],
        {"n": float("nan")},
        {"n": 2**63},
        {"text": "x" * 16_384},
        {"k": [[[[[[[[]]]]]]]]},
        {"text": "\ud800"},
        {"\ud800": 1},
        {1: "a key that is no text"},
        {"k": b"no JSON"},
    ],
    ids=lambda bad: repr(bad)[:30],
)
def test_metadata_beyond_a_bound_are_refused_and_named(bad):
    with pytest.raises(InvalidInput) as raised:
        Metadata.of(bad, "image.metadata")
    assert raised.value.field == "image.metadata"


@pytest.mark.parametrize(
    "value", [{}, {"big": 2**53 + 1, 'quote"d': ["犬 🐕", None, 1e16, True, {"f": -0.5}]}], ids=len
)
def test_metadata_come_out_of_their_text_as_they_went_in(value):
    metadata = Metadata.of(value)
    assert metadata.value == value
    assert metadata.text == json.dumps(value, ensure_ascii=False)
    assert metadata.size_bytes == len(metadata.text.encode())


def test_the_largest_metadata_are_counted_in_bytes_of_utf8():
    most = Metadata.of({"k": "ü" * ((MAX_METADATA_BYTES - len('{"k": ""}')) // 2)})
    assert most.size_bytes == MAX_METADATA_BYTES - 1
    with pytest.raises(InvalidInput, match="16384"):
        Metadata.of({"k": "ü" * 8_188})
