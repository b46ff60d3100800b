"""Channels with credentials, made anew when the certificates change; plain channels and their
options are made elsewhere.

gRPC for Python reads a channel's certificates once. A service's certificate lives for weeks, its
channels for longer: without this, a channel that has to reconnect would show an expired one.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import grpc

from glimpse.transport.credentials import Credentials

Open = Callable[[grpc.ChannelCredentials | None], Any]


class _Generation:
    """One channel under one set of certificates, and how many calls run on it."""

    def __init__(self, tls: grpc.ChannelCredentials | None, channel: Any) -> None:
        self.tls = tls
        self.channel = channel
        self.calls = 0
        self.methods: dict[tuple[object, ...], Callable[..., Any]] = {}

    def method(self, key: tuple[Any, ...]) -> Callable[..., Any]:
        """What makes calls of the method that `key` describes on this channel."""
        if key not in self.methods:
            kind, *arguments = key
            self.methods[key] = getattr(self.channel, kind)(*arguments)
        return self.methods[key]


class ReloadingChannel:
    """Stands in for grpc.Channel under generated stubs: their calls, not `future` or `with_call`.

    Calls carry the token. A call ends on the channel that it began on; a channel whose certificates
    are out of date is closed after its last call. Thread-safe. Raises UnusableCredentials.
    """

    def __init__(self, open_one: Open, credentials: Credentials) -> None:
        self._open = open_one
        self._tls = credentials.watch_tls()
        self._token = credentials.watch_token()
        self._lock = threading.Lock()
        self._newest = self._generation()
        self._live = {self._newest}

    def unary_unary(self, *arguments: Any, **options: Any) -> Callable[..., Any]:
        return self._method("unary_unary", *arguments, **options)

    def unary_stream(self, *arguments: Any, **options: Any) -> Callable[..., Any]:
        return self._method("unary_stream", *arguments, **options)

    def stream_unary(self, *arguments: Any, **options: Any) -> Callable[..., Any]:
        return self._method("stream_unary", *arguments, **options)

    def stream_stream(self, *arguments: Any, **options: Any) -> Callable[..., Any]:
        return self._method("stream_stream", *arguments, **options)

    def close(self) -> None:
        """Closes the connections; calls under way fail."""
        for generation in self._live:
            generation.channel.close()

    def _method(
        self,
        kind: str,
        path: str,
        request_serializer: Any = None,
        response_deserializer: Any = None,
        _registered_method: bool = False,
    ) -> Callable[..., Any]:
        key = (kind, path, request_serializer, response_deserializer)

        def call(*requests: Any, metadata: Any = None, **options: Any) -> Any:
            token = self._token if isinstance(self._token, str) else self._token.current()
            if token:
                metadata = (*(metadata or ()), ("authorization", f"Bearer {token}"))
            generation = self._taken()
            ended = _once(lambda: self._ended(generation))
            try:
                begin = generation.method(key)
                return self._begun(kind, begin, ended, *requests, metadata=metadata, **options)
            except BaseException:
                ended()
                raise

        return call

    def _begun(
        self, kind: str, begin: Callable[..., Any], ended: Callable[[], None], *args: Any, **kw: Any
    ) -> Any:
        call = begin(*args, **kw)
        # A call with one answer has blocked until its end.
        if kind.endswith("_unary") or not call.add_callback(ended):
            ended()
        return call

    def _dispose(self, channel: Any) -> None:
        channel.close()

    def _current_tls(self) -> grpc.ChannelCredentials | None:
        return self._tls.current() if self._tls is not None else None

    def _generation(self) -> _Generation:
        tls = self._current_tls()
        return _Generation(tls, self._open(tls))

    def _taken(self) -> _Generation:
        """The newest generation, with one call more."""
        old = None
        with self._lock:
            if self._current_tls() is not self._newest.tls:
                old, self._newest = self._newest, self._generation()
                self._live.add(self._newest)
            generation = self._newest
            generation.calls += 1
        if old is not None:
            self._dispose_if_idle(old)
        return generation

    def _ended(self, generation: _Generation) -> None:
        with self._lock:
            generation.calls -= 1
        self._dispose_if_idle(generation)

    def _dispose_if_idle(self, generation: _Generation) -> None:
        with self._lock:
            idle = generation.calls == 0 and generation is not self._newest
            dispose = idle and generation in self._live
            if dispose:
                self._live.discard(generation)
        if dispose:
            self._dispose(generation.channel)


class ReloadingAioChannel(ReloadingChannel):
    """The same for grpc.aio.Channel; owned by one event loop."""

    def __init__(self, open_one: Open, credentials: Credentials) -> None:
        super().__init__(open_one, credentials)
        self._closing: set[asyncio.Future[None]] = set()

    async def close(self, grace: float | None = None) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Closes the connections; calls under way get `grace` seconds, or fail."""
        channels = [generation.channel for generation in self._live]
        await asyncio.gather(*(channel.close(grace) for channel in channels), *self._closing)

    async def __aenter__(self) -> ReloadingAioChannel:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def _begun(
        self, kind: str, begin: Callable[..., Any], ended: Callable[[], None], *args: Any, **kw: Any
    ) -> Any:
        call = begin(*args, **kw)
        call.add_done_callback(lambda _: ended())
        return call

    def _dispose(self, channel: Any) -> None:
        closing = asyncio.ensure_future(channel.close())
        self._closing.add(closing)
        closing.add_done_callback(self._closing.discard)


def _once(function: Callable[[], None]) -> Callable[[], None]:
    """Calls `function` at the first call only."""
    waiting = [function]

    def call() -> None:
        if waiting:
            waiting.pop()()

    return call
