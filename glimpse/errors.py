"""What a caller of glimpse's client may have to catch; the services' own errors are not its job.

    GlimpseError               anything the services or the way to them reports
    ├── InvalidInput           a field of the call breaks its bound (`field` names it)
    ├── NotFound               a collection or an image that is not there
    ├── AlreadyExists          a collection of that name stands already
    ├── FailedPrecondition     right call, wrong state, such as a collection of another model
    ├── PermissionDenied       the caller is not known, or not allowed to do this
    ├── Overloaded             the service has enough to do; try again after `retry_after_s`
    ├── Unavailable            a service, or one that it needs, is out of reach; try again later
    ├── DeadlineExceeded       the time that the call was given is over
    ├── UnreadableFile         a picture that could not be read here, before anything was sent
    └── UnusableCredentials    a certificate, key or token that cannot be used, found here as well

`reason` is a constant in UPPER_SNAKE_CASE to switch on; `str(error)` is one sentence for people;
`request_id` finds the call in the services' logs.
"""

from __future__ import annotations

import grpc
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_status import rpc_status

DOMAIN = "glimpse"


class GlimpseError(Exception):
    """The root. `code` is the gRPC status's number, `field` the path of a wrong field or ""."""

    def __init__(
        self,
        message: str,
        *,
        code: int = code_pb2.UNKNOWN,
        reason: str = "",
        field: str = "",
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.field = field
        self.retry_after_s = retry_after_s
        self.request_id = ""


class InvalidInput(GlimpseError):
    """A field of the call breaks its bound."""


class NotFound(GlimpseError):
    """What the call names does not exist."""


class AlreadyExists(GlimpseError):
    """What the call would create exists."""


class FailedPrecondition(GlimpseError):
    """The call is right, the state of the system is not."""


class PermissionDenied(GlimpseError):
    """The caller is not known, or not allowed to do this."""


class Overloaded(GlimpseError):
    """The service has enough to do."""


class Unavailable(GlimpseError):
    """A service is out of reach."""


class DeadlineExceeded(GlimpseError):
    """The time that the call was given is over."""


class UnreadableFile(GlimpseError):
    """A picture that could not be read on the caller's side."""


class UnusableCredentials(GlimpseError):
    """A certificate, key or token that cannot be used, found before anything was sent."""


_TYPES: dict[int, type[GlimpseError]] = {
    code_pb2.INVALID_ARGUMENT: InvalidInput,
    code_pb2.OUT_OF_RANGE: InvalidInput,
    code_pb2.NOT_FOUND: NotFound,
    code_pb2.ALREADY_EXISTS: AlreadyExists,
    code_pb2.FAILED_PRECONDITION: FailedPrecondition,
    code_pb2.PERMISSION_DENIED: PermissionDenied,
    code_pb2.UNAUTHENTICATED: PermissionDenied,
    code_pb2.RESOURCE_EXHAUSTED: Overloaded,
    code_pb2.UNAVAILABLE: Unavailable,
    code_pb2.DEADLINE_EXCEEDED: DeadlineExceeded,
}


def from_status(status: status_pb2.Status) -> GlimpseError:
    """The error that a status with google.rpc details stands for."""
    reason, field, retry_after_s = "", "", None
    for detail in status.details:
        info = error_details_pb2.ErrorInfo()
        bad_request = error_details_pb2.BadRequest()
        retry = error_details_pb2.RetryInfo()
        if detail.Unpack(info):
            reason = info.reason
        elif detail.Unpack(bad_request) and bad_request.field_violations:
            field = bad_request.field_violations[0].field
        elif detail.Unpack(retry):
            retry_after_s = retry.retry_delay.ToMilliseconds() / 1000
    kind = _TYPES.get(status.code, GlimpseError)
    message = status.message or code_pb2.Code.Name(status.code).lower().replace("_", " ")
    return kind(message, code=status.code, reason=reason, field=field, retry_after_s=retry_after_s)


def from_rpc_error(error: grpc.RpcError, peer: str) -> GlimpseError:
    """The error of a failed call to `peer`, such as "the query service at 127.0.0.1:50053".

    An error without a `reason` came from the way to the service, not from the service.
    """
    status = rpc_status.from_call(error)  # type: ignore[arg-type]
    if status is not None:
        found = from_status(status)
        metadata: dict[str, str] = dict(error.trailing_metadata() or ())  # type: ignore
        found.request_id = metadata.get("x-request-id", "")
        return found
    code: grpc.StatusCode = error.code()  # type: ignore[attr-defined]
    if code is grpc.StatusCode.UNAVAILABLE:
        message = f"{peer} cannot be reached"
    elif code is grpc.StatusCode.DEADLINE_EXCEEDED:
        message = f"{peer} did not answer in time"
    elif code is grpc.StatusCode.UNIMPLEMENTED:
        message = f"{peer} does not know this call; is it another service, or another version?"
    else:
        details: str = error.details() or ""  # type: ignore[attr-defined]
        message = f"{peer}: {details or code.value[1]}"
    return from_status(status_pb2.Status(code=code.value[0], message=message))
