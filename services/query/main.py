"""Builds the query service out of its parts and runs it; what the parts do is theirs."""

from __future__ import annotations

import asyncio
import contextlib
import logging

from glimpse.errors import DeadlineExceeded, GlimpseError
from glimpse.query.v1 import query_pb2, query_pb2_grpc
from services.common.deadline import Deadline
from services.common.encoders import Encoders
from services.common.repeats import Wait
from services.common.server import Server, run_service
from services.common.settings import load
from services.query.embedding import Embedder, TextCache
from services.query.metrics import QueryMetrics
from services.query.page_tokens import PageTokens
from services.query.search import Searcher
from services.query.servicer import QueryServicer
from services.query.settings import QuerySettings
from services.vectors.milvus.store import MilvusStore
from services.vectors.store import VectorStore

# One slow answer of a busy store must not take all replicas out at once.
_MAX_FAILURES = 3
_MEETING_S = 1.0

log = logging.getLogger(__name__)

SERVICE = query_pb2.DESCRIPTOR.services_by_name["Query"].full_name


def build(
    settings: QuerySettings, store: VectorStore, encoders: Encoders, metrics: QueryMetrics
) -> QueryServicer:
    """The servicer on top of its peers; needs a running event loop."""
    cache = TextCache(settings.max_cached_texts)
    searcher = Searcher(
        store,
        Embedder(encoders, store, cache, metrics),
        metrics,
        settings.collection_cache_s,
    )
    tokens = PageTokens(settings.page_token_key.get_secret_value())
    return QueryServicer(searcher, tokens, settings)


async def serve(settings: QuerySettings, store: VectorStore) -> int:
    """Serves until told to stop; neither an encoder nor Milvus need to be up yet."""
    encoders = settings.open_encoders()
    server = Server(settings, [SERVICE])
    servicer = build(settings, store, encoders, QueryMetrics())
    query_pb2_grpc.add_QueryServicer_to_server(servicer, server.grpc)
    await server.start()
    server.supervise(_watch_store(server, store, encoders, settings), "watching Milvus")
    return await server.run(encoders.close, store.close)


def main() -> int:
    """Runs the service; returns the process's exit code."""
    settings = load(QuerySettings)
    return run_service(settings, lambda: serve(settings, MilvusStore.of(settings)))


async def _meet(encoders: Encoders) -> None:
    """Returns once an encoder has answered, so that the first search finds a connection to it, or
    none has for a while: a pod may be ready before the network lets it through."""
    deadline = Deadline(_MEETING_S)
    with contextlib.suppress(DeadlineExceeded):
        while True:
            try:
                await encoders.ready(deadline)
                return
            except DeadlineExceeded:
                raise
            except GlimpseError:
                await asyncio.sleep(_MEETING_S / 10)


async def _watch_store(
    server: Server, store: VectorStore, encoders: Encoders, settings: QuerySettings
) -> None:
    """Sets health until cancelled: SERVING once the store answers, NOT_SERVING once it is silent.

    Encoders do not count: without them, searches by id and by vector are still answered.
    """
    await _meet(encoders)
    wait = Wait(f"Milvus at {settings.milvus_address}", log)
    serving, failures = False, _MAX_FAILURES
    while True:
        try:
            await store.ready(deadline=Deadline(settings.health_interval_s))
            failures = 0
        except GlimpseError as error:
            failures += 1
            if failures >= _MAX_FAILURES:
                wait.goes_on(error)
        if serving != (failures < _MAX_FAILURES):
            serving = not serving
            if serving:
                wait.ended()
            else:
                log.error("Milvus does not answer; health is NOT_SERVING")
            await server.set_serving(serving)
        await asyncio.sleep(settings.health_interval_s)
