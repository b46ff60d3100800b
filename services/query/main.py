"""Builds the query service out of its parts and runs it; what the parts do is theirs."""

from __future__ import annotations

import asyncio

from glimpse.query.v1 import query_pb2, query_pb2_grpc
from services.common.encoder_client import EncoderClient
from services.common.server import Server, run_service
from services.common.settings import load
from services.query.descriptions import Descriptions
from services.query.embedding import Embedder
from services.query.metrics import QueryMetrics
from services.query.page_tokens import PageTokens
from services.query.readiness import watch
from services.query.search import Searcher
from services.query.servicer import QueryServicer
from services.query.settings import QuerySettings
from services.query.text_cache import TextCache
from services.vectors.milvus.metrics import MilvusMetrics
from services.vectors.store import VectorStore, open_store

SERVICE = query_pb2.DESCRIPTOR.services_by_name["Query"].full_name


def build(
    settings: QuerySettings, store: VectorStore, encoder: EncoderClient, metrics: QueryMetrics
) -> QueryServicer:
    """The servicer on top of its peers; needs a running event loop."""
    cache = TextCache(settings.max_cached_texts)
    searcher = Searcher(
        store,
        Embedder(encoder, store, cache, metrics),
        Descriptions(store, settings.collection_cache_s),
        metrics,
    )
    tokens = PageTokens(settings.page_token_key.get_secret_value())
    return QueryServicer(searcher, tokens, settings)


async def serve(settings: QuerySettings) -> int:
    """Serves until told to stop; neither the encoder nor Milvus need to be up yet."""
    token = settings.milvus_token.get_secret_value()
    store = open_store(settings.milvus_uri, token, settings.milvus_credentials, MilvusMetrics())
    encoder = EncoderClient(
        settings.encoder, settings.max_message_bytes, settings.encoder_credentials
    )
    server = Server(settings, [SERVICE])
    servicer = build(settings, store, encoder, QueryMetrics())
    query_pb2_grpc.add_QueryServicer_to_server(servicer, server.grpc)
    await server.start()
    watcher = asyncio.create_task(watch(server, store, settings.health_interval_s))

    async def stop_watching() -> None:
        watcher.cancel()
        await asyncio.gather(watcher, return_exceptions=True)

    return await server.run(stop_watching, encoder.close, store.close)


def main() -> int:
    """Runs the service; returns the process's exit code."""
    settings = load(QuerySettings)
    return run_service(settings, lambda: serve(settings))
