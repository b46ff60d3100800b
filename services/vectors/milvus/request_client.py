"""What of pymilvus' client is done otherwise."""

from __future__ import annotations

from typing import Any

from pymilvus import AsyncMilvusClient
from pymilvus.client.utils import check_status
from pymilvus.grpc_gen import milvus_pb2


class RequestClient(AsyncMilvusClient):
    """pymilvus' client, whose upsert takes the request that columns.py has made, and whose delete
    raises the error that Milvus answers with."""

    async def upsert(
        self, collection_name: str, data: Any, timeout: float | None = None, *_: Any, **options: Any
    ) -> dict[str, int]:
        assert isinstance(data, milvus_pb2.UpsertRequest), "rows go through columns.upsert_request"
        connection: Any = await self._get_connection()
        context = self._generate_call_context()
        answer = await connection.upsert(
            collection_name, [], timeout=timeout, context=context, upsert_param=data
        )
        return {"upsert_count": answer.upsert_count}

    async def delete(  # type: ignore[override]
        self, collection_name: str, *, filter: str, timeout: float | None = None
    ) -> None:
        connection: Any = await self._get_connection()
        context = self._generate_call_context()
        answer = await connection.delete(collection_name, filter, timeout=timeout, context=context)
        check_status(answer._raw.status)  # which pymilvus' own leaves unread
