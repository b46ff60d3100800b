"""Messages of too many fields are refused before they are parsed."""

from __future__ import annotations

import pytest
from google.protobuf import struct_pb2
from hypothesis import given, settings
from hypothesis import strategies as st

from glimpse.encoder.v1 import encoder_pb2
from glimpse.errors import InvalidInput
from glimpse.indexer.v1 import indexer_pb2
from services.common.message_fields import (
    MAX_FIELDS,
    MAX_STRUCT_BYTES,
    MAX_TEXT_BYTES,
    check_fields,
    take_apart,
)


def check(message):
    check_fields(message.SerializeToString(), message.DESCRIPTOR)


@pytest.mark.parametrize(
    "message",
    [
        encoder_pb2.EncodeTextsRequest(texts=[""] * (MAX_FIELDS + 1)),
        indexer_pb2.BatchIndexImagesRequest(images=[indexer_pb2.Image()] * (MAX_FIELDS + 1)),
        indexer_pb2.DeleteImagesRequest(ids=indexer_pb2.Ids(ids=["a"] * MAX_FIELDS)),
        indexer_pb2.DeleteImagesRequest(
            collection="x" * 100_000, ids=indexer_pb2.Ids(ids=["a"] * MAX_FIELDS)
        ),
    ],
    ids=["texts", "images", "ids within", "ids behind a long text"],
)
def test_too_many_fields_are_refused(message):
    with pytest.raises(InvalidInput, match=r"request: must have at most 16384 fields"):
        check(message)


def test_a_struct_that_is_too_long_is_refused_by_its_name():
    struct = struct_pb2.Struct()
    struct["a"] = "x" * MAX_STRUCT_BYTES
    with pytest.raises(InvalidInput, match=r"metadata: must have at most 65536 bytes"):
        check(indexer_pb2.IndexImagesRequest(image=indexer_pb2.Image(metadata=struct)))


def test_a_text_that_is_too_long_is_refused_by_its_name():
    texts = ["x" * MAX_TEXT_BYTES, "x" * (MAX_TEXT_BYTES + 1)]
    with pytest.raises(InvalidInput, match=r"texts: must have at most 262144 bytes"):
        check(encoder_pb2.EncodeTextsRequest(texts=texts))


def test_the_largest_requests_that_are_allowed_pass():
    struct = struct_pb2.Struct()
    struct["a"] = [1] * 5_457
    image = indexer_pb2.Image(
        sequence=2**64 - 1, content=b"\x0a\x00" * 100_000, id="i" * 128, uri="ü" * 2_048
    )
    image.metadata.CopyFrom(struct)
    check(indexer_pb2.BatchIndexImagesRequest(images=[image] * 256))
    check(indexer_pb2.DeleteImagesRequest(ids=indexer_pb2.Ids(ids=["x" * 128] * 1_000)))
    check(encoder_pb2.EncodeTextsRequest(texts=["\U0001f600" * 8_192] * 256))


@settings(deadline=None)
@given(st.binary(max_size=200), st.integers(0, 3))
def test_what_is_no_message_is_left_to_the_parser(junk, repeats):
    content = junk * 10**repeats + b"\x0a" + b"\xff" * 40_000
    check_fields(content, indexer_pb2.BatchIndexImagesRequest.DESCRIPTOR)


@settings(deadline=None)
@given(st.lists(st.binary(max_size=300)), st.text(max_size=20), st.integers(0, 2**64 - 1))
def test_a_message_is_taken_apart_into_some_fields_and_the_rest(files, name, sequence):
    image = indexer_pb2.Image(sequence=sequence, id=name)
    content = image.SerializeToString() + b"".join(
        indexer_pb2.Image(content=file, uri=name).SerializeToString() for file in files
    )
    rest, taken = take_apart(content, indexer_pb2.Image.CONTENT_FIELD_NUMBER)
    assert [bytes(file) for _, file in taken] == [file for file in files if file]
    image.uri = name if files else ""
    assert indexer_pb2.Image.FromString(rest) == image


def test_a_message_that_is_cut_off_is_refused():
    content = indexer_pb2.Image(content=b"file").SerializeToString()
    for length in range(1, len(content)):
        with pytest.raises(InvalidInput, match="request: is not a valid message"):
            take_apart(content[:length], indexer_pb2.Image.CONTENT_FIELD_NUMBER)


def test_too_many_fields_are_not_taken_apart():
    with pytest.raises(InvalidInput, match=r"request: must have at most 16384 fields"):
        take_apart(b"\x0a\x00" * (MAX_FIELDS + 1), 1)
