"""A backup of a collection in Milvus Lite, restored into a Milvus server, and the way back."""

from __future__ import annotations

import asyncio
import contextlib

import numpy as np

from glimpse.cli.main import main
from services.common.deadline import Deadline
from services.vectors.metadata import Metadata
from services.vectors.milvus.store import MilvusStore
from services.vectors.records import ALL_FIELDS, CollectionSpec, Row
from tests.contract.conftest import running
from tests.rpc.test_indexer import opened

T = 60.0
START_S = 180.0
COUNT = 600
DIMENSION = 32


def rows():
    vectors = np.random.default_rng(3).standard_normal((COUNT, DIMENSION)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return [
        Row(
            id=f"photos/{number:04}",
            vector=vector,
            uri=f"s3://photos/{number}-ü.jpg",
            content_sha256=f"{number:064x}",
            width=number,
            height=480,
            format="JPEG" if number % 2 else "",
            indexed_at_ms=1_700_000_000_000 + number,
            metadata=Metadata.of(
                {"n": number, "big": 2**53 + 1, "share": number / 7, "deep": {"犬": [None, True]}}
                if number % 3
                else {}
            ),
        )
        for number, vector in enumerate(vectors)
    ]


@contextlib.asynccontextmanager
async def indexer(name, tmp_path_factory):
    """An indexer on a Milvus of its own, and its store."""
    with running(name, tmp_path_factory) as process:
        store = MilvusStore(process.uri)
        try:
            await store.ready(deadline=Deadline(START_S))
            async with opened(store) as service:
                yield service
        finally:
            await store.close()


async def glimpse(service, *arguments):
    return await asyncio.to_thread(main, [*map(str, arguments), "--indexer", service.target])


async def stored(service, name):
    """Everything of a collection, by id; vectors as bytes."""
    ids = [row.id for row in rows()]
    found = await service.store.fetch(name, ids, ALL_FIELDS, deadline=Deadline(T))
    return {id: {**fields, "vector": fields["vector"].tobytes()} for id, fields in found.items()}


async def test_a_backup_of_one_store_is_restored_into_the_other_and_back(
    tmp_path_factory, tmp_path
):
    spec = CollectionSpec("photos", DIMENSION, "ViT-X", "a" * 64, metric="COSINE")
    async with (
        indexer("milvus", tmp_path_factory) as there,
        indexer("lite", tmp_path_factory) as here,
    ):
        await here.store.create_collection(spec, deadline=Deadline(T))
        await here.store.upsert("photos", rows(), deadline=Deadline(T))
        before = await stored(here, "photos")
        assert len(before) == COUNT

        assert await glimpse(here, "export", "photos", tmp_path / "out") == 0
        assert await glimpse(there, "import", tmp_path / "out") == 0
        assert await stored(there, "photos") == before
        assert await there.store.get_spec("photos", deadline=Deadline(T)) == spec
        (hits,) = await there.store.search(
            "photos", rows()[7].vector[None], 1, deadline=Deadline(T), consistency="strong"
        )
        assert hits[0].id == "photos/0007"

        assert await glimpse(there, "export", "photos", tmp_path / "back") == 0
        assert await glimpse(here, "import", tmp_path / "back", "--collection", "again") == 0
        assert await stored(here, "again") == before
