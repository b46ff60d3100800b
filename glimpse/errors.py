"""What can go wrong, in the client and in the services; transport.status maps it to gRPC.

    GlimpseError               anything that is reported on purpose, or came as a status
    ├── InvalidInput           a field of the call breaks its bound (`field` names it)
    │   └── InvalidImage       bytes that are no picture that can be taken
    ├── NotFound               a collection or an image that is not there
    ├── AlreadyExists          a collection of that name already exists
    ├── FailedPrecondition     right call, wrong state
    │   └── ModelMismatch      a collection of another model than the encoder's
    ├── PermissionDenied       the caller is not allowed to do this
    │   └── Unauthenticated    the caller is not known
    ├── Overloaded             a bounded queue is full; try again after `retry_after_s`
    ├── Unavailable            a service, or one that it needs, is out of reach; try again later
    ├── DeadlineExceeded       the time that the call was given is over, or too short
    ├── UnreadableFile         a picture that could not be read by the client
    └── UnusableCredentials    a certificate, key or token that cannot be used

`reason` is a constant in UPPER_SNAKE_CASE to switch on; `str(error)` is one sentence for people.
"""

from __future__ import annotations

from typing import TypeVar

AnyError = TypeVar("AnyError", bound=BaseException)


class GlimpseError(Exception):
    """The root.

    Attributes:
        reason: a constant to switch on; "" for an error of the connection, which no service sent
            and whose cause cannot be seen from here.
        field: the path of the wrong field in the request, or "".
        retry_after_s: seconds after which another try makes sense; None: not known.
        metadata: further facts for programs.
        code: the number of the google.rpc.Code that it came with; 0: it was found here.
        request_id: what finds the call in the services' logs, or "".
    """

    reason: str = "INTERNAL"
    retry_after_s: float | None = None

    def __init__(
        self,
        message: str,
        *,
        reason: str | None = None,
        field: str = "",
        retry_after_s: float | None = None,
        metadata: dict[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.reason = reason or type(self).reason
        self.field = field
        self.retry_after_s = type(self).retry_after_s if retry_after_s is None else retry_after_s
        self.metadata = dict(metadata or {})
        self.code = 0
        self.request_id = ""


class InvalidInput(GlimpseError):
    """A field of the call breaks its bound; `problem` is the message without the field's path."""

    reason = "INVALID_INPUT"

    def __init__(self, field: str, problem: str, *, reason: str | None = None) -> None:
        super().__init__(f"{field}: {problem}" if field else problem, reason=reason, field=field)
        self.problem = problem

    def at(self, field: str) -> InvalidInput:
        """The same error of another field, such as that of the request it was found in."""
        return type(self)(field, self.problem, reason=self.reason)


class InvalidImage(InvalidInput):
    """The bytes are no picture that can be taken: unreadable, cut short, or too large."""

    reason = "INVALID_IMAGE"


class NotFound(GlimpseError):
    """What the call names does not exist."""

    reason = "NOT_FOUND"


class AlreadyExists(GlimpseError):
    """What the call would create already exists."""

    reason = "ALREADY_EXISTS"


class FailedPrecondition(GlimpseError):
    """The call is right, the state of the system is not."""

    reason = "FAILED_PRECONDITION"


class ModelMismatch(FailedPrecondition):
    """The collection was filled by another model than the one that the encoder runs."""

    reason = "MODEL_MISMATCH"


class PermissionDenied(GlimpseError):
    """The caller is known, and not allowed to do this."""

    reason = "SCOPE_MISSING"


class Unauthenticated(PermissionDenied):
    """The call carries no token, or none that is known; the message never holds the token."""

    reason = "UNAUTHENTICATED"


class Overloaded(GlimpseError):
    """A bounded queue is full."""

    reason = "OVERLOADED"
    retry_after_s = 0.1


class Unavailable(GlimpseError):
    """A service, or a peer that it needs (encoder, Milvus), cannot be reached or is not ready."""

    reason = "UNAVAILABLE"
    retry_after_s = 0.5


class DeadlineExceeded(GlimpseError):
    """The call's deadline has passed, or is too short for the work."""

    reason = "DEADLINE_EXCEEDED"


class UnreadableFile(GlimpseError):
    """A picture that could not be read on the caller's side, before anything was sent."""

    reason = "FILE_UNREADABLE"


class UnusableCredentials(GlimpseError):
    """A certificate, key or token that cannot be used, found before anything was sent."""

    reason = "CREDENTIALS_UNUSABLE"


def as_value(error: AnyError) -> AnyError:
    """The error, to be kept as what became of something. Changes it: where it was raised is
    forgotten, unless nobody foresaw it.

    The calls that it came through hold messages and images, and it would hold these calls, mostly
    in a circle with itself that only the garbage collector ends.
    """
    if isinstance(error, GlimpseError):
        error.__traceback__ = error.__context__ = error.__cause__ = None
    return error
