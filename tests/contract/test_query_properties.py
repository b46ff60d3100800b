"""Whatever is thrown at Query, on any store, the answer is hits or a status that names what is
wrong: never INTERNAL or UNKNOWN."""

from __future__ import annotations

import math

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from glimpse.query.v1 import query_pb2 as pb
from tests.contract.conftest import ON_MILVUS
from tests.query_requests import (
    PROPERTY,
    Service,
    assert_named,
    conditions,
    expressions,
    fields,
    identity,
    options,
    queries,
    requests,
)
from tests.query_service import COLLECTION, DIMENSION


@pytest.fixture(scope="module")
def service(backend):
    running = Service(backend.open)
    yield running
    running.close()


@PROPERTY
@given(requests())
@example(pb.SearchRequest(collection=COLLECTION, vector=pb.Vector(values=[math.nan] * DIMENSION)))
@example(pb.SearchRequest(collection=COLLECTION, vector=pb.Vector(values=[3e38] * DIMENSION)))
@example(pb.SearchRequest(collection=COLLECTION, vector=pb.Vector(values=[1e-45] * DIMENSION)))
def test_any_search_request_gets_hits_or_a_named_status(service, message):
    assert_named(service.code("Search", message))


@ON_MILVUS
@PROPERTY
@given(expressions)
@example("(" * 16_000)
@example("not " * 4_000 + "true")
@example("!" * 16_000 + "(width > 1)")
@example('width == 1 or uri == "\\')
@example("width in [" + "1," * 5_000 + "1]")
@example("duplicate collection")
def test_any_filter_gets_hits_or_a_named_status(service, expression):
    options_ = pb.SearchOptions(filter=expression)
    request = pb.SearchRequest(collection=COLLECTION, text="dog", options=options_)
    assert_named(service.code("Search", request))


@PROPERTY
@given(conditions)
def test_any_condition_gets_hits_or_a_named_status(service, condition):
    options_ = pb.SearchOptions(condition=condition)
    request = pb.SearchRequest(collection=COLLECTION, text="dog", options=options_)
    assert_named(service.code("Search", request))


@PROPERTY
@given(st.lists(queries(pb.BatchQuery), max_size=5), options())
def test_any_batch_gets_results_or_a_named_status(service, batch, options_):
    request = pb.BatchSearchRequest(collection=COLLECTION, queries=batch, options=options_)
    assert_named(service.code("BatchSearch", request))


@PROPERTY
@given(st.lists(identity, max_size=4), st.lists(fields, max_size=2))
def test_any_ids_get_images_or_a_named_status(service, ids, output_fields):
    request = pb.GetImagesRequest(collection=COLLECTION, ids=ids, output_fields=output_fields)
    assert_named(service.code("GetImages", request))
