"""The client for asyncio programs that search; indexing is the blocking client's job."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import grpc
from google.protobuf.message import Message

from glimpse import convert, errors
from glimpse.channel import MAX_MESSAGE_BYTES, open_aio_channel
from glimpse.client import DEFAULT_QUERY
from glimpse.credentials import client_credentials
from glimpse.query.v1 import query_pb2, query_pb2_grpc
from glimpse.results import FoundImages, SearchResult, Term
from glimpse.tracing import calling


class AsyncClient:
    """A connection to the query service, owned by the event loop that made it; made once and kept.

    Address, time limit, credentials and errors are those of glimpse.Client. Cancelling a call stops
    it in the service too.
    """

    def __init__(
        self,
        query: str = DEFAULT_QUERY,
        *,
        timeout_s: float = 10.0,
        max_message_bytes: int = MAX_MESSAGE_BYTES,
        tls_ca: str | os.PathLike[str] | None = None,
        tls_cert: str | os.PathLike[str] | None = None,
        tls_key: str | os.PathLike[str] | None = None,
        token: str | os.PathLike[str] | None = None,
    ) -> None:
        self._timeout_s = timeout_s
        credentials = client_credentials(tls_ca, tls_cert, tls_key, token)
        self._name = f"the query service at {query}"
        self._channel = open_aio_channel(query, max_message_bytes, credentials=credentials)
        self._query = query_pb2_grpc.QueryStub(self._channel)

    async def close(self) -> None:
        """Closes the connection; calls under way fail."""
        await self._channel.close()

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def search(
        self,
        collection: str,
        text: str | None = None,
        *,
        image: bytes | os.PathLike[str] | None = None,
        image_id: str | None = None,
        vector: Sequence[float] | None = None,
        terms: Sequence[Term] | None = None,
        limit: int = 10,
        offset: int = 0,
        filter: str | query_pb2.Condition = "",
        min_score: float | None = None,
        output_fields: Sequence[str] = (),
        strong: bool = False,
        prompt_template: str = "",
        include_query_images: bool = False,
        page_token: str = "",
        timeout_s: float | None = None,
    ) -> SearchResult:
        """As Client.search. A picture given by its path is read at once: give bytes where that
        must not hold up the loop."""
        request = convert.search_request(
            collection,
            convert.terms_of(text, image, image_id, vector, terms),
            page_token,
            limit=limit,
            offset=offset,
            filter=filter,
            min_score=min_score,
            output_fields=output_fields,
            strong=strong,
            prompt_template=prompt_template,
            include_query_images=include_query_images,
        )
        return convert.search_result(await self._ask(self._query.Search, request, timeout_s))

    async def get_images(
        self, collection: str, ids: Sequence[str], output_fields: Sequence[str] = ()
    ) -> FoundImages:
        """As Client.get_images."""
        request = query_pb2.GetImagesRequest(
            collection=collection, ids=ids, output_fields=output_fields
        )
        return convert.found_images(await self._ask(self._query.GetImages, request))

    async def _ask(self, method: Any, request: Message, timeout_s: float | None = None) -> Any:
        with calling(request) as trace:
            try:
                return await method(request, timeout=timeout_s or self._timeout_s, metadata=trace)
            except grpc.RpcError as error:
                raise errors.from_rpc_error(error, self._name) from error
