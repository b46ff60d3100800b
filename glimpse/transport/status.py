"""Errors as google.rpc.Status and back: the one place that maps them, for services and client.

Each error has one code. A status carries ErrorInfo (the reason), BadRequest where a field is wrong,
and RetryInfo where another try makes sense.
"""

from __future__ import annotations

import grpc
from google.protobuf import any_pb2, duration_pb2
from google.protobuf.message import Message
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_status import rpc_status

from glimpse import errors
from glimpse.errors import GlimpseError

DOMAIN = "glimpse"
REQUEST_ID = "x-request-id"
"""The metadata that carry a call's id in both directions."""

_CODES: dict[type[GlimpseError], int] = {
    errors.InvalidInput: code_pb2.INVALID_ARGUMENT,
    errors.NotFound: code_pb2.NOT_FOUND,
    errors.AlreadyExists: code_pb2.ALREADY_EXISTS,
    errors.FailedPrecondition: code_pb2.FAILED_PRECONDITION,
    errors.PermissionDenied: code_pb2.PERMISSION_DENIED,
    errors.Unauthenticated: code_pb2.UNAUTHENTICATED,
    errors.Overloaded: code_pb2.RESOURCE_EXHAUSTED,
    errors.Unavailable: code_pb2.UNAVAILABLE,
    errors.DeadlineExceeded: code_pb2.DEADLINE_EXCEEDED,
}
_TYPES = {
    **{code: kind for kind, code in _CODES.items()},
    code_pb2.OUT_OF_RANGE: errors.InvalidInput,
    # Nobody who reads this has cancelled the call: it was cut off.
    code_pb2.CANCELLED: errors.Unavailable,
}
_TYPES_BY_REASON: dict[str, type[GlimpseError]] = {
    errors.ModelMismatch.reason: errors.ModelMismatch,
    errors.InvalidImage.reason: errors.InvalidImage,
}
_UNRESOLVED = ("errors resolving", "DNS resolution failed")
_IMAGE_REASONS = "IMAGE_"  # begins every more precise reason of InvalidImage

# A status travels three times in a call's trailers, which gRPC refuses from 8 KiB on.
_MAX_MESSAGE_BYTES = 1_024


def code_of(kind: type[GlimpseError]) -> int:
    """The google.rpc.Code of an error's class, which is that of its nearest base that has one."""
    return next((_CODES[base] for base in kind.__mro__ if base in _CODES), code_pb2.INTERNAL)


def to_status(error: BaseException) -> status_pb2.Status:
    """The google.rpc.Status of an error; a foreign one becomes INTERNAL and tells nothing more."""
    if not isinstance(error, GlimpseError):
        error = GlimpseError("internal error; the service's log has details")
    message = _shortened(str(error))
    reason = error.reason or type(error).reason
    details: list[any_pb2.Any] = [
        _packed(error_details_pb2.ErrorInfo(reason=reason, domain=DOMAIN, metadata=error.metadata))
    ]
    if error.field:
        violation = error_details_pb2.BadRequest.FieldViolation(
            field=error.field, description=message, reason=reason
        )
        details.append(_packed(error_details_pb2.BadRequest(field_violations=[violation])))
    if error.retry_after_s is not None:
        delay = duration_pb2.Duration()
        delay.FromMilliseconds(round(error.retry_after_s * 1000))
        details.append(_packed(error_details_pb2.RetryInfo(retry_delay=delay)))
    kind = type(error)
    # An error of no class of ours keeps the code that it came with.
    code = (kind is GlimpseError and error.code) or code_of(kind)
    return status_pb2.Status(code=code, message=message, details=details)


def from_status(status: status_pb2.Status) -> GlimpseError:
    """The error that a status stands for; without ErrorInfo in it, its reason is ""."""
    reason, field, retry_after_s, metadata = "", "", None, {}
    info = error_details_pb2.ErrorInfo()
    bad_request = error_details_pb2.BadRequest()
    retry = error_details_pb2.RetryInfo()
    for detail in status.details:
        if detail.Unpack(info):
            reason, metadata = info.reason, dict(info.metadata)
        elif detail.Unpack(bad_request) and bad_request.field_violations:
            field = bad_request.field_violations[0].field
        elif detail.Unpack(retry):
            retry_after_s = retry.retry_delay.ToMilliseconds() / 1000
    error = _error(status.code, reason, field, status.message or _words(status.code))
    error.code, error.reason, error.field = status.code, reason, field
    error.retry_after_s, error.metadata = retry_after_s, metadata
    return error


def from_rpc_error(error: grpc.RpcError, peer: str) -> GlimpseError:
    """The error of a failed call to `peer`, such as "the query service at 127.0.0.1:50053".

    An error without a `reason` came from the way to the peer, not from the peer; so did one whose
    reason is NAME_UNRESOLVED.
    """
    status = rpc_status.from_call(error)  # type: ignore[arg-type]
    if status is not None:
        found = from_status(status)
        metadata: dict[str, str] = dict(error.trailing_metadata() or ())  # type: ignore
        found.request_id = metadata.get(REQUEST_ID, "")
        return found
    code: grpc.StatusCode = error.code()  # type: ignore[attr-defined]
    details: str = error.details() or ""  # type: ignore[attr-defined]
    if code is grpc.StatusCode.UNAVAILABLE and any(words in details for words in _UNRESOLVED):
        unresolved = errors.Unavailable(
            f"{peer} cannot be reached: its name cannot be resolved", reason="NAME_UNRESOLVED"
        )
        unresolved.code, unresolved.retry_after_s = code.value[0], None
        return unresolved
    if code is grpc.StatusCode.UNAVAILABLE:
        message = f"{peer} cannot be reached"
    elif code is grpc.StatusCode.DEADLINE_EXCEEDED:
        message = f"{peer} did not answer in time"
    elif code is grpc.StatusCode.CANCELLED:
        message = f"{peer}: the call was interrupted"
    elif code is grpc.StatusCode.UNIMPLEMENTED:
        message = f"{peer} does not implement this call; is it another service or version?"
    else:
        message = f"{peer}: {details or code.value[1]}"
    return from_status(status_pb2.Status(code=code.value[0], message=message))


def _error(code: int, reason: str, field: str, message: str) -> GlimpseError:
    kind = _TYPES_BY_REASON.get(reason) or _TYPES.get(code, GlimpseError)
    if kind is errors.InvalidInput and reason.startswith(_IMAGE_REASONS):
        kind = errors.InvalidImage
    if issubclass(kind, errors.InvalidInput):
        return kind(field, message.removeprefix(f"{field}: "))
    return kind(message)


def _words(code: int) -> str:
    return code_pb2.Code.Name(code).lower().replace("_", " ")  # type: ignore[arg-type]


def _shortened(message: str) -> str:
    content = message.encode(errors="replace")
    if len(content) <= _MAX_MESSAGE_BYTES:
        return message
    return content[: _MAX_MESSAGE_BYTES - 3].decode(errors="ignore") + "…"


def _packed(message: Message) -> any_pb2.Any:
    packed = any_pb2.Any()
    packed.Pack(message)
    return packed
