"""The tree of errors crosses the wire and comes back as itself."""

from __future__ import annotations

import pytest

from services.common import errors

SAMPLES = [
    errors.InvalidInput("options.limit", "must be from 1 to 1000, not 0"),
    errors.InvalidImage("the file is empty", field="images[3].file", reason="IMAGE_EMPTY"),
    errors.InvalidImage("the file is damaged"),
    errors.NotFound("there is no collection 'x'", reason="COLLECTION_NOT_FOUND"),
    errors.AlreadyExists("the collection 'x' is there already"),
    errors.FailedPrecondition("not now"),
    errors.Overloaded("the queue is full", retry_after_ms=250),
    errors.Unavailable("the encoder is away", reason="LOADING"),
    errors.DeadlineExceeded("too late"),
]


@pytest.mark.parametrize("error", SAMPLES, ids=lambda error: type(error).__name__)
def test_error_comes_back_as_it_was(error):
    returned = errors.from_status(errors.to_status(error))
    assert type(returned) is type(error)
    assert str(returned) == str(error)
    for name in ("code", "reason", "field", "retry_after_ms", "metadata"):
        assert getattr(returned, name) == getattr(error, name)


def test_foreign_error_tells_nothing_of_itself():
    status = errors.to_status(ZeroDivisionError("a secret"))
    assert status.code == errors.GlimpseError.code
    assert "secret" not in str(status)
