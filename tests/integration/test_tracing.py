"""Traces, in OpenTelemetry's in-memory exporter: what a caller begins, the services continue."""

from __future__ import annotations

import asyncio
import subprocess
import sys

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from glimpse import Client
from glimpse.aio import AsyncClient
from glimpse.encoder.v1 import encoder_pb2, encoder_pb2_grpc
from glimpse.errors import NotFound
from glimpse.indexer.v1 import indexer_pb2, indexer_pb2_grpc
from glimpse.query.v1 import query_pb2, query_pb2_grpc
from glimpse.transport.status import REQUEST_ID
from services.common.deadline import Deadline
from services.vectors.milvus.store import MilvusStore
from tests.backends import MilvusLite
from tests.query_service import COLLECTION, fake_encoder, fill, query_target, rows
from tests.small_service import small_service
from tests.waiting import until

SEARCH = "glimpse.query.v1.Query/Search"
ENCODE = "glimpse.encoder.v1.Encoder/EncodeTexts"
INDEX = "glimpse.indexer.v1.Indexer/IndexImages"


@pytest.fixture(scope="module")
def exporter():
    """Every span of this process; OpenTelemetry takes one provider per process and no second."""
    provider, memory = TracerProvider(), InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(memory))
    trace.set_tracer_provider(provider)
    yield memory
    provider.shutdown()


@pytest.fixture
def spans(exporter):
    exporter.clear()
    return exporter.get_finished_spans


@pytest.fixture(scope="module")
def milvus(tmp_path_factory):
    server = MilvusLite(tmp_path_factory.mktemp("milvus"))
    server.start()
    yield server
    server.stop()


@pytest.fixture
async def query(milvus):
    store = MilvusStore(milvus.uri)
    await store.ready(deadline=Deadline(60))
    if COLLECTION not in await store.list_collections(deadline=Deadline(30)):
        await fill(store, rows())
    async with fake_encoder().serve() as encoder, query_target(store, encoder) as target:
        yield target
    await store.close()


async def served(spans, name):
    """All spans, once the server has ended that call, which it does after its answer has left."""
    await until(lambda: any((s.name, s.kind.name) == (name, "SERVER") for s in spans()))
    return spans()


def tree(spans, name, kind):
    """The span's ancestors' names, from itself up to the trace's first."""
    by_id = {span.context.span_id: span for span in spans}
    (span,) = [span for span in spans if span.name == name and span.kind.name == kind]
    found = [span.name]
    while span.parent is not None:
        span = by_id[span.parent.span_id]
        found.append(span.name)
    return found


async def test_a_search_is_one_trace_from_the_caller_to_encoder_and_milvus(query, spans):
    with Client(query) as client, trace.get_tracer("test").start_as_current_span("caller"):
        result = await asyncio.to_thread(client.search, COLLECTION, "dog")
    assert result.hits[0].id == "dog"
    found = await served(spans, SEARCH)
    assert len({span.context.trace_id for span in found}) == 1
    served_by = [span for span in found if span.kind.name == "SERVER"]
    assert len({span.attributes["glimpse.request_id"] for span in served_by}) == 1
    assert tree(found, SEARCH, "SERVER") == [SEARCH, SEARCH, "caller"]
    assert tree(found, ENCODE, "SERVER") == [ENCODE, ENCODE, SEARCH, SEARCH, "caller"]
    assert tree(found, "milvus/search", "CLIENT") == ["milvus/search", SEARCH, SEARCH, "caller"]
    (search,) = [span for span in found if span.name == "milvus/search"]
    assert search.attributes == {
        "db.system.name": "milvus",
        "db.operation.name": "search",
        "db.collection.name": COLLECTION,
    }


async def test_asyncio_clients_begin_traces_too(query, spans):
    async with AsyncClient(query) as client:
        await client.search(COLLECTION, "cat")
    found = await served(spans, SEARCH)
    assert tree(found, ENCODE, "SERVER") == [ENCODE, ENCODE, SEARCH, SEARCH]


async def test_spans_hold_neither_texts_nor_what_a_call_answers(query, spans):
    async with AsyncClient(query) as client:
        await client.search(COLLECTION, "a text that is nobody's business")
    found = await served(spans, SEARCH)
    assert "business" not in "".join(span.to_json() for span in found)


async def test_a_failed_call_says_why_on_both_sides(query, spans):
    async with AsyncClient(query) as client:
        with pytest.raises(NotFound) as caught:
            await client.search("nothing", "dog")
    found = await served(spans, SEARCH)
    of_kind = {span.kind.name: span for span in found if span.name == SEARCH}
    assert of_kind["CLIENT"].attributes["error.type"] == "COLLECTION_NOT_FOUND"
    assert not of_kind["CLIENT"].status.is_ok
    # A wrong name is no fault of the server.
    assert of_kind["SERVER"].attributes["rpc.response.status_code"] == "NOT_FOUND"
    assert of_kind["SERVER"].status.is_ok
    assert of_kind["SERVER"].attributes["glimpse.request_id"] == caught.value.request_id


async def test_the_callers_decision_not_to_trace_is_kept(query, spans):
    async with grpc.aio.insecure_channel(query) as channel:
        search = query_pb2_grpc.QueryStub(channel).Search
        request = query_pb2.SearchRequest(collection=COLLECTION, text="bird")
        untraced = f"00-{'ab' * 16}-{'cd' * 8}-00"
        await search(request, metadata=(("traceparent", untraced),))
        assert spans() == ()
        await search(request, metadata=(("traceparent", untraced[:-1] + "1"), (REQUEST_ID, "r-1")))
        found = await served(spans, SEARCH)
    (search,) = [span for span in found if span.name == SEARCH]
    assert f"{search.context.trace_id:032x}" == "ab" * 16
    assert search.attributes["glimpse.request_id"] == "r-1"


async def test_spans_last_until_a_call_ends_or_is_left_and_health_is_none(spans):
    async with small_service() as service, grpc.aio.insecure_channel(service.target) as channel:
        health = health_pb2_grpc.HealthStub(channel)
        await health.Check(health_pb2.HealthCheckRequest())
        watch = health.Watch(health_pb2.HealthCheckRequest())
        assert (await anext(aiter(watch))).status == health_pb2.HealthCheckResponse.SERVING
        watch.cancel()
        index = indexer_pb2_grpc.IndexerStub(channel).IndexImages()
        for sequence in (1, 2):
            image = indexer_pb2.Image(sequence=sequence)
            await index.write(indexer_pb2.IndexImagesRequest(image=image))
            await index.read()
            assert spans() == ()  # the stream cannot end before this end of it does
        await index.done_writing()
        assert await index.read() is grpc.aio.EOF
        service.open.clear()
        left = encoder_pb2_grpc.EncoderStub(channel).EncodeTexts(encoder_pb2.EncodeTextsRequest())
        await until(lambda: service.entered == 2)
        left.cancel()
        await until(lambda: len(spans()) == 2)
    codes = [(span.name, span.attributes["rpc.response.status_code"]) for span in spans()]
    assert codes == [(INDEX, "OK"), (ENCODE, "CANCELLED")]


@pytest.mark.parametrize("service", ["encoder", "indexer", "query"])
def test_who_does_not_trace_imports_nothing_for_it(service):
    program = (
        f"import sys, glimpse, services.{service}.main as main\n"
        "from services.common import tracing\n"
        f"tracing.set_up(main.{service.capitalize()}Settings())();"
        "assert tracing.begin('m', (), '') is None; assert tracing.trace_id() == '';"
        "sys.exit([name for name in sys.modules if name.startswith('opentelemetry')] or 0)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
