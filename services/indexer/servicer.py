"""The Indexer contract over the domain: converts, calls, converts; decides nothing.

What concerns generations is in generations_servicer.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Coroutine, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import grpc

from glimpse.errors import DeadlineExceeded, InvalidInput
from glimpse.indexer.v1 import indexer_pb2 as pb
from glimpse.results import Outcome
from services.common import raw_messages
from services.common.codec import takes_bytes
from services.common.event_loop import paced
from services.common.interceptors import deadline_of, is_repeated
from services.common.tasks import run_within
from services.indexer import bounds, converters, deletions, import_messages
from services.indexer.catalog import Catalog
from services.indexer.generations import Generations
from services.indexer.generations_servicer import GenerationsServicer
from services.indexer.import_rows import RowTarget
from services.indexer.imports import Imports
from services.indexer.listing import Listing, Lists
from services.indexer.pipeline import Pipeline
from services.indexer.records import Image, Target
from services.indexer.settings import IndexerSettings
from services.indexer.settling import Settling
from services.vectors.records import CollectionSpec
from services.vectors.store import VectorStore

Options = TypeVar("Options", pb.IndexOptions, pb.ImportOptions)

_LIST_ENVELOPE_BYTES = 256  # next_after_id: 128 characters at most
_MAX_INLINE_METADATA_BYTES = 4_096  # of a Struct: converting it takes half a millisecond


class IndexerServicer(GenerationsServicer):
    """Serves the contract; the settings say how long unary calls without a deadline may take, and
    how large an answer may be."""

    def __init__(
        self,
        pipeline: Pipeline,
        imports: Imports,
        catalog: Catalog,
        generations: Generations,
        settling: Settling,
        store: VectorStore,
        settings: IndexerSettings,
    ) -> None:
        super().__init__(generations, settings)
        self._pipeline = pipeline
        self._imports = imports
        self._catalog = catalog
        self._settling = settling
        self._store = store
        self._lists = Lists(store)
        self._max_message_bytes = settings.max_message_bytes

    @takes_bytes
    async def IndexImages(
        self,
        request_iterator: AsyncIterator[bytes],
        context: grpc.aio.ServicerContext,
    ) -> AsyncGenerator[pb.IndexImagesResponse, None]:
        options = await self._first(_options(request_iterator))
        bounds.check_address(options.collection)
        target = await self._target(options)
        counts: Counter[Outcome] = Counter()
        images = self._images(request_iterator)
        async with contextlib.aclosing(self._pipeline.index(target, images)) as records:
            async for record in records:
                counts[record.outcome] += 1
                yield pb.IndexImagesResponse(acknowledgement=converters.acknowledgement(record))
        # Also when nothing is new: an earlier stream that was cut may have left rows unsettled.
        await self._settling.settle(target.place)
        totals = pb.Totals(
            indexed=counts[Outcome.INDEXED],
            unchanged=counts[Outcome.UNCHANGED],
            failed=counts[Outcome.FAILED],
        )
        yield pb.IndexImagesResponse(totals=totals)

    async def _target(self, options: pb.IndexOptions) -> Target:
        return await self._catalog.target(
            options.collection,
            create=options.create_collection,
            force=options.force,
            max_wait_s=options.max_wait_ms / 1000 or math.inf,
            keep_copies=options.keep_copies,
        )

    async def _first(self, options: Coroutine[Any, Any, Options]) -> Options:
        """The stream's first message; a caller who never sends it holds no place for ever."""
        try:
            return await run_within(self._default_timeout_s, options)
        except asyncio.TimeoutError:
            timeout_s = self._default_timeout_s
            raise DeadlineExceeded(f"options: not received within {timeout_s:g} s") from None

    @takes_bytes
    async def BatchIndexImages(
        self, request: bytes, context: grpc.aio.ServicerContext
    ) -> pb.BatchIndexImagesResponse:
        options, images = converters.batch(request)
        bounds.check_batch(len(images))
        bounds.check_address(options.collection)
        deadline = deadline_of(context, self._default_timeout_s)
        left_s = deadline.left_s()
        try:
            acknowledgements = await run_within(
                left_s, self._index_batch(options, images, left_s, len(request))
            )
        except asyncio.TimeoutError:
            raise DeadlineExceeded(f"not completed within {left_s:.1f} s") from None
        return pb.BatchIndexImagesResponse(acknowledgements=acknowledgements)

    async def _index_batch(
        self,
        options: pb.IndexOptions,
        images: Sequence[memoryview],
        left_s: float,
        size_bytes: int,
    ) -> Sequence[pb.Acknowledgement]:
        is_interactive = len(images) <= bounds.MAX_INTERACTIVE_IMAGES
        target = replace(await self._target(options), is_interactive=is_interactive)
        sequences: list[int] = []
        ordered: dict[int, pb.Acknowledgement] = {}
        numbered = self._numbered(images, sequences)
        indexing = self._pipeline.index(target, numbered, left_s, size_bytes)
        async with contextlib.aclosing(indexing) as records:
            async for record in records:
                position = record.sequence
                ordered[position] = converters.acknowledgement(record, sequences[position])
                await asyncio.sleep(0)  # many may be there at once
        return [ordered[position] for position in range(len(images))]

    async def _images(self, requests: AsyncIterator[bytes]) -> AsyncIterator[Image]:
        async for request in requests:
            if not isinstance(message := converters.stream_message(request), memoryview):
                raise InvalidInput("image", "must be every message of the stream but the first")
            yield await self._image(message)

    async def _numbered(
        self, messages: Sequence[memoryview], sequences: list[int]
    ) -> AsyncIterator[Image]:
        """Images by position, as callers' own numbers may repeat; those are added to a list."""
        async for position, message in paced(enumerate(messages)):
            image = await self._image(message)
            sequences.append(image.sequence)
            yield replace(image, sequence=position)

    async def _image(self, message: memoryview) -> Image:
        image, metadata = converters.image(message)
        if len(metadata) <= _MAX_INLINE_METADATA_BYTES:
            return converters.with_metadata(image, metadata)
        # One after the other: so callers have the thread in turn, however many images each has.
        return await self._pipeline.aside.run(converters.with_metadata, image, metadata)

    async def DeleteImages(
        self, request: pb.DeleteImagesRequest, context: grpc.aio.ServicerContext
    ) -> pb.DeleteImagesResponse:
        name = bounds.check_address(request.collection)
        deadline = deadline_of(context, self._default_timeout_s)
        selector = request.WhichOneof("selector")
        if selector == "ids":
            ids = request.ids.ids
            bounds.check_id_count(len(ids))
            deleted = await deletions.delete_ids(self._store, name, ids, deadline=deadline)
        elif selector == "filter":
            expression = request.filter
            bounds.check_filter(len(expression))
            deleted = await deletions.delete_where(self._store, name, expression, deadline=deadline)
        else:
            raise InvalidInput("selector", "ids or filter must be set")
        return pb.DeleteImagesResponse(deleted=deleted)

    async def CountImages(
        self, request: pb.CountImagesRequest, context: grpc.aio.ServicerContext
    ) -> pb.CountImagesResponse:
        name = bounds.check_address(request.collection)
        bounds.check_filter(len(request.filter))
        deadline = deadline_of(context, self._default_timeout_s)
        count = await self._store.count(name, request.filter, deadline=deadline)
        return pb.CountImagesResponse(count=count)

    async def ListImages(
        self, request: pb.ListImagesRequest, context: grpc.aio.ServicerContext
    ) -> bytes:
        bounds.check_filter(len(request.filter))
        ids = request.ids.ids if request.HasField("ids") else None
        if ids is not None:
            bounds.check_id_count(len(ids))
            if request.filter:
                raise InvalidInput("ids", "must not be given with a filter")
        listing = Listing(
            bounds.check_address(request.collection),
            request.filter,
            ids,
            request.after_id,
            bounds.check_output_fields(request.output_fields),
            bounds.check_listed_images(request.page_size),
            min(bounds.MAX_LISTED_BYTES, self._max_message_bytes) - _LIST_ENVELOPE_BYTES,
            "bounded" if request.bounded else "strong",
        )
        deadline = deadline_of(context, self._default_timeout_s)
        content_of = converters.packed_image if request.packed else converters.listed_image
        images, next_after_id = await self._lists.page_of(listing, content_of, deadline)
        number = pb.ListImagesResponse.IMAGES_FIELD_NUMBER
        parts = [part for image in images for part in raw_messages.delimited(number, image)]
        return await raw_messages.joined(parts, pb.ListImagesResponse(next_after_id=next_after_id))

    @takes_bytes
    async def ImportImages(
        self,
        request_iterator: AsyncIterator[bytes],
        context: grpc.aio.ServicerContext,
    ) -> AsyncGenerator[pb.ImportImagesResponse, None]:
        options = await self._first(import_messages.first_options(request_iterator))
        name = bounds.check_collection(options.collection)
        bounds.check_imported_model(
            options.model_name, options.model_fingerprint, options.dimension
        )
        spec = CollectionSpec(
            name,
            options.dimension,
            options.model_name,
            options.model_fingerprint,
            metric=converters.metric(options.metric),
        )
        there = await self._catalog.target_of_import(spec, create=options.create_collection)
        target = RowTarget(name, there.address, options.dimension, options.normalise)
        totals = pb.ImportTotals()
        batches = import_messages.batches(request_iterator)
        async with contextlib.aclosing(self._imports.write(target, batches)) as results:
            async for result in results:
                totals.written += result.written
                totals.rejected += len(result.rejected)
                acknowledgement = import_messages.acknowledgement(result)
                yield pb.ImportImagesResponse(acknowledgement=acknowledgement)
        await self._settling.settle(target.address)
        yield pb.ImportImagesResponse(totals=totals)

    async def CreateCollection(
        self, request: pb.CreateCollectionRequest, context: grpc.aio.ServicerContext
    ) -> pb.CreateCollectionResponse:
        info = await self._catalog.create(
            bounds.check_collection(request.collection),
            converters.index_kind(request.index_kind),
            converters.metric(request.metric),
            deadline_of(context, self._default_timeout_s),
            repeated=is_repeated(context),
        )
        return pb.CreateCollectionResponse(collection=converters.collection(info))

    async def GetCollection(
        self, request: pb.GetCollectionRequest, context: grpc.aio.ServicerContext
    ) -> pb.GetCollectionResponse:
        deadline = deadline_of(context, self._default_timeout_s)
        name = bounds.check_address(request.collection)
        info = await self._catalog.describe(name, deadline, exact=request.exact_rows)
        return pb.GetCollectionResponse(collection=converters.collection(info))

    async def ListCollections(
        self, request: pb.ListCollectionsRequest, context: grpc.aio.ServicerContext
    ) -> pb.ListCollectionsResponse:
        size = bounds.check_page_size(request.page_size)
        after = request.page_token and bounds.check_collection(request.page_token, "page_token")
        deadline = deadline_of(context, self._default_timeout_s)
        listed, last_name = await self._catalog.describe_page(
            after, size, deadline, exact=request.exact_rows
        )
        return pb.ListCollectionsResponse(
            collections=map(converters.listed_collection, listed),
            next_page_token=last_name,
        )

    async def DropCollection(
        self, request: pb.DropCollectionRequest, context: grpc.aio.ServicerContext
    ) -> pb.DropCollectionResponse:
        await self._catalog.drop(
            bounds.check_collection(request.collection),
            request.confirm,
            deadline_of(context, self._default_timeout_s),
            repeated=is_repeated(context),
        )
        return pb.DropCollectionResponse()


async def _options(requests: AsyncIterator[bytes]) -> pb.IndexOptions:
    async for request in requests:
        if isinstance(message := converters.stream_message(request), pb.IndexOptions):
            return message
        break
    raise InvalidInput("options", "must be the stream's first message")
