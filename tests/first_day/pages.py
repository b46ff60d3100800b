"""Pages of a running stack's collection, while rows before them are deleted and written."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import grpc
import numpy as np

from benchmarks.vectors import clustered
from glimpse.encoder.v1 import encoder_pb2, encoder_pb2_grpc
from glimpse.query.v1 import query_pb2 as pb
from glimpse.query.v1 import query_pb2_grpc
from services.common.deadline import Deadline
from services.vectors.milvus.store import MilvusStore
from services.vectors.records import CollectionSpec, Row
from services.vectors.store import VectorStore
from tests.paging import Walk

_NAME = "first_day_pages"
_ROWS, _TWINS, _PAGE = 400, 5, 25
_TEXT = "a white dog"
_TIMEOUT_S = 60.0


def measure(addresses: dict[str, str], milvus_uri: str, walks: int) -> list[str]:
    """The ids that were left out or repeated in `walks` of each kind of query."""
    return asyncio.run(_measure(addresses, milvus_uri, walks))


async def _measure(addresses: dict[str, str], milvus_uri: str, walks: int) -> list[str]:
    store = MilvusStore(milvus_uri)
    found: list[str] = []
    try:
        async with (
            grpc.aio.insecure_channel(addresses["encoder"]) as encoder,
            grpc.aio.insecure_channel(addresses["query"]) as query,
        ):
            got = await encoder_pb2_grpc.EncoderStub(encoder).GetModel(
                encoder_pb2.GetModelRequest(), timeout=_TIMEOUT_S
            )
            stub = query_pb2_grpc.QueryStub(query)
            for number in range(walks):
                for kind, request in enumerate(_requests(got.model.dimension)):
                    name = f"{_NAME}_{number}_{kind}"
                    await _fill(store, name, got.model, seed=number)
                    request.collection, request.options.limit = name, _PAGE
                    wrong = await Walk(stub, store, request, seed=number).errors()
                    found += [f"{name}: {id}" for id in wrong]
                    await store.drop_collection(name, deadline=Deadline(_TIMEOUT_S))
    finally:
        await store.close()
    return found


async def _fill(store: VectorStore, name: str, model: encoder_pb2.Model, seed: int) -> None:
    """Rows of which some have equal vectors, and with them equal scores."""
    vectors = clustered(_ROWS, model.dimension, seed)
    vectors[: _ROWS // 2] = np.repeat(vectors[: _ROWS // 2 // _TWINS], _TWINS, axis=0)
    rows = [Row(f"{number:04}", vector, width=number % 3) for number, vector in enumerate(vectors)]
    spec = CollectionSpec(name, model.dimension, model.name, model.fingerprint)
    await store.create_collection(spec, deadline=Deadline(_TIMEOUT_S))
    await store.upsert(name, rows, deadline=Deadline(_TIMEOUT_S))
    await store.settle(name, deadline=Deadline(_TIMEOUT_S))


def _requests(dimension: int) -> Iterator[pb.SearchRequest]:
    """One of each kind of query, selection and bound."""
    vector = pb.Vector(values=clustered(1, dimension, seed=77)[0].tolist())
    terms = [pb.Term(text=_TEXT), pb.Term(vector=vector, weight=-0.5)]
    yield pb.SearchRequest(text=_TEXT)
    yield pb.SearchRequest(weighted_sum=pb.WeightedSum(terms=terms))
    yield pb.SearchRequest(vector=vector, options=pb.SearchOptions(min_score=0.0))
    yield pb.SearchRequest(text=_TEXT, options=pb.SearchOptions(filter="width > 0"))
