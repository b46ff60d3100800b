"""Services for the clients' tests that answer, fail and cut connections as they are told, and the
asyncio client as a blocking one; what is tested with them stands in tests/rpc."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import grpc
from google.protobuf import any_pb2
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from glimpse import AsyncClient, ImageFile
from glimpse.indexer.v1 import indexer_pb2, indexer_pb2_grpc
from glimpse.query.v1 import query_pb2_grpc

NOBODY = "127.0.0.1:1"


@contextmanager
def serve(
    query: query_pb2_grpc.QueryServicer | None = None,
    indexer: indexer_pb2_grpc.IndexerServicer | None = None,
    port: int = 0,
) -> Iterator[str]:
    server = grpc.server(ThreadPoolExecutor(8), options=[("grpc.so_reuseport", 0)])
    if query is not None:
        query_pb2_grpc.add_QueryServicer_to_server(query, server)
    if indexer is not None:
        indexer_pb2_grpc.add_IndexerServicer_to_server(indexer, server)
    port = server.add_insecure_port(f"127.0.0.1:{port}")
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(None).wait()


def status(code: int, message: str, *details) -> status_pb2.Status:
    packed = []
    for detail in details:
        packed.append(any_pb2.Any())
        packed[-1].Pack(detail)
    return status_pb2.Status(code=code, message=message, details=packed)


def reason(name: str) -> error_details_pb2.ErrorInfo:
    return error_details_pb2.ErrorInfo(reason=name, domain="glimpse")


def abort(context: grpc.ServicerContext, answer: status_pb2.Status):
    context.abort_with_status(rpc_status.to_status(answer))


def numbered(count: int) -> list[ImageFile]:
    """Pictures to index, each with its number as its content."""
    return [ImageFile(content=str(number).encode()) for number in range(count)]


Script = Callable[[int, list[int], grpc.ServicerContext], status_pb2.Status | None]


class Indexer(indexer_pb2_grpc.IndexerServicer):
    """Acknowledges each image at once, unless its script gives a status or aborts.

    What it has taken before is unchanged; a picture refused with a status is not taken, one whose
    stream is aborted is. The script gets the stream's number, the sequences that this stream has
    seen, and the context.
    """

    def __init__(self, script: Script = lambda stream, seen, context: None) -> None:
        self.script = script
        self.streams: list[list[int]] = []
        self.images: list[indexer_pb2.Image] = []
        self.taken: set[bytes] = set()
        self.options: list[indexer_pb2.IndexOptions] = []
        self.deleted: list[list[str]] = []
        self.filters: list[str] = []
        self.collection: indexer_pb2.Collection | None = None
        self.counted = 0
        """How often the rows were to be counted exactly."""

    def IndexImages(self, request_iterator, context):
        seen: list[int] = []
        self.streams.append(seen)
        self.options.append(next(request_iterator).options)
        for request in request_iterator:
            content = request.image.content
            seen.append(request.image.sequence)
            self.images.append(request.image)
            outcome = indexer_pb2.OUTCOME_INDEXED
            if content in self.taken:
                outcome = indexer_pb2.OUTCOME_UNCHANGED
            self.taken.add(content)
            error = self.script(len(self.streams), seen, context)
            if error:
                self.taken.discard(content)
            acknowledgement = indexer_pb2.Acknowledgement(
                sequence=request.image.sequence,
                id=f"id-{content.decode()}",
                outcome=indexer_pb2.OUTCOME_FAILED if error else outcome,
                error=error,
            )
            yield indexer_pb2.IndexImagesResponse(acknowledgement=acknowledgement)
        yield indexer_pb2.IndexImagesResponse(totals=indexer_pb2.Totals(indexed=len(seen)))

    def CreateCollection(self, request, context):
        self.collection = indexer_pb2.Collection(
            name=request.collection, index_kind=request.index_kind, metric=request.metric
        )
        return indexer_pb2.CreateCollectionResponse(collection=self.collection)

    def GetCollection(self, request, context):
        self.counted += request.exact_rows
        return indexer_pb2.GetCollectionResponse(collection=self.collection)

    def ListCollections(self, request, context):
        there = [self.collection] if self.collection is not None else []
        return indexer_pb2.ListCollectionsResponse(collections=there)

    def DropCollection(self, request, context):
        assert request.collection == request.confirm
        self.collection = None
        return indexer_pb2.DropCollectionResponse()

    def DeleteImages(self, request, context):
        if request.filter:
            self.filters.append(request.filter)
            return indexer_pb2.DeleteImagesResponse()
        self.deleted.append(list(request.ids.ids))
        return indexer_pb2.DeleteImagesResponse(deleted=len(request.ids.ids))

    def CountImages(self, request, context):
        self.filters.append(request.filter)
        return indexer_pb2.CountImagesResponse(count=len(self.taken))


class Query(query_pb2_grpc.QueryServicer):
    """Answers every call with one answer, or fails it with one status; the first few with
    UNAVAILABLE if told so."""

    def __init__(
        self, answer=None, failure: status_pb2.Status | None = None, fail_first: int = 0
    ) -> None:
        self.answer, self.failure, self.fail_first = answer, failure, fail_first
        self.requests: list[Any] = []

    def Search(self, request, context):
        self.requests.append(request)
        if len(self.requests) <= self.fail_first:
            context.abort(grpc.StatusCode.UNAVAILABLE, "not yet")
        if self.failure is not None:
            abort(context, self.failure)
        return self.answer

    GetImages = BatchSearch = Search


class Waiting:
    """An AsyncClient with the methods of a Client: each runs the client's loop until its end."""

    def __init__(self, *arguments, **options) -> None:
        self._loop = asyncio.new_event_loop()
        self._client = self._run(self._opened(arguments, options))

    async def _opened(self, arguments, options) -> AsyncClient:
        return AsyncClient(*arguments, **options)

    def _run(self, coroutine):
        return self._loop.run_until_complete(coroutine)

    def __getattr__(self, name):
        return lambda *args, **kwargs: self._run(getattr(self._client, name)(*args, **kwargs))

    @contextmanager
    def index(self, *arguments, **options):
        async def begin():
            return self._client.index(*arguments, **options)

        ingest = self._run(begin())
        try:
            yield iter(lambda: self._run(anext(ingest, None)), None)
        finally:
            self._run(ingest.aclose())

    def list_images(self, *arguments, **options):
        images = self._client.list_images(*arguments, **options)
        return iter(lambda: self._run(anext(images, None)), None)

    def __enter__(self):
        return self

    def __exit__(self, *_) -> None:
        self._run(self._client.close())
        self._loop.close()
