"""The indexer as a process of its own, over a real Milvus Lite: start, readiness, rows, stop."""

from __future__ import annotations

import asyncio
import contextlib
import io
import os
import re
import shutil
import signal
import socket
import sys
from pathlib import Path

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from PIL import Image as Picture

from glimpse.indexer.v1 import indexer_pb2 as pb
from glimpse.indexer.v1 import indexer_pb2_grpc
from services.common import errors
from services.common.preprocess import decode
from services.vectors.store import open_store
from tests.fakes import FakeEncoder, vector_of

NAME = "pictures"
OPTIONS = pb.IndexOptions(collection=NAME, create_collection=True)
T = 60.0


@pytest.fixture
async def milvus_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


@contextlib.asynccontextmanager
async def milvus_lite(port, folder):
    program = shutil.which("milvus-lite", path=str(Path(sys.executable).parent)) or "milvus-lite"
    arguments = ("server", "--data-dir", str(folder), "--host", "127.0.0.1", "--port", str(port))
    process = await asyncio.create_subprocess_exec(
        program, *arguments, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL
    )
    try:
        yield
    finally:
        process.send_signal(signal.SIGINT)  # it does not stop on SIGTERM
        await process.wait()


class Indexer:
    """`python -m services.indexer` and what it logs."""

    def __init__(self, process, port):
        self.process, self.port = process, port
        self.channel = grpc.aio.insecure_channel(f"127.0.0.1:{port}")
        self.stub = indexer_pb2_grpc.IndexerStub(self.channel)

    async def is_serving(self):
        request = health_pb2.HealthCheckRequest(service="glimpse.indexer.v1.Indexer")
        answer = await health_pb2_grpc.HealthStub(self.channel).Check(request, timeout=T)
        return answer.status == health_pb2.HealthCheckResponse.SERVING

    async def becomes_serving(self):
        request = health_pb2.HealthCheckRequest(service="glimpse.indexer.v1.Indexer")
        async for answer in health_pb2_grpc.HealthStub(self.channel).Watch(request, timeout=T):
            if answer.status == health_pb2.HealthCheckResponse.SERVING:
                return


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
    while not (
        found := re.search(rb"listening on 127.0.0.1:(\d+)", await process.stderr.readline())
    ):
        assert process.returncode is None
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


async def test_service_waits_for_its_peers_then_indexes_into_milvus_lite(milvus_port, tmp_path):
    encoder, uri = FakeEncoder(), f"http://127.0.0.1:{milvus_port}"
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        encoder_port = free.getsockname()[1]
    async with indexer(ENCODER=f"127.0.0.1:{encoder_port}", MILVUS_URI=uri) as running:
        assert not await running.is_serving()
        async with milvus_lite(milvus_port, tmp_path), encoder.serve(encoder_port):
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

            store = open_store(uri)
            fields = ("vector", "uri", "width", "height", "format", "metadata")
            ids = [each.id for each in sent]
            rows = await store.fetch(NAME, ids, fields, timeout_s=T)
            for each in sent:
                row, pixels = rows[each.id], decode(each.content, encoder.image_size, 10**6).pixels
                expected = vector_of(pixels.tobytes(), encoder.dimension)
                np.testing.assert_allclose(row["vector"], expected, atol=1e-6)
                assert row["uri"] == each.uri
                assert (row["width"], row["height"], row["format"]) == (20, 16, "PNG")
            await store.close()


async def test_sigterm_acknowledges_what_was_taken_and_exits_with_0(milvus_port, tmp_path):
    encoder, uri = FakeEncoder(), f"http://127.0.0.1:{milvus_port}"
    async with milvus_lite(milvus_port, tmp_path), encoder.serve() as target:
        async with indexer(ENCODER=target, MILVUS_URI=uri) as running:
            await running.becomes_serving()
            call = running.stub.IndexImages(timeout=T)
            await call.write(pb.IndexImagesRequest(options=OPTIONS))
            await call.write(pb.IndexImagesRequest(image=image(0)))
            await call.read()
            encoder.open.clear()
            calls = encoder.items["calls"]
            await call.write(pb.IndexImagesRequest(image=image(1)))
            while encoder.items["calls"] == calls:  # noqa: ASYNC110
                await asyncio.sleep(0.005)
            running.process.send_signal(signal.SIGTERM)
            encoder.open.set()
            assert (await call.read()).acknowledgement.outcome == pb.OUTCOME_INDEXED
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await call.read()
            error = errors.from_rpc_error(caught.value, "indexer")
            assert (type(error), error.reason) == (errors.Unavailable, "RESUME")
            assert await running.process.wait() == 0
        # A fresh process goes on where the other stopped.
        async with indexer(ENCODER=target, MILVUS_URI=uri) as running:
            await running.becomes_serving()
            *_, last = await index(running.stub, [image(i) for i in range(3)])
            assert (last.totals.unchanged, last.totals.indexed) == (2, 1)


async def test_wrong_store_address_is_one_clear_line_and_exit_code_2():
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "services.indexer",
        env={**os.environ, "INDEXER_MILVUS_URI": "ftp://x", "INDEXER_LOG_LEVEL": "ERROR"},
        stderr=asyncio.subprocess.PIPE,
    )
    _, stderr = await process.communicate()
    assert process.returncode == 2
    assert stderr.decode().startswith("indexer: INDEXER_MILVUS_URI: ")
    assert len(stderr.decode().splitlines()) == 1
