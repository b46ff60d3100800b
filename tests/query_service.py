"""The query service for tests: on a real port, over any store, with a few images to find."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Sequence
from typing import Any

import grpc
import pytest
from prometheus_client import CollectorRegistry

from glimpse import errors
from glimpse.query.v1 import query_pb2 as pb
from glimpse.query.v1 import query_pb2_grpc
from glimpse.transport.status import from_rpc_error
from services.common.admission import Admission
from services.common.deadline import Deadline
from services.common.encoder_client import EncoderClient
from services.common.encoders import Encoders
from services.query.main import build
from services.query.metrics import QueryMetrics
from services.query.settings import QuerySettings
from services.vectors.metadata import Metadata
from services.vectors.records import CollectionSpec, Row
from services.vectors.store import VectorStore
from tests.fakes import FakeEncoder, serve, vector_of

DIMENSION = 32
COLLECTION = "searched"
WORDS = ("dog", "cat", "bird", "fish", "boat", "tree", "star", "cup")


def row(identity: str, content: str = "", **attributes: Any) -> Row:
    """An image whose vector is that of the text `content`, else of its id."""
    vector = vector_of((content or identity).encode(), DIMENSION)
    return Row(id=identity, vector=vector, **attributes)


def rows() -> list[Row]:
    """One image for each of WORDS: its text finds it with score 1."""
    return [
        row(
            word,
            uri=f"file:///{word}.jpg",
            width=100 * (number + 1),
            height=50,
            format="JPEG" if number % 2 else "PNG",
            indexed_at_ms=1_000 + number,
            content_sha256="0" * 64,
            metadata=Metadata.of(
                {"number": number, "tags": ["a", "b"], "owner": {"name": f"o'{word}"}}
            ),
        )
        for number, word in enumerate(WORDS)
    ]


async def fill(
    store: VectorStore, images: Sequence[Row], name: str = COLLECTION, fingerprint: str = "f" * 64
) -> None:
    """Makes a collection of FakeEncoder's model and writes `images` into it."""
    spec = CollectionSpec(name, DIMENSION, "fake", fingerprint, index_kind="FLAT")
    await store.create_collection(spec, deadline=Deadline(30))
    await store.upsert(name, images, deadline=Deadline(30))
    await store.settle(name, deadline=Deadline(30))


@contextlib.asynccontextmanager
async def query_service(
    store: VectorStore, encoder_target: str, metrics: QueryMetrics | None = None, **settings: Any
) -> AsyncIterator[query_pb2_grpc.QueryStub]:
    """As query_target, but yields a stub that calls it."""
    async with (
        query_target(store, encoder_target, metrics, **settings) as target,
        grpc.aio.insecure_channel(target) as channel,
    ):
        yield query_pb2_grpc.QueryStub(channel)


@contextlib.asynccontextmanager
async def query_target(
    store: VectorStore, encoder_target: str, metrics: QueryMetrics | None = None, **settings: Any
) -> AsyncIterator[str]:
    """Serves Query on a loopback port until the block ends; yields its target.

    Of several encoders, the targets have commas between them.
    """
    targets = encoder_target.split(",")
    peers = Encoders([EncoderClient(target, 64 * 2**20) for target in targets])
    values = QuerySettings(**settings)
    servicer = build(values, store, peers, metrics or QueryMetrics(CollectorRegistry()))
    add = query_pb2_grpc.add_QueryServicer_to_server
    admission = Admission(values.max_in_flight, max_waiting_bytes=values.max_waiting_bytes)
    async with serve(add, servicer, admission=admission) as target:
        yield target
    await peers.close()


def fake_encoder() -> FakeEncoder:
    """An encoder of the model that fill() names."""
    return FakeEncoder(dimension=DIMENSION)


def ids(response: pb.SearchResponse | pb.Hits) -> list[str]:
    """The hits' ids, in their order."""
    return [hit.id for hit in response.hits]


def vector_message(content: str) -> pb.Vector:
    """The vector of the text `content`, to search by."""
    return pb.Vector(values=vector_of(content.encode(), DIMENSION).tolist())


async def failure(call: Any) -> errors.GlimpseError:
    """The domain error that a call ends with."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return from_rpc_error(caught.value, "query")
