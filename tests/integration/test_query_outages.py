"""The query service as a process, while its encoder and Milvus Lite come, freeze and go."""

from __future__ import annotations

import asyncio
import os
import signal
import sys

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from glimpse import errors
from glimpse.cli.ports import free_ports
from glimpse.query.v1 import query_pb2 as pb
from glimpse.query.v1 import query_pb2_grpc
from services.common.deadline import Deadline
from services.common.server import LIVENESS
from services.vectors.milvus.store import MilvusStore
from tests.backends import MilvusLite
from tests.query_service import (
    COLLECTION,
    WORDS,
    failure,
    fake_encoder,
    fill,
    ids,
    rows,
)
from tests.waiting import until_answered

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
TIMEOUT_S = 20.0


def search(stub, timeout=TIMEOUT_S, **fields):
    options = pb.SearchOptions(consistency=pb.CONSISTENCY_STRONG)
    request = pb.SearchRequest(collection=COLLECTION, options=options, **fields)
    return stub.Search(request, timeout=timeout)


async def test_service_outlives_encoder_and_milvus_and_says_so(tmp_path):
    milvus, encoder, (port,) = MilvusLite(tmp_path), fake_encoder(), free_ports(1)
    async with encoder.serve() as target:
        pass  # only its address is known yet
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "services.query"),
        env=os.environ
        | {
            "QUERY_LISTEN": f"127.0.0.1:{port}",
            "QUERY_METRICS_LISTEN": "127.0.0.1:0",
            "QUERY_ENCODER": target,
            "QUERY_MILVUS_URI": milvus.uri,
            "QUERY_HEALTH_INTERVAL_S": "0.3",
        },
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            await channel.channel_ready()
            await outlive(milvus, encoder, int(target.rpartition(":")[2]), channel)
        child.send_signal(signal.SIGTERM)
        assert await child.wait() == 0
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()


async def outlive(milvus, encoder, encoder_port, channel):
    query = query_pb2_grpc.QueryStub(channel)
    assert await health(channel, LIVENESS) == SERVING
    assert await health(channel) == NOT_SERVING
    error = await failure(search(query, image_id="dog", timeout=5))
    assert isinstance(error, (errors.Unavailable, errors.DeadlineExceeded))

    milvus.start()
    try:
        await recover(milvus, encoder, encoder_port, channel)
    finally:
        milvus.kill()


async def recover(milvus, encoder, encoder_port, channel):
    query = query_pb2_grpc.QueryStub(channel)
    await until_health(channel, SERVING)
    store = MilvusStore(milvus.uri)
    await store.ready(deadline=Deadline(30))
    await fill(store, rows())
    await store.close()
    assert len(ids(await search(query, image_id="dog"))) == len(WORDS) - 1
    assert isinstance(await failure(search(query, text="dog")), errors.Unavailable)
    async with encoder.serve(encoder_port):
        assert ids(await search_when_back(query, text="dog"))[0] == "dog"

    milvus.freeze()
    started = asyncio.get_running_loop().time()
    error = await failure(search(query, image_id="dog", timeout=1.0))
    assert isinstance(error, (errors.Unavailable, errors.DeadlineExceeded))
    assert asyncio.get_running_loop().time() - started < 15
    await until_health(channel, NOT_SERVING)
    milvus.thaw()
    await until_health(channel, SERVING)
    assert ids(await search_when_back(query, text="dog"))[0] == "dog"

    milvus.kill()
    error = await failure(search(query, text="dog", timeout=5))
    assert isinstance(error, (errors.Unavailable, errors.DeadlineExceeded))
    milvus.start()
    assert ids(await search_when_back(query, text="dog"))[0] == "dog"


async def health(channel, name=""):
    check = health_pb2_grpc.HealthStub(channel).Check
    return (await check(health_pb2.HealthCheckRequest(service=name), timeout=5)).status


async def until_health(channel, status):
    watch = health_pb2_grpc.HealthStub(channel).Watch
    async for response in watch(health_pb2.HealthCheckRequest(), timeout=60):
        if response.status == status:
            return


async def search_when_back(query, **fields):
    """The answer once the peers are back; until then nothing but UNAVAILABLE and lost time."""
    expected = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)
    return await until_answered(
        lambda: search(query, **fields, timeout=5.0),
        lambda error: isinstance(error, grpc.aio.AioRpcError) and error.code() in expected,
    )
