"""The client for asyncio programs; what its calls send and what comes back stands in calls."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Callable, Coroutine, Iterable, Sequence
from typing import Any, Concatenate, ParamSpec, TypeVar

import grpc
from google.rpc import code_pb2

from glimpse import calls, converters, generation_calls
from glimpse.aio_ingest import AsyncIngest
from glimpse.arguments import checked
from glimpse.base_client import BaseClient, present
from glimpse.errors import GlimpseError, Unavailable
from glimpse.in_flight import IngestLimits
from glimpse.results import Collection, CollectionModel, ImageFile, StoredImage
from glimpse.shrinking import LargePictures
from glimpse.transport.channel import open_aio_channel, open_channel

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


def _awaited(
    describe: Callable[Arguments, calls.UnaryCall[Result]],
) -> Callable[Concatenate[AsyncClient, Arguments], Coroutine[Any, Any, Result]]:
    """The method that makes the described call; its result is awaited."""

    async def method(
        self: AsyncClient, *args: Arguments.args, **kwargs: Arguments.kwargs
    ) -> Result:
        return await self._make(describe(*args, **kwargs))

    present(method, describe)
    return method


class AsyncClient(BaseClient):
    """BaseClient whose methods are awaited; arguments as BaseClient takes them.

    Made anywhere, and owned by the event loop of its first call. Cancelling a call stops it in the
    service too. A picture to search by that is given by its path is read at once: give bytes where
    that must not hold up the loop. It is made smaller on a thread.
    """

    _open = staticmethod(open_aio_channel)
    _loop: asyncio.AbstractEventLoop | None = None
    _ingest_channel: grpc.Channel | None = None  # opened when first needed

    search = _awaited(calls.search)
    batch_search = _awaited(calls.batch_search)
    get_images = _awaited(calls.get_images)
    get_model = _awaited(calls.get_model)
    count_images = _awaited(calls.count_images)
    export_page = _awaited(calls.export_page)
    create_collection = _awaited(calls.create_collection)
    get_collection = _awaited(calls.get_collection)
    drop_collection = _awaited(calls.drop_collection)
    create_generation = _awaited(generation_calls.create_generation)
    list_generations = _awaited(generation_calls.list_generations)
    hold_writes = _awaited(generation_calls.hold_writes)
    switch_generation = _awaited(generation_calls.switch_generation)
    drop_generation = _awaited(generation_calls.drop_generation)

    async def close(self) -> None:
        """Closes the connections; calls under way fail."""
        for channel in self._channels_to_close():
            await channel.close()
        if self._ingest_channel is not None:
            self._ingest_channel.close()

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def collections(self, timeout_s: float | None = None) -> list[Collection]:
        """As Client.collections."""
        found: list[Collection] = []
        token = ""
        while True:
            page = await self._make(calls.collection_page(token, timeout_s))
            found += page.collections
            token = page.next_page_token
            if not token:
                return found

    async def list_images(
        self,
        collection: str,
        filter: str = "",
        output_fields: Sequence[str] = (),
        *,
        ids: Sequence[str] | None = None,
        after_id: str = "",
        timeout_s: float | None = None,
    ) -> AsyncIterator[StoredImage]:
        """As Client.list_images, for `async for`."""
        for some in calls.lists_of_images(filter, ids, after_id):
            next_id = after_id
            while True:
                page = await self._make(
                    calls.image_page(collection, filter, some, output_fields, next_id, timeout_s)
                )
                for image in page.images:
                    yield image
                next_id = page.next_after_id
                if not next_id:
                    break

    async def delete(
        self,
        collection: str,
        *,
        ids: Sequence[str] | None = None,
        filter: str | None = None,
        timeout_s: float | None = None,
    ) -> int:
        """Deletes images by ids (any number of them) or by filter; returns how many there were."""
        deletions = calls.deletions(collection, ids, filter, timeout_s)
        return sum([await self._make(call) for call in deletions])

    @checked
    def index(
        self,
        collection: str,
        images: Iterable[ImageFile] | AsyncIterable[ImageFile],
        *,
        create_collection: bool = True,
        force: bool = False,
        keep_copies: bool = False,
        max_in_flight: int = 2_048,
        max_in_flight_bytes: int = 256 * 2**20,
        patience_s: float = 120.0,
        max_reads: int = 32,
    ) -> AsyncIngest:
        """As Client.index, for `async for`. Files and an iterable that blocks are read on a thread,
        an asynchronous iterable on the loop."""
        options = converters.index_options(
            collection, create_collection, force, patience_s, keep_copies
        )
        limits = IngestLimits(
            max_in_flight, max_in_flight_bytes, self._max_message_bytes, patience_s, max_reads
        )
        self._check_open()
        if self._ingest_channel is None:
            self._ingest_channel = open_channel(
                self._targets["indexer"], self._max_message_bytes, self._credentials
            )
        diagnosis = self._diagnoses["indexer"]
        return AsyncIngest(self._ingest_channel, diagnosis, options, images, limits)

    def _connection(self, service: str) -> tuple[Any, Any]:
        loop = asyncio.get_running_loop()
        self._loop = self._loop or loop
        if self._loop is not loop:
            raise RuntimeError("this AsyncClient belongs to another event loop: make one in each")
        return super()._connection(service)

    async def _make(self, call: calls.UnaryCall[Result]) -> Result:
        pictures = self._large_pictures(call)
        model = await self._model_seeing(pictures) if pictures else None
        if not pictures or not model or not model.preprocessing:
            return await self._answer(call)
        await asyncio.to_thread(pictures.shrink, model.preprocessing)
        result = await self._answer(call)
        if getattr(result, "model", None) != model.model:  # which has been replaced
            self._models.pop(pictures.collection, None)
            pictures.restore()
            result = await self._answer(call)
        return result

    async def _model_seeing(self, pictures: LargePictures) -> CollectionModel | None:
        collection = pictures.collection
        if collection not in self._models:
            model = None
            try:
                model = await self._answer(calls.get_model(collection))
            except GlimpseError as error:
                if error.code != code_pb2.UNIMPLEMENTED:  # as of services older than this client
                    raise
            self._models[collection] = model
        return self._models.get(collection)

    async def _answer(self, call: calls.UnaryCall[Result]) -> Result:
        try:
            with self._begun(call) as answer:
                return call.result(await answer)
        except Unavailable as error:
            explained = await asyncio.to_thread(self._diagnoses[call.service].explained, error)
            raise explained from error.__cause__
