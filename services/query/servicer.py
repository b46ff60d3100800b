"""Query over gRPC: converts requests and answers; finding the answers is the searcher's job."""

from __future__ import annotations

import time

import grpc

from glimpse.errors import GlimpseError
from glimpse.query.v1 import query_pb2 as pb
from glimpse.query.v1 import query_pb2_grpc
from services.common.deadline import Deadline
from services.common.interceptors import deadline_of
from services.common.raw_messages import joined
from services.query import answers, bounds, converters
from services.query.page_tokens import PageTokens, digest_of
from services.query.queries import PageOrigin
from services.query.search import Searcher
from services.query.settings import QuerySettings


class QueryServicer(query_pb2_grpc.QueryServicer):
    """The contract in protos/glimpse/query/v1; errors become statuses in the shared interceptor.

    Answers are serialised here, hit by hit: whole ones would hold up everybody meanwhile.
    """

    def __init__(self, searcher: Searcher, tokens: PageTokens, settings: QuerySettings) -> None:
        self._searcher = searcher
        self._tokens = tokens
        self._settings = settings

    async def Search(self, request: pb.SearchRequest, context: grpc.aio.ServicerContext) -> bytes:
        started_s = time.perf_counter()
        bounds.check_search(request)
        query = await converters.query_of(request, self._settings.max_image_bytes)
        options = converters.options_of(request.options)
        digest = b""
        if request.page_token:
            digest = await digest_of(request.collection, query, options)
            options = self._tokens.resume(request.page_token, digest, options)
        found = await self._searcher.search(
            request.collection, [query], options, self._deadline(context)
        )
        page = found.results[0]
        if isinstance(page, GlimpseError):
            raise page
        hits, rest = await answers.search_response(found, page, self._room("options.limit"))
        if page.end is not None:
            digest = digest or await digest_of(request.collection, query, options)
            origin = PageOrigin.of(found.collection)
            rest.next_page_token = self._tokens.issue(page.end, origin, digest)
        rest.timing.total_us = _us_since(started_s)
        return await joined(hits, rest)

    async def BatchSearch(
        self, request: pb.BatchSearchRequest, context: grpc.aio.ServicerContext
    ) -> bytes:
        started_s = time.perf_counter()
        bounds.check_batch(request)
        options = converters.options_of(request.options)
        queries = await converters.queries_of(request, self._settings.max_image_bytes)
        found = await self._searcher.search(
            request.collection, queries, options, self._deadline(context)
        )
        results, rest = await answers.batch_response(found, self._room("options.limit"))
        rest.timing.total_us = _us_since(started_s)
        return await joined(results, rest)

    async def GetImages(
        self, request: pb.GetImagesRequest, context: grpc.aio.ServicerContext
    ) -> bytes:
        bounds.check_get(request)
        fields = converters.fields_of(request.output_fields)
        present, missing = await self._searcher.get_images(
            request.collection, request.ids, fields, self._deadline(context)
        )
        return await joined(*await answers.images_response(present, missing, self._room("ids")))

    async def GetModel(
        self, request: pb.GetModelRequest, context: grpc.aio.ServicerContext
    ) -> pb.GetModelResponse:
        bounds.check_collection(request.collection)
        model = await self._searcher.get_model(request.collection, self._deadline(context))
        return answers.model_response(model)

    def _deadline(self, context: grpc.aio.ServicerContext) -> Deadline:
        return deadline_of(context, self._settings.default_timeout_s)

    def _room(self, field: str) -> bounds.AnswerRoom:
        return bounds.AnswerRoom(self._settings.max_message_bytes, field)


def _us_since(started_s: float) -> int:
    return int((time.perf_counter() - started_s) * 1e6)
