"""The domain's errors, and their one mapping to gRPC statuses; raising them is others' job.

    GlimpseError                    INTERNAL             what nobody foresaw
    ├── InvalidInput                INVALID_ARGUMENT     names the field and the bound (BadRequest)
    │   └── InvalidImage            INVALID_ARGUMENT     bytes that are no picture we can take
    ├── NotFound                    NOT_FOUND            a collection or an image that is not there
    ├── AlreadyExists               ALREADY_EXISTS       a collection of that name stands already
    ├── Unauthenticated             UNAUTHENTICATED      no token, or one that is not known
    ├── PermissionDenied            PERMISSION_DENIED    the token's scopes do not allow the call
    ├── FailedPrecondition          FAILED_PRECONDITION  right call, wrong state
    │   └── ModelMismatch           FAILED_PRECONDITION  vectors of two models never mix
    ├── Overloaded                  RESOURCE_EXHAUSTED   a bounded queue is full (RetryInfo)
    ├── Unavailable                 UNAVAILABLE          a peer is gone; try again later (RetryInfo)
    └── DeadlineExceeded            DEADLINE_EXCEEDED    the caller's time is spent, or too short

`reason` is a constant in UPPER_SNAKE_CASE that callers may switch on; `str(error)` is for people.
"""

from __future__ import annotations

import grpc
from google.protobuf import any_pb2, duration_pb2
from google.rpc import code_pb2, error_details_pb2, status_pb2

DOMAIN = "glimpse"

# A status travels three times in a call's trailers, which gRPC refuses from 8 KiB on.
_MAX_MESSAGE_BYTES = 1_024


class GlimpseError(Exception):
    """The root: everything that a service reports on purpose."""

    code: int = code_pb2.INTERNAL
    reason: str = "INTERNAL"

    def __init__(
        self,
        message: str,
        *,
        reason: str | None = None,
        field: str | None = None,
        retry_after_ms: int | None = None,
        metadata: dict[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.reason = reason or type(self).reason
        self.field = field
        self.retry_after_ms = retry_after_ms
        self.metadata = dict(metadata or {})


class InvalidInput(GlimpseError):
    """A field of the request breaks its bound; `field` is its path in the request."""

    code = code_pb2.INVALID_ARGUMENT
    reason = "INVALID_INPUT"

    def __init__(self, field: str, message: str, *, reason: str | None = None) -> None:
        super().__init__(f"{field}: {message}", reason=reason, field=field)


class InvalidImage(InvalidInput):
    """The bytes are not a picture that can be taken: unreadable, cut short, or too large."""

    reason = "INVALID_IMAGE"
    REASON_PREFIX = "IMAGE_"  # of every more precise reason

    def __init__(self, message: str, *, field: str = "image", reason: str | None = None) -> None:
        super().__init__(field, message, reason=reason)


class NotFound(GlimpseError):
    """What the request names does not exist."""

    code = code_pb2.NOT_FOUND
    reason = "NOT_FOUND"


class AlreadyExists(GlimpseError):
    """What the request would create exists."""

    code = code_pb2.ALREADY_EXISTS
    reason = "ALREADY_EXISTS"


class Unauthenticated(GlimpseError):
    """The call carries no token, or none that is known; the token never stands in the message."""

    code = code_pb2.UNAUTHENTICATED
    reason = "UNAUTHENTICATED"


class PermissionDenied(GlimpseError):
    """The caller is known, and not allowed to do this."""

    code = code_pb2.PERMISSION_DENIED
    reason = "SCOPE_MISSING"


class FailedPrecondition(GlimpseError):
    """The request is right, the state of the system is not."""

    code = code_pb2.FAILED_PRECONDITION
    reason = "FAILED_PRECONDITION"


class ModelMismatch(FailedPrecondition):
    """The collection was filled by another model than the one that the encoder runs."""

    reason = "MODEL_MISMATCH"


class Overloaded(GlimpseError):
    """A bounded queue is full; the caller may try again after `retry_after_ms`."""

    code = code_pb2.RESOURCE_EXHAUSTED
    reason = "OVERLOADED"

    def __init__(
        self, message: str, *, reason: str | None = None, retry_after_ms: int = 100
    ) -> None:
        super().__init__(message, reason=reason, retry_after_ms=retry_after_ms)


class Unavailable(GlimpseError):
    """A peer (encoder, Milvus) cannot be reached or is not ready."""

    code = code_pb2.UNAVAILABLE
    reason = "UNAVAILABLE"

    def __init__(
        self, message: str, *, reason: str | None = None, retry_after_ms: int = 500
    ) -> None:
        super().__init__(message, reason=reason, retry_after_ms=retry_after_ms)


class DeadlineExceeded(GlimpseError):
    """The caller's deadline has passed, or is too short for the work."""

    code = code_pb2.DEADLINE_EXCEEDED
    reason = "DEADLINE_EXCEEDED"


_TYPES: dict[int, type[GlimpseError]] = {
    kind.code: kind
    for kind in (
        NotFound,
        AlreadyExists,
        Unauthenticated,
        PermissionDenied,
        FailedPrecondition,
        Overloaded,
        Unavailable,
        DeadlineExceeded,
    )
}


def to_status(error: BaseException) -> status_pb2.Status:
    """The google.rpc.Status of an error; a foreign one becomes INTERNAL and tells nothing more."""
    if not isinstance(error, GlimpseError):
        error = GlimpseError("internal error; the service's log says more")
    message = _shortened(str(error))
    info = error_details_pb2.ErrorInfo(reason=error.reason, domain=DOMAIN, metadata=error.metadata)
    details: list[any_pb2.Any] = [_packed(info)]
    if error.field is not None:
        violation = error_details_pb2.BadRequest.FieldViolation(
            field=error.field, description=message, reason=error.reason
        )
        details.append(_packed(error_details_pb2.BadRequest(field_violations=[violation])))
    if error.retry_after_ms is not None:
        delay = duration_pb2.Duration()
        delay.FromMilliseconds(error.retry_after_ms)
        details.append(_packed(error_details_pb2.RetryInfo(retry_delay=delay)))
    return status_pb2.Status(code=error.code, message=message, details=details)


def from_status(status: status_pb2.Status) -> GlimpseError:
    """The domain error that a status of one of our own services stands for."""
    reason, field, retry_after_ms, metadata = None, None, None, {}
    for detail in status.details:
        info = error_details_pb2.ErrorInfo()
        bad_request = error_details_pb2.BadRequest()
        retry = error_details_pb2.RetryInfo()
        if detail.Unpack(info):
            reason, metadata = info.reason, dict(info.metadata)
        elif detail.Unpack(bad_request) and bad_request.field_violations:
            field = bad_request.field_violations[0].field
        elif detail.Unpack(retry):
            retry_after_ms = retry.retry_delay.ToMilliseconds()
    kind = _TYPES.get(status.code, GlimpseError)
    if status.code == code_pb2.INVALID_ARGUMENT:
        of_image = (reason or "").startswith((InvalidImage.reason, InvalidImage.REASON_PREFIX))
        kind = InvalidImage if of_image else InvalidInput
    error = kind.__new__(kind)
    GlimpseError.__init__(
        error,
        status.message,
        reason=reason,
        field=field,
        retry_after_ms=retry_after_ms,
        metadata=metadata,
    )
    if kind is GlimpseError:
        error.code = status.code
    return error


def from_rpc_error(error: grpc.RpcError, peer: str) -> GlimpseError:
    """The domain error of a failed call to `peer` (a name for people, such as "encoder")."""
    from grpc_status import rpc_status

    status = rpc_status.from_call(error)  # type: ignore[arg-type]
    if status is not None:
        return from_status(status)
    code = error.code()  # type: ignore[attr-defined]
    message = f"{peer}: {error.details() or code.name.lower()}"  # type: ignore[attr-defined]
    if code is grpc.StatusCode.CANCELLED:
        return Unavailable(f"{peer}: the call was cut off")
    status = status_pb2.Status(code=code.value[0], message=message)
    return from_status(status)


def _shortened(message: str) -> str:
    content = message.encode(errors="replace")
    if len(content) <= _MAX_MESSAGE_BYTES:
        return message
    return content[: _MAX_MESSAGE_BYTES - 3].decode(errors="ignore") + "…"


def _packed(
    message: error_details_pb2.ErrorInfo
    | error_details_pb2.BadRequest
    | error_details_pb2.RetryInfo,
) -> any_pb2.Any:
    packed = any_pb2.Any()
    packed.Pack(message)
    return packed
