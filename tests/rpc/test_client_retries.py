"""What the clients try again when a service refuses for now, and what they do not."""

from __future__ import annotations

import pytest
from google.protobuf import duration_pb2
from google.rpc import code_pb2, error_details_pb2
from grpc_status import rpc_status

from glimpse import errors
from glimpse.query.v1 import query_pb2
from tests.scripted import NOBODY, Query, reason, serve, status

MEGABYTE = bytes(2**20)
TRIES = 5


class Refusing(Query):
    """Refuses the first calls, as an overloaded service does, and answers the others."""

    def __init__(self, refusals: int, pushback_ms: int = 1) -> None:
        super().__init__(query_pb2.SearchResponse())
        self.refusals, self.pushback_ms = refusals, pushback_ms

    def Search(self, request, context):
        self.requests.append(request)
        if len(self.requests) <= self.refusals:
            delay = duration_pb2.Duration(nanos=1_000_000)
            info = error_details_pb2.RetryInfo(retry_delay=delay)
            full = status(code_pb2.RESOURCE_EXHAUSTED, "full", reason("OVERLOADED"), info)
            ending = rpc_status.to_status(full)
            pushback = ("grpc-retry-pushback-ms", str(self.pushback_ms))
            context.set_trailing_metadata((*ending.trailing_metadata, pushback))
            context.abort(ending.code, ending.details)
        return self.answer


@pytest.mark.parametrize("image", [b"small", MEGABYTE], ids=["small", "megabyte"])
def test_a_call_that_is_refused_for_now_is_made_again(connect, image):
    query = Refusing(TRIES - 1)
    with serve(query=query) as target, connect(target, NOBODY) as client:
        assert client.search("c", image=image).hits == []
    assert [request.image for request in query.requests] == [image] * TRIES


def test_a_service_that_goes_on_refusing_is_given_up(connect):
    query = Refusing(1_000_000)
    with (
        serve(query=query) as target,
        connect(target, NOBODY) as client,
        pytest.raises(errors.Overloaded) as caught,
    ):
        client.search("c", "a dog")
    assert (caught.value.reason, caught.value.retry_after_s) == ("OVERLOADED", 0.001)
    assert len(query.requests) == TRIES


def test_a_call_that_is_refused_for_good_is_made_once(connect):
    query = Refusing(1, pushback_ms=-1)
    with (
        serve(query=query) as target,
        connect(target, NOBODY) as client,
        pytest.raises(errors.Overloaded),
    ):
        client.search("c", "a dog")
    assert len(query.requests) == 1


def test_a_message_that_is_too_large_is_given_up(connect):
    query = Refusing(0)
    with (
        serve(query=query) as target,
        connect(target, NOBODY) as client,
        pytest.raises(errors.Overloaded, match="larger than max"),
    ):
        client.search("c", image=MEGABYTE * 5)
    assert query.requests == []


def test_a_service_that_is_overloaded_for_long_gets_each_call_once(connect):
    query = Refusing(1_000_000)
    with serve(query=query) as target, connect(target, NOBODY) as client:
        for _ in range(200):
            before = len(query.requests)
            with pytest.raises(errors.Overloaded):
                client.search("c", "a dog")
    assert len(query.requests) == before + 1
    assert len(query.requests) < 200 * TRIES
