"""A small service on the real shared server, in the test's own process: what stands around every
call is tested with it, and not what a call does."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

from prometheus_client import CollectorRegistry
from pydantic_settings import SettingsConfigDict

from glimpse.encoder.v1 import encoder_pb2, encoder_pb2_grpc
from glimpse.indexer.v1 import indexer_pb2, indexer_pb2_grpc
from services.common.server import Server
from services.common.settings import HostPort, ServiceSettings

NAMES = ("glimpse.encoder.v1.Encoder", "glimpse.indexer.v1.Indexer")


class SmallSettings(ServiceSettings):
    """Small: a service for tests."""

    model_config = SettingsConfigDict(env_prefix="SMALL_", frozen=True)
    listen: HostPort = "127.0.0.1:0"
    metrics_listen: HostPort = "127.0.0.1:0"
    grace_s: float = 0.0
    max_calls_per_connection: int = 0


class SmallService(encoder_pb2_grpc.EncoderServicer, indexer_pb2_grpc.IndexerServicer):
    """Answers EncodeTexts once `open` is set, and acknowledges each image of IndexImages."""

    def __init__(self) -> None:
        self.open = asyncio.Event()
        self.open.set()
        self.entered = 0
        self.certificate = b""
        """What the last caller showed, PEM."""
        self.port = 0
        self.health_port = 0
        self.metrics_port = 0
        self.registry = CollectorRegistry()

    @property
    def target(self) -> str:
        return f"127.0.0.1:{self.port}"

    async def EncodeTexts(self, request, context):
        self.entered += 1
        self.certificate = next(iter(context.auth_context().get("x509_pem_cert", [b""])))
        await self.open.wait()
        return encoder_pb2.EncodeTextsResponse()

    async def GetModel(self, request, context):
        return encoder_pb2.GetModelResponse()

    async def IndexImages(self, requests, context):
        self.entered += 1
        async for request in requests:
            acknowledgement = indexer_pb2.Acknowledgement(sequence=request.image.sequence)
            yield indexer_pb2.IndexImagesResponse(acknowledgement=acknowledgement)

    async def ListCollections(self, request, context):
        return indexer_pb2.ListCollectionsResponse()

    async def DropCollection(self, request, context):
        return indexer_pb2.DropCollectionResponse()


@contextlib.asynccontextmanager
async def small_service(
    max_streams_per_caller: int = 0, serving: bool = True, **settings: Any
) -> AsyncIterator[SmallService]:
    """Serves until the block ends."""
    service = SmallService()
    server = Server(SmallSettings(**settings), NAMES, service.registry, max_streams_per_caller)
    encoder_pb2_grpc.add_EncoderServicer_to_server(service, server.grpc)
    indexer_pb2_grpc.add_IndexerServicer_to_server(service, server.grpc)
    service.port = await server.start()
    service.health_port = server.health_port
    service.metrics_port = server.metrics_port
    await server.set_serving(serving)
    try:
        yield service
    finally:
        await server.stop(None)
