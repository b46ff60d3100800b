"""The indexer as a process of its own, over a real Milvus Lite: start, readiness, rows, stop."""

from __future__ import annotations

import asyncio
import contextlib
import io
import os
import re
import signal
import sys
from typing import Any

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from PIL import Image as Picture

from glimpse import errors
from glimpse.cli.ports import free_ports
from glimpse.indexer.v1 import indexer_pb2 as pb
from glimpse.indexer.v1 import indexer_pb2_grpc
from glimpse.pictures.preprocess import decode
from glimpse.pictures.preprocessing import Preprocessing
from glimpse.transport.status import from_rpc_error
from services.common.deadline import Deadline
from services.vectors.milvus.store import MilvusStore
from tests.backends import MilvusLite
from tests.fakes import FakeEncoder, vector_of
from tests.waiting import until

NAME = "pictures"
OPTIONS = pb.IndexOptions(collection=NAME, create_collection=True)
T = 120.0


@contextlib.asynccontextmanager
async def running_milvus(milvus):
    milvus.start()
    try:
        yield
    finally:
        await asyncio.to_thread(milvus.stop)


class Indexer:
    """`python -m services.indexer` and what it logs."""

    def __init__(self, process, port):
        self.process, self.port = process, port
        self.channel = grpc.aio.insecure_channel(f"127.0.0.1:{port}")
        self.stub = indexer_pb2_grpc.IndexerStub(self.channel)
        self.health: Any = health_pb2_grpc.HealthStub(self.channel)

    async def is_serving(self):
        request = health_pb2.HealthCheckRequest(service="glimpse.indexer.v1.Indexer")
        answer = await self.health.Check(request, timeout=T)
        return answer.status == health_pb2.HealthCheckResponse.SERVING

    async def becomes_serving(self):
        request = health_pb2.HealthCheckRequest(service="glimpse.indexer.v1.Indexer")
        call = self.health.Watch(request, timeout=T)
        async for answer in call:
            if answer.status == health_pb2.HealthCheckResponse.SERVING:
                break
        call.cancel()


@contextlib.asynccontextmanager
async def indexer(**settings):
    environment = {
        **os.environ,
        "INDEXER_LISTEN": "127.0.0.1:0",
        "INDEXER_METRICS_LISTEN": "127.0.0.1:0",
        "INDEXER_LOG_FORMAT": "text",
        **{f"INDEXER_{name}": str(value) for name, value in settings.items()},
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "services.indexer", env=environment, stderr=asyncio.subprocess.PIPE
    )
    assert process.stderr
    listening = re.compile(rb"listening on 127.0.0.1:(\d+)")
    while not (found := listening.search(line := await process.stderr.readline())):
        assert line, "the process ended before it listened"
    reading = asyncio.create_task(process.stderr.read())
    running = Indexer(process, int(found[1]))
    try:
        yield running
    finally:
        await running.channel.close()
        if process.returncode is None:
            process.kill()
        await process.wait()
        sys.stderr.write((await reading).decode())


def content(i):
    stream = io.BytesIO()
    Picture.new("RGB", (20, 16), (i % 256, i // 256, 7)).save(stream, "PNG")
    return stream.getvalue()


def image(i):
    return pb.Image(sequence=i, id=f"dir/p:{i}", content=content(i), uri=f"dir/ü '{i}\".png")


async def index(stub, images):
    async def requests():
        yield pb.IndexImagesRequest(options=OPTIONS)
        for each in images:
            yield pb.IndexImagesRequest(image=each)

    return [response async for response in stub.IndexImages(requests(), timeout=T)]


async def test_service_waits_for_its_peers_then_indexes_into_milvus_lite(tmp_path):
    encoder, milvus = FakeEncoder(), MilvusLite(tmp_path)
    (encoder_port,) = free_ports(1)
    async with indexer(ENCODER=f"127.0.0.1:{encoder_port}", MILVUS_URI=milvus.uri) as running:
        assert not await running.is_serving()
        async with running_milvus(milvus), encoder.serve(encoder_port):
            await running.becomes_serving()
            sent = [image(i) for i in range(150)]
            *acks, last = await index(running.stub, sent)
            assert {each.acknowledgement.outcome for each in acks} == {pb.OUTCOME_INDEXED}
            assert (len(acks), last.totals.indexed) == (150, 150)

            request = pb.GetCollectionRequest(collection=NAME)
            collection = (await running.stub.GetCollection(request, timeout=T)).collection
            assert (collection.rows, collection.dimension) == (150, encoder.dimension)

            encoded = encoder.items["pixels"]
            *_, last = await index(running.stub, sent)
            assert (last.totals.unchanged, last.totals.indexed) == (150, 0)
            assert encoder.items["pixels"] == encoded

            store = MilvusStore(milvus.uri)
            fields = ("vector", "uri", "width", "height", "format", "metadata")
            ids = [each.id for each in sent]
            rows = await store.fetch(NAME, ids, fields, deadline=Deadline(T))
            for each in sent:
                row, seen = rows[each.id], Preprocessing(encoder.image_size)
                pixels = decode(each.content, seen, 10**6).pixels
                expected = vector_of(pixels.tobytes(), encoder.dimension)
                np.testing.assert_allclose(row["vector"], expected, atol=1e-6)
                assert row["uri"] == each.uri
                assert (row["width"], row["height"], row["format"]) == (20, 16, "PNG")
            await store.close()


async def test_sigterm_acknowledges_what_was_taken_and_exits_with_0(tmp_path):
    encoder, milvus = FakeEncoder(), MilvusLite(tmp_path)
    async with running_milvus(milvus), encoder.serve() as target:
        async with indexer(ENCODER=target, MILVUS_URI=milvus.uri) as running:
            await running.becomes_serving()
            call = running.stub.IndexImages(timeout=T)
            await call.write(pb.IndexImagesRequest(options=OPTIONS))
            await call.write(pb.IndexImagesRequest(image=image(0)))
            await call.read()
            encoder.open.clear()
            calls = encoder.items["calls"]
            await call.write(pb.IndexImagesRequest(image=image(1)))
            await until(lambda: encoder.items["calls"] > calls)
            running.process.send_signal(signal.SIGTERM)
            encoder.open.set()
            assert (await call.read()).acknowledgement.outcome == pb.OUTCOME_INDEXED
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await call.read()
            error = from_rpc_error(caught.value, "indexer")
            assert (type(error), error.reason) == (errors.Unavailable, "RESUME")
            assert await running.process.wait() == 0
        # A fresh process goes on where the other stopped.
        async with indexer(ENCODER=target, MILVUS_URI=milvus.uri) as running:
            await running.becomes_serving()
            *_, last = await index(running.stub, [image(i) for i in range(3)])
            assert (last.totals.unchanged, last.totals.indexed) == (2, 1)


async def test_streams_that_make_a_collection_of_the_same_images_leave_one_row_each(tmp_path):
    encoder, milvus = FakeEncoder(), MilvusLite(tmp_path)
    async with (
        running_milvus(milvus),
        encoder.serve() as target,
        indexer(ENCODER=target, MILVUS_URI=milvus.uri) as running,
    ):
        await running.becomes_serving()
        sent = [image(i) for i in range(100)]
        ends = await asyncio.gather(*(index(running.stub, sent) for _ in range(3)))
        for *acks, last in ends:
            assert {each.acknowledgement.sequence for each in acks} == set(range(100))
            assert last.totals.failed == 0
        assert await ids_there(milvus.uri) == sorted(each.id for each in sent)


async def test_killed_store_loses_nothing_acknowledged_and_the_stream_goes_on(tmp_path):
    encoder, milvus = FakeEncoder(), MilvusLite(tmp_path)
    async with (
        running_milvus(milvus),
        encoder.serve() as target,
        indexer(ENCODER=target, MILVUS_URI=milvus.uri) as running,
    ):
        await running.becomes_serving()
        call = running.stub.IndexImages(timeout=T)
        await call.write(pb.IndexImagesRequest(options=OPTIONS))
        sent = [image(i) for i in range(60)]
        acks = []
        for each in sent[:20]:
            await call.write(pb.IndexImagesRequest(image=each))
        acks += [await call.read() for _ in range(5)]
        milvus.kill()
        for each in sent[20:]:
            await call.write(pb.IndexImagesRequest(image=each))
        milvus.start()
        await call.done_writing()
        acks += [await call.read() for _ in range(55)]
        assert (await call.read()).totals.indexed == 60
        assert {each.acknowledgement.sequence for each in acks} == set(range(60))
        assert await ids_there(milvus.uri) == sorted(each.id for each in sent)


async def ids_there(uri):
    """The ids of all rows, a row that is there twice twice."""
    store = MilvusStore(uri)
    vectors = np.zeros((1, FakeEncoder().dimension), np.float32)
    vectors[0, 0] = 1
    (hits,) = await store.search(NAME, vectors, 1000, consistency="strong", deadline=Deadline(T))
    assert await store.count(NAME, deadline=Deadline(T)) == len(hits)
    await store.close()
    return sorted(hit.id for hit in hits)
