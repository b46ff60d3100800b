"""What is there before the attacks: collections, pictures, and rows of equal vectors."""

from __future__ import annotations

import asyncio

import grpc
import numpy as np
from numpy.typing import NDArray

from benchmarks.vectors import clustered
from glimpse.cli.stack import Stack
from glimpse.client import Client
from glimpse.encoder.v1 import encoder_pb2, encoder_pb2_grpc
from glimpse.results import ImageFile
from services.vectors.milvus.store import MilvusStore
from services.vectors.records import Row
from services.vectors.store import VectorStore
from tests.hostile.contracts import ATTACKED, NEIGHBOURS
from tests.hostile.ties import DIFFERENT, ROWS, TEXT, TIES
from tests.robustness.messages import picture

_PICTURES = 100
_COLLECTIONS = 50  # with the four that are used
_BATCH_ROWS = 1_000
_TIMEOUT_S = 60.0


def fill(stack: Stack) -> None:
    """Pictures for the neighbours and for the attackers, ties, and collections beside them."""
    others = [f"other{number}" for number in range(_COLLECTIONS - 4)]
    with Client(stack.query, stack.indexer, timeout_s=60) as client:
        for name in (NEIGHBOURS, ATTACKED, TIES, DIFFERENT, *others):
            client.create_collection(name)
        for name in (NEIGHBOURS, ATTACKED):
            images = (
                ImageFile(id=f"{n}", content=picture(8 + n % 50, 8 + n // 50))
                for n in range(_PICTURES)
            )
            with client.index(name, images) as ingest:
                for acknowledgement in ingest:
                    if acknowledgement.error is not None:
                        raise RuntimeError(f"a picture was not indexed: {acknowledgement}")
    _fill_ties(stack.milvus_uri, stack.addresses["encoder"])


def _fill_ties(milvus_uri: str, encoder: str) -> None:
    """Writes both into collections that are there, past the indexer."""
    vector = _vector(encoder, TEXT)
    ties = np.tile(vector, (ROWS, 1))
    asyncio.run(_fill(milvus_uri, {TIES: ties, DIFFERENT: clustered(ROWS, len(vector), seed=1)}))


def _vector(encoder: str, text: str) -> NDArray[np.float32]:
    with grpc.insecure_channel(encoder) as channel:
        stub = encoder_pb2_grpc.EncoderStub(channel)
        answer = stub.EncodeTexts(encoder_pb2.EncodeTextsRequest(texts=[text]), timeout=_TIMEOUT_S)
    return np.array(answer.results[0].embedding.values, np.float32)


async def _fill(milvus_uri: str, collections: dict[str, NDArray[np.float32]]) -> None:
    store = MilvusStore(milvus_uri)
    try:
        await store.ready(timeout_s=_TIMEOUT_S)
        for name, vectors in collections.items():
            await _write(store, name, vectors)
    finally:
        await store.close()


async def _write(store: VectorStore, name: str, vectors: NDArray[np.float32]) -> None:
    for start in range(0, len(vectors), _BATCH_ROWS):
        rows = [
            Row(
                id=f"row{start + index}",
                vector=vector,
                uri=f"s3://shop/pictures/{start + index}.jpg",
                width=640,
                height=480,
                format="JPEG",
                metadata={"sku": f"{start + index:08}", "shop": "north", "price": 19.9},
            )
            for index, vector in enumerate(vectors[start : start + _BATCH_ROWS])
        ]
        await store.upsert(name, rows, timeout_s=_TIMEOUT_S)
    await store.settle(name, timeout_s=_TIMEOUT_S)
