"""Vectors in messages: as bytes, and yet what protobuf itself would write and read."""

import numpy as np
import pytest

from glimpse.encoder.v1 import encoder_pb2 as pb
from services.common import embeddings


def vector(dimension: int) -> np.ndarray:
    return np.random.default_rng(dimension).standard_normal(dimension).astype(np.float32)


@pytest.mark.parametrize("dimension", [0, 1, 31, 32, 512, 4096])
def test_a_message_is_the_one_that_protobuf_makes(dimension) -> None:
    values = vector(dimension)
    assert embeddings.to_message(values) == pb.Embedding(values=values.tolist())
    assert embeddings.to_message(np.repeat(values, 2)[::2]) == embeddings.to_message(values)


@pytest.mark.parametrize("dimension", [0, 1, 31, 32, 512, 4096])
def test_a_vector_comes_out_as_it_went_in(dimension) -> None:
    values = vector(dimension)
    found = embeddings.from_message(pb.Embedding(values=values.tolist()))
    assert found.dtype == np.float32
    assert (found == values).all()


def test_fields_of_a_later_release_do_not_shift_the_vector() -> None:
    values = vector(8)
    content = pb.Embedding(values=values.tolist()).SerializeToString()
    later = pb.Embedding.FromString(b"\x78\x01" + content + b"\x7a\x03abc")  # fields 15, twice
    assert (embeddings.from_message(later) == values).all()
