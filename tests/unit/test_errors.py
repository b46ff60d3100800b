"""The tree of errors crosses the wire and comes back as itself."""

from __future__ import annotations

import gc
import weakref

import pytest
from google.rpc import code_pb2, status_pb2

from glimpse import errors
from glimpse.transport.status import from_status, to_status

SAMPLES = [
    errors.InvalidInput("options.limit", "must be from 1 to 1000, not 0"),
    errors.InvalidImage("images[3].file", "the file is empty", reason="IMAGE_EMPTY"),
    errors.InvalidImage("image", "the file is damaged"),
    errors.NotFound("there is no collection 'x'", reason="COLLECTION_NOT_FOUND"),
    errors.AlreadyExists("the collection 'x' is there already"),
    errors.FailedPrecondition("not now"),
    errors.ModelMismatch("filled by another model", metadata={"encoder_model": "demo"}),
    errors.PermissionDenied("the token lacks a scope"),
    errors.Unauthenticated("the token is not known"),
    errors.Overloaded("the queue is full", retry_after_s=0.25),
    errors.Unavailable("the encoder is away", reason="LOADING"),
    errors.DeadlineExceeded("too late"),
]


@pytest.mark.parametrize("error", SAMPLES, ids=lambda error: type(error).__name__)
def test_error_comes_back_as_it_was(error):
    returned = from_status(to_status(error))
    assert type(returned) is type(error)
    assert str(returned) == str(error)
    assert returned.code == to_status(error).code
    for name in ("reason", "field", "retry_after_s", "metadata"):
        assert getattr(returned, name) == getattr(error, name)


def test_foreign_error_tells_nothing_of_itself():
    status = to_status(ZeroDivisionError("a secret"))
    assert status.code == code_pb2.INTERNAL
    assert "secret" not in str(status)


def test_status_of_a_connection_has_no_reason_and_one_of_no_class_of_ours_keeps_its_code():
    error = from_status(status_pb2.Status(code=code_pb2.UNIMPLEMENTED, message="no such call"))
    assert (type(error), error.reason, error.code) == (
        errors.GlimpseError,
        "",
        code_pb2.UNIMPLEMENTED,
    )
    assert to_status(error).code == code_pb2.UNIMPLEMENTED
    unreachable = from_status(status_pb2.Status(code=code_pb2.UNAVAILABLE, message="gone"))
    assert isinstance(unreachable, errors.Unavailable)
    assert (unreachable.reason, unreachable.retry_after_s) == ("", None)


class Message:
    """What a caller has sent; it can be seen whether it is still there."""


def refused(message: Message) -> errors.GlimpseError:
    """What is wrong with it, as it is kept for one image of many."""
    try:
        raise errors.InvalidInput("image", f"{message} is refused")
    except errors.InvalidInput as error:
        problem = errors.as_value(error)
    return problem


def test_an_error_that_is_kept_as_a_value_lets_go_of_what_was_there_when_it_was_raised():
    message = Message()
    held = weakref.ref(message)
    gc.disable()
    try:
        problem = refused(message)
        del message
        assert held() is None
    finally:
        gc.enable()
    assert problem.field == "image"
