"""The part of the Indexer contract that concerns the generations of collections."""

from __future__ import annotations

import grpc

from glimpse.errors import InvalidInput
from glimpse.indexer.v1 import indexer_pb2 as pb
from glimpse.indexer.v1 import indexer_pb2_grpc
from services.common.interceptors import deadline_of, is_repeated
from services.indexer import bounds, converters
from services.indexer.generations import Generations
from services.indexer.settings import IndexerSettings
from services.vectors.generation_names import address_of


class GenerationsServicer(indexer_pb2_grpc.IndexerServicer):
    """Makes, lists, switches and drops generations."""

    def __init__(self, generations: Generations, settings: IndexerSettings) -> None:
        self._generations = generations
        self._default_timeout_s = settings.default_timeout_s

    async def CreateGeneration(
        self, request: pb.CreateGenerationRequest, context: grpc.aio.ServicerContext
    ) -> pb.CreateGenerationResponse:
        made = await self._generations.create(
            bounds.check_collection(request.collection),
            bounds.check_fingerprint(request.model_fingerprint),
            converters.index_kind(request.index_kind),
            converters.metric(request.metric),
            deadline_of(context, self._default_timeout_s),
            repeated=is_repeated(context),
        )
        return pb.CreateGenerationResponse(generation=converters.generation(made))

    async def ListGenerations(
        self, request: pb.ListGenerationsRequest, context: grpc.aio.ServicerContext
    ) -> pb.ListGenerationsResponse:
        name = bounds.check_collection(request.collection)
        deadline = deadline_of(context, self._default_timeout_s)
        listed = await self._generations.list(name, request.exact_rows, deadline)
        return pb.ListGenerationsResponse(generations=map(converters.generation, listed))

    async def HoldWrites(
        self, request: pb.HoldWritesRequest, context: grpc.aio.ServicerContext
    ) -> pb.HoldWritesResponse:
        until_ms = await self._generations.hold_writes(
            bounds.check_collection(request.collection),
            request.generation,
            bounds.check_hold(request.hold_ms),
            deadline_of(context, self._default_timeout_s),
        )
        return pb.HoldWritesResponse(held_until_ms=until_ms)

    async def SwitchGeneration(
        self, request: pb.SwitchGenerationRequest, context: grpc.aio.ServicerContext
    ) -> pb.SwitchGenerationResponse:
        serving = await self._generations.switch(
            bounds.check_collection(request.collection),
            request.generation,
            request.expected if request.HasField("expected") else None,
            deadline_of(context, self._default_timeout_s),
            held_until_ms=request.held_until_ms,
        )
        return pb.SwitchGenerationResponse(generation=converters.generation(serving))

    async def DropGeneration(
        self, request: pb.DropGenerationRequest, context: grpc.aio.ServicerContext
    ) -> pb.DropGenerationResponse:
        name = bounds.check_collection(request.collection)
        if request.confirm != address_of(name, request.generation):
            raise InvalidInput("confirm", "must be COLLECTION@GENERATION, that which is to go")
        await self._generations.drop(
            name,
            request.generation,
            deadline_of(context, self._default_timeout_s),
            repeated=is_repeated(context),
        )
        return pb.DropGenerationResponse()
