"""The one place where what pymilvus raises becomes one of our errors."""

from __future__ import annotations

import asyncio

import grpc
from pymilvus.exceptions import MilvusException

from glimpse.errors import (
    AlreadyExists,
    DeadlineExceeded,
    FailedPrecondition,
    GlimpseError,
    InvalidInput,
    NotFound,
    Overloaded,
    Unavailable,
)

# What `connection` catches; everything else is a bug of ours and stays as it is.
FOREIGN = (MilvusException, grpc.RpcError, asyncio.TimeoutError)

# Codes of Milvus 2.3 and newer, and where they differ those that Milvus Lite gives.
_COLLECTION_MISSING = 100
_NOT_LOADED = (101, 103)
_RATE_LIMITED = (8, 9, 49)
_ILLEGAL_ARGUMENT = (5, 6, 1100)
_INDEX_MISSING = (11, 700)
_BAD_FILTER = (
    "parse expression",
    "query plan",
    "boolean expression",
    "unsupported expr",
    "not supported in execution backend",
)
# What its parts tell each other when the request's deadline has passed on the way.
_LATE = ("Retry timeout", "context canceled", "context deadline exceeded")


class NotLoaded(Unavailable):
    """Milvus has the collection, but not in memory."""

    reason = "COLLECTION_NOT_LOADED"


class IndexMissing(FailedPrecondition):
    """The collection's vectors have no index."""

    reason = "INDEX_MISSING"


class MilvusFailed(Unavailable):
    """Milvus answered with an error that has no better name here."""

    reason = "MILVUS_FAILED"


class Unsupported(GlimpseError):
    """This Milvus does not have the call."""


def translate(error: BaseException, collection: str, expression: str) -> GlimpseError:
    """Our error for one of FOREIGN, raised by a request on `collection` with a filter."""
    if isinstance(error, asyncio.TimeoutError):
        return DeadlineExceeded("Milvus did not answer in time")
    status = _grpc_status(error)
    if status is not None:
        return _from_grpc(status, error)
    assert isinstance(error, MilvusException)
    codes = (error.code, error.compatible_code)
    message = str(error.message)
    if error.code == _COLLECTION_MISSING:
        return NotFound(f"no collection {collection!r}", reason="COLLECTION_NOT_FOUND")
    if error.code in _NOT_LOADED:
        return NotLoaded(f"Milvus has not loaded collection {collection!r}")
    if any(code in _RATE_LIMITED for code in codes):
        return Overloaded(f"Milvus: {message}", retry_after_s=1.0)
    if error.code in _INDEX_MISSING:
        return IndexMissing(f"collection {collection!r} has no vector index")
    if "already exist" in message or "duplicate collection" in message:
        return AlreadyExists(f"collection {collection!r} already exists")
    if expression and _blames_filter(error, message):
        return invalid_filter(message)
    if any(phrase in message for phrase in _LATE):
        return DeadlineExceeded("Milvus did not answer in time")
    if "Fail connecting" in message:
        return Unavailable("Milvus cannot be reached")
    return MilvusFailed(f"Milvus: {message or error!r}")


def invalid_filter(message: str) -> InvalidInput:
    return InvalidInput("filter", message, reason="INVALID_FILTER")


def _blames_filter(error: MilvusException, message: str) -> bool:
    return error.code in _ILLEGAL_ARGUMENT or any(phrase in message for phrase in _BAD_FILTER)


def _grpc_status(error: BaseException) -> grpc.StatusCode | None:
    for candidate in (error, error.__cause__):
        code = getattr(candidate, "code", None)
        if isinstance(candidate, grpc.RpcError) and callable(code):
            code = code()
        if isinstance(code, grpc.StatusCode):
            return code
    return None


def _from_grpc(status: grpc.StatusCode, error: BaseException) -> GlimpseError:
    if status is grpc.StatusCode.DEADLINE_EXCEEDED:
        return DeadlineExceeded("Milvus did not answer in time")
    if status is grpc.StatusCode.UNIMPLEMENTED:
        return Unsupported("this Milvus does not support the call")
    if status is grpc.StatusCode.RESOURCE_EXHAUSTED:
        return Overloaded("Milvus has no resources left", retry_after_s=1.0)
    if status in (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED):
        return FailedPrecondition("Milvus refuses the token", reason="MILVUS_ACCESS_DENIED")
    if status in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED):
        return Unavailable("Milvus cannot be reached")
    details = error.details() if isinstance(error, grpc.aio.AioRpcError) else str(error)
    return MilvusFailed(f"Milvus: {details or status.name}")
