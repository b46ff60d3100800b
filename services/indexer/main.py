"""Wires the indexer service together and runs it; the parts do the work."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from glimpse import errors
from glimpse.indexer.v1 import indexer_pb2, indexer_pb2_grpc
from services.common.deadline import Deadline
from services.common.decode_workers import DecodeWorkers
from services.common.encoders import Encoders
from services.common.repeats import Wait
from services.common.server import Server, run_service
from services.common.settings import load
from services.indexer.catalog import Catalog
from services.indexer.generations import Generations
from services.indexer.imports import Imports
from services.indexer.metrics import IndexerMetrics
from services.indexer.pipeline import Pipeline
from services.indexer.servicer import IndexerServicer
from services.indexer.settings import IndexerSettings
from services.indexer.settling import Settling
from services.vectors.milvus.store import MilvusStore
from services.vectors.store import VectorStore

_ASK_AGAIN_S = 1.0
_ANSWER_TIMEOUT_S = 5.0

log = logging.getLogger(__name__)


def main() -> int:
    """Runs until stopped; returns the exit code."""
    settings = load(IndexerSettings)
    return run_service(settings, lambda: serve(settings, MilvusStore.of(settings)))


async def serve(settings: IndexerSettings, store: VectorStore) -> int:
    """Serves until told to stop; neither an encoder nor Milvus need to be up yet."""
    encoders = settings.open_encoders()
    metrics = IndexerMetrics()
    decoder = DecodeWorkers(settings)
    pipeline = Pipeline(store, encoders, decoder, settings, metrics)
    imports = Imports(store, settings, metrics, pipeline.line)
    catalog = Catalog(store, encoders, settings)
    generations = Generations(store, encoders, settings)
    settling = Settling(store, settings, metrics)
    service_name = indexer_pb2.DESCRIPTOR.services_by_name["Indexer"].full_name
    server = Server(
        settings, [service_name], max_streams_per_caller=settings.max_streams_per_caller
    )
    indexer_pb2_grpc.add_IndexerServicer_to_server(
        IndexerServicer(pipeline, imports, catalog, generations, settling, store, settings),
        server.grpc,
    )
    await server.start()
    decoder.start()
    server.supervise(
        _serve_when_ready(server, store, encoders, settling, settings),
        "waiting for Milvus and encoder",
    )

    def stop() -> None:
        pipeline.drain()
        imports.drain()
        settling.stop()

    return await server.run(decoder.close, encoders.close, store.close, on_stop=stop)


async def _serve_when_ready(
    server: Server,
    store: VectorStore,
    encoders: Encoders,
    settling: Settling,
    settings: IndexerSettings,
) -> None:
    """Turns health to SERVING once Milvus and an encoder have answered; asks until they do."""
    await _answered(
        f"Milvus at {settings.milvus_address}",
        lambda: store.ready(deadline=Deadline(_ANSWER_TIMEOUT_S)),
    )
    await _answered(
        f"the encoder at {' or '.join(settings.encoder_targets)}",
        lambda: encoders.ready(Deadline(_ANSWER_TIMEOUT_S)),
    )
    await server.set_serving(True)
    log.info("serving")
    await settling.resume()


async def _answered(peer: str, ask: Callable[[], Awaitable[Any]]) -> None:
    wait = Wait(peer, log)
    while True:
        try:
            await ask()
        except errors.GlimpseError as error:
            wait.goes_on(error)
            await asyncio.sleep(_ASK_AGAIN_S)
        else:
            wait.ended()
            return
