"""Messages put together as bytes are those that protobuf would write."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from glimpse.encoder.v1 import encoder_pb2 as pb
from services.common.raw_messages import delimited, joined, size_of


async def put_together(files):
    parts = [part for file in files for part in delimited(1, *delimited(1, memoryview(file)))]
    return await joined(parts, pb.EncodeImagesRequest(priority=pb.PRIORITY_BULK))


@settings(deadline=None)
@given(files=st.lists(st.binary(max_size=300)))
async def test_parts_make_the_message_that_protobuf_would_write(files):
    images = [pb.Image(file=file) for file in files]
    whole = pb.EncodeImagesRequest(images=images, priority=pb.PRIORITY_BULK)
    assert pb.EncodeImagesRequest.FromString(await put_together(files)) == whole


@pytest.mark.parametrize("size_bytes", [127, 128, 2**14, 2**21 + 1])
async def test_parts_of_any_size_are_joined(size_bytes):
    parsed = pb.EncodeImagesRequest.FromString(await put_together([b"\x01" * size_bytes] * 2))
    assert [len(image.file) for image in parsed.images] == [size_bytes] * 2


def test_size_is_counted_in_bytes():
    assert size_of(delimited(1, b"abc", memoryview(b"de"))) == 1 + 1 + 5
