"""The one place where what pymilvus raises becomes one of our errors."""

from __future__ import annotations

import asyncio
import re

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

# Codes of Milvus 2.3.5 to 2.6, and of Milvus Lite 3.2 where it has one; decision 0040 says where
# they stand in its sources.
_UNREACHABLE = 2  # of pymilvus, and of a server's parts that do not reach each other
_COLLECTION_MISSING = 100
_NOT_LOADED = (101, 103, 106)  # not, not wholly, not yet again
# Memory, queue, disk, rate, quota, time ticks that come late, resources.
_OVERLOADED = (3, 4, 7, 8, 9, 11, 12)
_INDEX_MISSING = 700
_DATABASE_MISSING = 800
_ILLEGAL_ARGUMENT = (6, 1100)  # of Milvus Lite, of a server
_ACCESS_DENIED = (1400, 1401)
_LATE = (10_000, 10_001)
_UNEXPECTED = (1, 65_535)  # anything: of Milvus Lite and pymilvus, of a server

# Read only in answers of unexpected errors. What parts of Milvus 2.3 tell each other when the
# request's deadline has passed on the way, and pymilvus where it waits by itself.
_LATE_WORDS = ("Retry timeout", "context canceled", "context deadline exceeded")
_TAKEN_WORDS = ("already exist", "duplicate collection")
_FULL_WORDS = ("No space left on device",)
# Of Milvus Lite; and of 2.3 when it lists collections.
_NO_DATABASE = re.compile(r"database '\w+' does not exist|database:\w+ not found")


class NotLoaded(Unavailable):
    """Milvus has the collection, but not in memory."""

    reason = "COLLECTION_NOT_LOADED"


class IndexMissing(FailedPrecondition):
    """The collection's vectors have no index."""

    reason = "INDEX_MISSING"


class DiskFull(FailedPrecondition):
    """Milvus Lite could not write to its disk, and is not to write again before a new start."""

    reason = "MILVUS_LITE_DISK_FULL"

    def __init__(self) -> None:
        super().__init__(
            "Milvus Lite could not write to its disk: make room there, then start it and the "
            "indexer again, as glimpse up does; what was acknowledged is in its log until then, "
            "and may not be found"
        )


class MilvusFailed(Unavailable):
    """Milvus answered with an error that has no better name here."""

    reason = "MILVUS_FAILED"


class Unsupported(GlimpseError):
    """This Milvus does not have the call."""


def translate(
    error: BaseException, database: str, collection: str, expression: str = ""
) -> GlimpseError:
    """Our error for one of FOREIGN, raised by a request on `collection` with a filter."""
    if isinstance(error, asyncio.TimeoutError):
        return DeadlineExceeded("Milvus did not answer in time")
    status = _grpc_status(error)
    if status is not None:
        return _from_grpc(status, error)
    assert isinstance(error, MilvusException)
    message = str(error.message)
    if error.code == _UNREACHABLE:
        return Unavailable(f"Milvus cannot be reached: {message}")
    if error.code == _COLLECTION_MISSING:
        return NotFound(f"no collection {collection!r}", reason="COLLECTION_NOT_FOUND")
    if error.code == _DATABASE_MISSING or _NO_DATABASE.fullmatch(message):
        return FailedPrecondition(
            f"Milvus has no database {database!r}", reason="MILVUS_DATABASE_NOT_FOUND"
        )
    if error.code in _NOT_LOADED:
        return NotLoaded(f"Milvus has not loaded collection {collection!r}")
    if error.code in _OVERLOADED:
        return Overloaded(f"Milvus: {message}", retry_after_s=1.0)
    if error.code == _INDEX_MISSING:
        return IndexMissing(f"collection {collection!r} has no vector index")
    if error.code in _ACCESS_DENIED:
        return _access_denied()
    if error.code in _LATE:
        return DeadlineExceeded("Milvus did not answer in time")
    if expression and error.code in _ILLEGAL_ARGUMENT:
        return invalid_filter(message)
    if _says(error, _TAKEN_WORDS, expression):
        return AlreadyExists(f"collection {collection!r} already exists")
    if is_full_disk(error, expression):
        return Overloaded(f"Milvus: {message}", retry_after_s=1.0)
    if _says(error, _LATE_WORDS, expression):
        return DeadlineExceeded("Milvus did not answer in time")
    return MilvusFailed(f"Milvus: {message or error!r}")


def is_full_disk(error: MilvusException, expression: str = "") -> bool:
    """Whether Milvus Lite's disk is full; a server denies by a code."""
    return _says(error, _FULL_WORDS, expression)


def _says(error: MilvusException, words: tuple[str, ...], expression: str) -> bool:
    """Whether an unexpected error has one of these words, other than in the filter, which messages
    repeat."""
    message = str(error.message)
    if expression:
        message = message.replace(expression, "")
    return error.code in _UNEXPECTED and any(each in message for each in words)


def invalid_filter(message: str) -> InvalidInput:
    return InvalidInput("filter", message, reason="INVALID_FILTER")


def _access_denied() -> FailedPrecondition:
    return FailedPrecondition("Milvus refuses the token", reason="MILVUS_ACCESS_DENIED")


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
        return _access_denied()
    if status in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED):
        return Unavailable("Milvus cannot be reached")
    details = error.details() if isinstance(error, grpc.aio.AioRpcError) else str(error)
    return MilvusFailed(f"Milvus: {details or status.name}")
