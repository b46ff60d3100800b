"""Query on Milvus Lite's server: searches as elsewhere, and a server that freezes or dies."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from glimpse.query.v1 import query_pb2 as pb
from glimpse.query.v1 import query_pb2_grpc
from services.common import errors
from services.common.server import LIVENESS
from services.vectors.store import open_store
from tests.backends import MilvusLite, free_ports
from tests.query_service import (
    COLLECTION,
    DIMENSION,
    WORDS,
    failure,
    fake_encoder,
    fill,
    query_service,
    row,
    rows,
)

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
TIMEOUT_S = 20.0


@pytest.fixture(scope="module")
def milvus(tmp_path_factory):
    server = MilvusLite(tmp_path_factory.mktemp("milvus"))
    server.start()
    yield server
    server.stop()


@pytest.fixture
async def store(milvus):
    opened = open_store(milvus.uri)
    await opened.ready(timeout_s=60)
    with contextlib.suppress(errors.NotFound):
        await opened.drop_collection(COLLECTION, timeout_s=30)
    await fill(opened, rows())
    yield opened
    await opened.close()


@pytest.fixture
async def query(store):
    async with fake_encoder().serve() as target, query_service(store, target) as stub:
        yield stub


def search(stub, timeout=TIMEOUT_S, **fields):
    options = pb.SearchOptions(**fields.pop("options", {}))
    options.consistency = pb.CONSISTENCY_STRONG
    request = pb.SearchRequest(collection=COLLECTION, options=options, **fields)
    return stub.Search(request, timeout=timeout)


def ids(response):
    return [hit.id for hit in response.hits]


def equal(field, value, path=()):
    message = pb.Comparison(field=field, operator=pb.OPERATOR_EQUAL, path=path)
    message.value.string_value = value
    return pb.Condition(comparison=message)


async def test_searches_by_text_id_vector_and_sum_find_what_they_should(query):
    response = await search(query, text="bird", options={"output_fields": ["metadata", "vector"]})
    hit = response.hits[0]
    assert (hit.id, hit.score) == ("bird", pytest.approx(1, abs=1e-4))
    assert hit.attributes.metadata["owner"]["name"] == "o'bird"
    assert len(hit.attributes.vector.values) == DIMENSION
    assert set(ids(await search(query, image_id="dog"))) == set(WORDS) - {"dog"}
    terms = [pb.Term(text="cat"), pb.Term(image_id="dog", weight=-0.5)]
    assert ids(await search(query, weighted_sum=pb.WeightedSum(terms=terms)))[0] == "cat"


async def test_conditions_and_filters_choose_images(query):
    for condition, expected in (
        (equal("id", "cat"), ["cat"]),
        (equal("metadata", "o'cup", ["owner", "name"]), ["cup"]),
        (equal("uri", 'x" or id != "'), []),
    ):
        assert ids(await search(query, text="a", options={"condition": condition})) == expected
    chosen = await search(query, text="a", options={"filter": 'metadata["number"] == 3'})
    assert ids(chosen) == ["fish"]


@pytest.mark.parametrize(
    "expression",
    [
        "width >",
        "colour == 1",
        "((",
        "width == 'x",
        "uri like",
        "id in",
        "1 +",
        "\0",
        "真 == 1",
        "a" * 16_000,
    ],
)
async def test_wrong_filter_is_refused_with_milvus_reason(query, expression):
    error = await failure(search(query, text="a", options={"filter": expression}))
    assert (type(error), error.field) == (errors.InvalidInput, "options.filter")


async def test_pages_over_equal_scores_neither_repeat_nor_lose_an_image(query, store):
    await store.upsert(COLLECTION, [row(f"twin{n:02}", "same") for n in range(30)], timeout_s=30)
    token, seen = "", []
    while True:
        response = await search(query, text="same", page_token=token, options={"limit": 7})
        seen += ids(response)
        token = response.next_page_token
        if not token:
            break
    assert seen[:30] == [f"twin{n:02}" for n in range(30)]
    assert sorted(seen[30:]) == sorted(WORDS)


async def test_batch_and_images_by_id(query):
    batch = pb.BatchSearchRequest(
        collection=COLLECTION,
        queries=[pb.BatchQuery(text=word) for word in WORDS] + [pb.BatchQuery(image_id="dog")],
        options=pb.SearchOptions(limit=1, consistency=pb.CONSISTENCY_STRONG),
    )
    results = (await query.BatchSearch(batch, timeout=TIMEOUT_S)).results
    assert [result.hits.hits[0].id for result in results[:-1]] == list(WORDS)
    assert results[-1].hits.hits[0].id != "dog"
    request = pb.GetImagesRequest(collection=COLLECTION, ids=["cup", "nobody", "dog"])
    images = await query.GetImages(request, timeout=TIMEOUT_S)
    assert [image.id for image in images.images] == ["cup", "dog"]
    assert list(images.missing_ids) == ["nobody"]


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
            await asyncio.wait_for(channel.channel_ready(), 30)
            await outlive(milvus, encoder, int(target.rpartition(":")[2]), channel)
        child.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(child.wait(), 30) == 0
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
    store = open_store(milvus.uri)
    await store.ready(timeout_s=30)
    await fill(store, rows())
    await store.close()
    assert len(ids(await search(query, image_id="dog"))) == len(WORDS) - 1
    assert isinstance(await failure(search(query, text="dog")), errors.Unavailable)
    async with encoder.serve(encoder_port):
        assert ids(await until_answered(search, query, text="dog"))[0] == "dog"

    milvus.freeze()
    started = asyncio.get_running_loop().time()
    error = await failure(search(query, image_id="dog", timeout=1.0))
    assert isinstance(error, (errors.Unavailable, errors.DeadlineExceeded))
    assert asyncio.get_running_loop().time() - started < 3
    await until_health(channel, NOT_SERVING)
    milvus.thaw()
    await until_health(channel, SERVING)
    assert ids(await until_answered(search, query, text="dog"))[0] == "dog"

    milvus.kill()
    error = await failure(search(query, text="dog", timeout=5))
    assert isinstance(error, (errors.Unavailable, errors.DeadlineExceeded))
    milvus.start()
    assert ids(await until_answered(search, query, text="dog"))[0] == "dog"


async def health(channel, name=""):
    check = health_pb2_grpc.HealthStub(channel).Check
    return (await check(health_pb2.HealthCheckRequest(service=name), timeout=5)).status


async def until_health(channel, status):
    watch = health_pb2_grpc.HealthStub(channel).Watch
    async for response in watch(health_pb2.HealthCheckRequest(), timeout=60):
        if response.status == status:
            return


async def until_answered(call, *arguments, **fields):
    """The answer once the peers are back; until then nothing but UNAVAILABLE and lost time."""
    loop = asyncio.get_running_loop()
    ends_at = loop.time() + 60  # seconds; Milvus Lite needs a third of it on a busy machine
    while loop.time() < ends_at:
        try:
            return await call(*arguments, **fields, timeout=5.0)
        except grpc.aio.AioRpcError as error:
            expected = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)
            assert error.code() in expected  # noqa: PT017
            await asyncio.sleep(0.25)
    raise AssertionError("a peer came back, the query service did not notice")
