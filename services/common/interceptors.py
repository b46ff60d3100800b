"""What happens around every call: who calls, whether there is a place for it, its id, its status,
its metrics, its span, one log line if it fails.

Streaming handlers are async generators: that is the style that interceptors can wrap without
breaking cancellation.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import random
import re
import time
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import grpc
from google.rpc import code_pb2
from grpc_status import rpc_status

from glimpse import errors
from glimpse.transport.status import REQUEST_ID, to_status
from services.common import telemetry, tracing
from services.common.admission import Admission
from services.common.auth import Authenticator
from services.common.codec import Parser, parser_of, serializer_of
from services.common.deadline import Deadline
from services.common.repeats import Repeats

_REQUEST_ID_PATTERN = re.compile(r"[A-Za-z0-9._:/-]{1,128}")
_PUSHBACK = "grpc-retry-pushback-ms"
_PREVIOUS_ATTEMPTS = "grpc-previous-rpc-attempts"
_WRAPPED = ("/glimpse.", "/grpc.channelz.")
_STOPPING = "STOPPING"
_LOADING = "LOADING"
_REFUSALS_EVERY_S = 1.0  # lines of one method and reason: under overload, thousands would repeat

log = logging.getLogger(__name__)


def deadline_of(context: Any, default_s: float) -> Deadline:
    """The caller's deadline, or one in `default_s` seconds when it set none.

    Raises DeadlineExceeded when it has passed.
    """
    left_s = context.time_remaining()
    deadline = Deadline(default_s if left_s is None or math.isinf(left_s) else left_s)
    deadline.left_s()
    return deadline


def is_repeated(context: Any) -> bool:
    """Whether the caller's gRPC has sent this call before, and lost the answer or got UNAVAILABLE.

    It says so itself, in metadata that callers cannot set.
    """
    return any(key == _PREVIOUS_ATTEMPTS for key, _ in context.invocation_metadata() or ())


class CallInterceptor(grpc.aio.ServerInterceptor):
    """Wraps the handlers of glimpse's own services; health and reflection pass untouched.

    Without an authenticator everybody may call, without an admission as often as they like. A call
    without a deadline waits for its place for `default_timeout_s` at most.
    """

    def __init__(
        self,
        metrics: telemetry.RpcMetrics,
        authenticator: Authenticator | None = None,
        admission: Admission | None = None,
        default_timeout_s: float = 30.0,
    ) -> None:
        self._metrics = metrics
        self._authenticator = authenticator
        self._admission = admission or Admission()
        metrics.waiting.set_function(lambda: self._admission.waiting)
        self._default_timeout_s = default_timeout_s
        self._refusals = Repeats(_REFUSALS_EVERY_S)
        self._under_way = 0
        self._idle: asyncio.Event | None = None  # once calls are refused

    def refuse_calls(self) -> None:
        """Refuses calls from now on, also those that wait; those under way go on."""
        self._idle = asyncio.Event()
        self._admission.end_waits(_stopping())
        self._look_if_idle()

    async def wait_until_idle(self) -> None:
        """Returns when the answers of all calls that were not refused have been sent."""
        if self._idle is not None:
            await self._idle.wait()

    def _begun(self, context: Any) -> None:
        self._under_way += 1
        context.add_done_callback(self._ended)

    def _ended(self, _: object) -> None:
        self._under_way -= 1
        self._look_if_idle()

    def _look_if_idle(self) -> None:
        if self._idle is not None and not self._under_way:
            self._idle.set()

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        handler: Any = await continuation(handler_call_details)
        method: str = handler_call_details.method  # type: ignore[attr-defined]
        if handler is None or not method.startswith(_WRAPPED):
            return handler
        caller = ""
        try:
            if self._idle is not None:
                raise _stopping()
            if self._authenticator is not None:
                metadata = handler_call_details.invocation_metadata  # type: ignore[attr-defined]
                caller = self._authenticator.caller(method, metadata)
            self._admission.check(caller, streaming=handler.stream_stream is not None)
        except errors.GlimpseError as error:
            # As a stream, even where the method is unary: that does not wait for the message.
            return grpc.stream_stream_rpc_method_handler(self._refusing(method, error, caller))
        parser, serialise = parser_of(handler, method), serializer_of(handler)
        if handler.unary_unary is not None:
            return grpc.unary_unary_rpc_method_handler(
                self._unary(method, handler.unary_unary, parser, caller),
                response_serializer=serialise,
            )
        if handler.stream_stream is not None:
            return grpc.stream_stream_rpc_method_handler(
                self._streaming(method, handler.stream_stream, parser, caller),
                response_serializer=serialise,
            )
        raise TypeError(f"{method}: only unary and bidirectional calls are wrapped")

    def _unary(
        self, method: str, behaviour: Callable[..., Awaitable[Any]], parser: Parser, caller: str
    ) -> Callable[..., Any]:
        async def wrapped(content: bytes, context: Any) -> Any:
            self._begun(context)
            with self._observed(method, context):
                try:
                    left_s = deadline_of(context, self._default_timeout_s).left_s()
                    identity = caller or _peer(context)
                    async with self._admission.place(identity, left_s, len(content)):
                        return await behaviour(await parser(content), context)
                except grpc.aio.AbortError:
                    raise
                except Exception as error:
                    await self._abort(method, context, error, caller)

        return wrapped

    def _streaming(
        self,
        method: str,
        behaviour: Callable[..., AsyncGenerator[Any, None]],
        parser: Parser,
        caller: str,
    ) -> Callable[..., Any]:
        async def wrapped(contents: Any, context: Any) -> AsyncIterator[Any]:
            self._begun(context)
            with self._observed(method, context):
                try:
                    async with (
                        self._admission.place(caller or _peer(context), left_s=None),
                        contextlib.aclosing(_parsed(contents, parser)) as requests,
                        contextlib.aclosing(behaviour(requests, context)) as responses,
                    ):
                        async for response in responses:
                            yield response
                except grpc.aio.AbortError:
                    raise
                except Exception as error:
                    await self._abort(method, context, error, caller)

        return wrapped

    def _refusing(
        self, method: str, error: errors.GlimpseError, caller: str
    ) -> Callable[..., Awaitable[None]]:
        async def wrapped(requests: Any, context: Any) -> None:
            with self._observed(method, context):
                await self._abort(method, context, error, caller)

        return wrapped

    @contextlib.contextmanager
    def _observed(self, method: str, context: Any) -> Iterator[None]:
        identity = _request_id(context)
        telemetry.request_id.set(identity)
        context.set_trailing_metadata(((REQUEST_ID, identity),))
        span = tracing.begin(method, context.invocation_metadata(), identity)
        in_flight = self._metrics.in_flight.labels(method)
        in_flight.inc()
        started_s = time.perf_counter()
        finished = False
        try:
            yield
            finished = True
        except grpc.aio.AbortError:
            finished = True
            raise
        finally:
            in_flight.dec()
            code = _code_name(context) if finished else "CANCELLED"
            self._metrics.latency_s.labels(method, code).observe(time.perf_counter() - started_s)
            self._metrics.calls.labels(method, code).inc()
            tracing.end(span, code)

    async def _abort(self, method: str, context: Any, error: Exception, caller: str) -> None:
        status = to_status(error)
        extra = {"caller": caller or _peer(context), "code": code_pb2.Code.Name(status.code)}
        if not isinstance(error, errors.GlimpseError):
            extra["reason"] = "INTERNAL"
            log.error("%s failed: %r", method, error, exc_info=error, extra=extra)
        else:
            extra["reason"] = error.reason
            if error.reason == _LOADING:
                # Every indexer asks for it each second; the encoder itself says that it loads.
                log.debug("%s failed: %s", method, status.message, extra=extra)
            elif isinstance(error, errors.Overloaded | errors.Unavailable):
                behind = self._refusals.pass_on((method, error.reason))
                if behind is not None:
                    log.info("%s failed: %s%s", method, status.message, behind, extra=extra)
            else:
                log.info("%s failed: %s", method, status.message, extra=extra)
        ending = rpc_status.to_status(status)
        # What a handler ends with replaces the metadata that were set before.
        metadata = (
            *ending.trailing_metadata,
            (REQUEST_ID, telemetry.request_id.get()),
            *_pushback(error, context),
        )
        try:
            await context.abort(ending.code, ending.details, metadata)
        except grpc.aio.AbortError as aborted:
            # gRPC keeps it with the call, and raises it again once the handler has returned. What
            # the two errors know of their way here refers to the call: a circle, which only the
            # garbage collector frees, and under overload that holds up the event loop.
            aborted.__traceback__ = aborted.__context__ = error.__traceback__ = None


def _pushback(error: Exception, context: Any) -> tuple[tuple[str, str], ...]:
    """What gRPC's own retries of an overloaded service wait, where a channel has them on.

    Later than `retry_after_s` by chance, for those that are refused together shall not come back
    together; and never past the deadline, which would hide the refusal behind DEADLINE_EXCEEDED.
    """
    if not isinstance(error, errors.Overloaded) or error.retry_after_s is None:
        return ()
    delay_s = error.retry_after_s * random.uniform(1.0, 1.5)  # noqa: S311 (no secret)
    left_s = context.time_remaining()
    if left_s is not None and left_s <= delay_s:
        return ((_PUSHBACK, "-1"),)
    return ((_PUSHBACK, str(round(delay_s * 1000))),)


def _peer(context: Any) -> str:
    """Who calls, where no token says so: the certificate's first name, or else the address."""
    for identity in context.peer_identities() or ():
        return identity.decode(errors="replace")
    address = str(context.peer())
    return address.rpartition(":")[0] or address


async def _parsed(contents: Any, parser: Parser) -> AsyncGenerator[Any, None]:
    """A stream's messages, until it is closed.

    gRPC's own generator has to be closed as well: it refers to itself, and keeps the last message
    for the garbage collector, which comes after millions of objects.
    """
    async with contextlib.aclosing(aiter(contents)) as received:
        async for content in received:
            yield await parser(content)


def _stopping() -> errors.Unavailable:
    return errors.Unavailable("the service is stopping", reason=_STOPPING)


def _request_id(context: Any) -> str:
    for key, value in context.invocation_metadata() or ():
        if key == REQUEST_ID and isinstance(value, str) and _REQUEST_ID_PATTERN.fullmatch(value):
            return value
    return uuid.uuid4().hex


def _code_name(context: Any) -> str:
    code = context.code()
    if isinstance(code, grpc.StatusCode):
        return code.name
    return next((c.name for c in grpc.StatusCode if c.value[0] == code), "OK")
