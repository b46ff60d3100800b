"""Whatever is thrown at Query, no store makes it answer INTERNAL or UNKNOWN."""

from __future__ import annotations

import pytest
from hypothesis import given, settings

from glimpse.query.v1 import query_pb2 as pb
from tests.query_requests import (
    PROPERTY,
    Service,
    assert_named,
    conditions,
    expressions,
    requests,
)
from tests.query_service import COLLECTION

FEW = settings(PROPERTY, max_examples=40)


@pytest.fixture(scope="module")
def service(backend):
    running = Service(backend.uri)
    yield running
    running.close()


@FEW
@given(requests())
def test_any_search_request_gets_hits_or_a_named_status(service, message):
    assert_named(service.code("Search", message))


@FEW
@given(expressions)
def test_any_filter_gets_hits_or_a_named_status(service, expression):
    options = pb.SearchOptions(filter=expression)
    request = pb.SearchRequest(collection=COLLECTION, text="dog", options=options)
    assert_named(service.code("Search", request))


@FEW
@given(conditions)
def test_any_condition_gets_hits_or_a_named_status(service, condition):
    options = pb.SearchOptions(condition=condition)
    request = pb.SearchRequest(collection=COLLECTION, text="dog", options=options)
    assert_named(service.code("Search", request))
