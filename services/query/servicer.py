"""Query over gRPC: converts requests and answers; finding the answers is the searcher's job."""

from __future__ import annotations

import dataclasses
import time
from typing import TypeVar

import grpc
from google.protobuf.message import Message

from glimpse.errors import GlimpseError, InvalidInput
from glimpse.query.v1 import query_pb2 as pb
from glimpse.query.v1 import query_pb2_grpc
from services.common.deadline import Deadline
from services.common.interceptors import deadline_of
from services.query import converters
from services.query.page_tokens import PageTokens
from services.query.queries import MAX_QUERIES, Options, Query
from services.query.search import Page, Searcher
from services.query.settings import QuerySettings
from services.vectors import bounds

Response = TypeVar("Response", bound=Message)


class QueryServicer(query_pb2_grpc.QueryServicer):
    """The contract in protos/glimpse/query/v1; errors become statuses in the shared interceptor."""

    def __init__(self, searcher: Searcher, tokens: PageTokens, settings: QuerySettings) -> None:
        self._searcher = searcher
        self._tokens = tokens
        self._settings = settings

    async def Search(
        self, request: pb.SearchRequest, context: grpc.aio.ServicerContext
    ) -> pb.SearchResponse:
        started_s = time.perf_counter()
        query = converters.query_of(request, "", self._settings.max_image_bytes)
        options = self._page_options(request)
        answers = await self._searcher.search(
            request.collection, [query], options, self._deadline(context)
        )
        page = answers.results[0]
        if isinstance(page, GlimpseError):
            raise page
        response = pb.SearchResponse(
            hits=converters.hits_to_messages(page.hits),
            next_page_token=self._next_page_token(request, options, page),
            model=converters.model_to_message(answers.collection),
            text_truncated=page.truncated,
        )
        total_s = time.perf_counter() - started_s
        response.timing.CopyFrom(converters.timing_to_message(answers, total_s))
        return self._checked_size(response, "options.limit")

    async def BatchSearch(
        self, request: pb.BatchSearchRequest, context: grpc.aio.ServicerContext
    ) -> pb.BatchSearchResponse:
        started_s = time.perf_counter()
        options = converters.options_of(request.options)
        queries = self._batch_queries(request)
        answers = await self._searcher.search(
            request.collection, queries, options, self._deadline(context)
        )
        response = pb.BatchSearchResponse(
            results=converters.results_to_messages(answers),
            model=converters.model_to_message(answers.collection),
        )
        total_s = time.perf_counter() - started_s
        response.timing.CopyFrom(converters.timing_to_message(answers, total_s))
        return self._checked_size(response, "options.limit")

    async def GetImages(
        self, request: pb.GetImagesRequest, context: grpc.aio.ServicerContext
    ) -> pb.GetImagesResponse:
        fields = converters.fields_of(request.output_fields)
        present, missing = await self._searcher.get_images(
            request.collection, request.ids, fields, self._deadline(context)
        )
        images = [
            pb.Image(id=identity, attributes=converters.attributes_to_message(attributes))
            for identity, attributes in present
        ]
        response = pb.GetImagesResponse(images=images, missing_ids=missing)
        return self._checked_size(response, "ids")

    def _deadline(self, context: grpc.aio.ServicerContext) -> Deadline:
        return deadline_of(context, self._settings.default_timeout_s)

    def _page_options(self, request: pb.SearchRequest) -> Options:
        """The request's options, with the offset that its page token stands for."""
        options = converters.options_of(request.options)
        if not request.page_token:
            return options
        if options.offset:
            raise InvalidInput("options.offset", "must be 0 where page_token is set")
        offset = self._tokens.read(request.page_token, converters.digest_of(request))
        limit = min(options.limit, bounds.MAX_WINDOW - offset)
        return dataclasses.replace(options, offset=offset, limit=limit)

    def _next_page_token(self, request: pb.SearchRequest, options: Options, page: Page) -> str:
        if not page.has_more:
            return ""
        return self._tokens.issue(options.offset + options.limit, converters.digest_of(request))

    def _batch_queries(self, request: pb.BatchSearchRequest) -> list[Query | GlimpseError]:
        """Each query, or what is wrong with it; too many are not even read."""
        queries: list[Query | GlimpseError] = []
        for index, message in enumerate(request.queries[: MAX_QUERIES + 1]):
            try:
                prefix = f"queries[{index}]."
                queries.append(converters.query_of(message, prefix, self._settings.max_image_bytes))
            except InvalidInput as error:
                queries.append(error)
        return queries

    def _checked_size(self, response: Response, field: str) -> Response:
        size_bytes, max_bytes = response.ByteSize(), self._settings.max_message_bytes
        if size_bytes > max_bytes:
            raise InvalidInput(
                field,
                f"the answer would take {size_bytes} bytes, a message holds {max_bytes}: "
                "ask for less at once, or for fewer fields",
                reason="ANSWER_TOO_LARGE",
            )
        return response
