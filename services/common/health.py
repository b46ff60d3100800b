"""grpc.health.v1 whose watchers never hold up a stop; who is healthy is the server's to say."""

from __future__ import annotations

import asyncio
from typing import Any

from grpc_health.v1 import health, health_pb2

_Servicer: Any = health.aio.HealthServicer  # pyright: ignore[reportAttributeAccessIssue]


class HealthServicer(_Servicer):
    """The library's servicer; end_watches() ends every Watch, which otherwise lasts as long as its
    caller likes, and with it the grace that a stop gives to calls under way."""

    def __init__(self) -> None:
        super().__init__()
        self._ended = asyncio.Event()

    async def Watch(self, request: health_pb2.HealthCheckRequest, context: Any) -> None:
        watch = asyncio.ensure_future(super().Watch(request, context))
        ended = asyncio.ensure_future(self._ended.wait())
        try:
            await asyncio.wait({watch, ended}, return_when=asyncio.FIRST_COMPLETED)
            if watch.done():
                watch.result()
        finally:
            watch.cancel()
            ended.cancel()

    def end_watches(self) -> None:
        """Ends the watches that run and all that come."""
        self._ended.set()
