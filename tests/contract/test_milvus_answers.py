"""What the store makes of answers that Milvus 2.4 to 2.6 give and no server at hand does: by their
codes, whatever their words. docs/decisions/0040 says where Milvus' sources have them."""

from __future__ import annotations

import grpc
import pytest
from pymilvus.client.prepare import Prepare
from pymilvus.grpc_gen import common_pb2, milvus_pb2, schema_pb2

from glimpse.errors import (
    DeadlineExceeded,
    FailedPrecondition,
    InvalidInput,
    NotFound,
    Overloaded,
    Unavailable,
)
from services.common.deadline import Deadline
from services.vectors.filters import Comparison
from services.vectors.milvus import errors, schema
from services.vectors.milvus.store import MilvusStore
from services.vectors.records import NOT_LOADED
from tests.contract.conftest import axis, picture, spec
from tests.scripted_milvus import ScriptedMilvus, status

T = 10.0
VERSION = "v2.6.15"
SPEC = spec("c")
MARKS = schema.Marks(SPEC.model_name, SPEC.model_fingerprint, "AUTO", "IP", created_at_ms=5)
WIDE = Comparison("width", ">", 640)


def described() -> milvus_pb2.DescribeCollectionResponse:
    fields = Prepare.get_schema_from_collection_schema("c", schema.schema_of(SPEC, MARKS))
    marks = common_pb2.KeyValuePair(key=schema.MARKS, value=MARKS.to_json())
    return milvus_pb2.DescribeCollectionResponse(schema=fields, properties=[marks])


def counted(number: int) -> milvus_pb2.QueryResults:
    numbers = schema_pb2.ScalarField(long_data=schema_pb2.LongArray(data=[number]))
    column = schema_pb2.FieldData(
        field_name="count(*)", type=schema_pb2.DataType.Int64, scalars=numbers
    )
    return milvus_pb2.QueryResults(fields_data=[column])


def identities(*ids: str) -> milvus_pb2.QueryResults:
    texts = schema_pb2.ScalarField(string_data=schema_pb2.StringArray(data=ids))
    column = schema_pb2.FieldData(field_name="id", type=schema_pb2.DataType.VarChar, scalars=texts)
    return milvus_pb2.QueryResults(fields_data=[column])


def index(
    state: int = common_pb2.Finished, rows: int = 0, found: int = 0, pending: int = 0
) -> milvus_pb2.DescribeIndexResponse:
    description = milvus_pb2.IndexDescription(
        index_name=schema.INDEX_NAME,
        field_name="vector",
        state=state,
        total_rows=rows,
        indexed_rows=found,
        pending_index_rows=pending,
    )
    description.params.add(key="index_type", value="HNSW")
    return milvus_pb2.DescribeIndexResponse(index_descriptions=[description])


@pytest.fixture
def milvus():
    milvus = ScriptedMilvus(VERSION)
    milvus.script("DescribeCollection", described())
    milvus.script("DescribeIndex", index())
    milvus.script("GetLoadingProgress", milvus_pb2.GetLoadingProgressResponse(progress=100))
    milvus.script("Query", counted(7))
    return milvus


@pytest.fixture
async def store(milvus):
    with milvus.serve() as uri:
        store = MilvusStore(uri, "root:a password")
        yield store
        await store.close()


def count(store, **options):
    return store.count("c", deadline=Deadline(T), **options)


@pytest.mark.parametrize(
    ("answer", "error", "reason"),
    [
        (status(1, old_code=56), Unavailable, "MILVUS_FAILED"),  # it starts
        (status(2), Unavailable, "UNAVAILABLE"),
        (status(3, old_code=52), Overloaded, "OVERLOADED"),  # memory
        (status(4), Overloaded, "OVERLOADED"),  # its queue
        (status(5), Unavailable, "MILVUS_FAILED"),
        (status(7, old_code=54), Overloaded, "OVERLOADED"),  # disk
        (status(9, old_code=48), Overloaded, "OVERLOADED"),  # quota
        (status(11, old_code=55), Overloaded, "OVERLOADED"),  # time ticks come late
        (status(12), Overloaded, "OVERLOADED"),  # resources
        (status(100, old_code=4), NotFound, "COLLECTION_NOT_FOUND"),
        (status(106), Unavailable, "COLLECTION_NOT_LOADED"),  # it recovers, and goes on to
        (status(503, old_code=16), Unavailable, "MILVUS_FAILED"),
        (status(700, old_code=25), FailedPrecondition, "INDEX_MISSING"),
        (status(1100, old_code=5, is_input=True), Unavailable, "MILVUS_FAILED"),  # no filter
        (status(1400), FailedPrecondition, "MILVUS_ACCESS_DENIED"),
        (status(1401), FailedPrecondition, "MILVUS_ACCESS_DENIED"),
        (status(10_000), DeadlineExceeded, "DEADLINE_EXCEEDED"),
        (status(10_001), DeadlineExceeded, "DEADLINE_EXCEEDED"),
        (status(65_535), Unavailable, "MILVUS_FAILED"),
        (grpc.StatusCode.UNAUTHENTICATED, FailedPrecondition, "MILVUS_ACCESS_DENIED"),
        (grpc.StatusCode.PERMISSION_DENIED, FailedPrecondition, "MILVUS_ACCESS_DENIED"),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, Overloaded, "OVERLOADED"),
    ],
)
async def test_an_answer_is_known_by_its_code(milvus, store, answer, error, reason):
    milvus.script("Query", answer)
    with pytest.raises(error) as raised:
        await count(store)
    assert raised.value.reason == reason


async def test_a_rate_limit_is_waited_for_and_then_passed_on(milvus, store):
    milvus.script("Query", status(8, old_code=49), counted(7))
    assert await count(store) == 7
    milvus.script("Query", status(8, old_code=49))
    with pytest.raises((Overloaded, DeadlineExceeded)):
        await store.count("c", deadline=Deadline(0.1))


@pytest.mark.parametrize("code", [101, 103, 106])
async def test_a_collection_out_of_memory_is_loaded_and_asked_again(milvus, store, code):
    milvus.script("Query", status(code), counted(7))
    assert await count(store, filter=WIDE) == 7
    assert milvus.requests.count("LoadCollection") == 1


async def test_one_without_its_index_gets_it_before_it_is_loaded(milvus, store):
    milvus.script("Query", status(101), counted(7))
    milvus.script("LoadCollection", status(700, old_code=25), common_pb2.Status())
    assert await count(store) == 7
    changes = [name for name in milvus.requests if name in ("LoadCollection", "CreateIndex")]
    assert changes == ["LoadCollection", "CreateIndex", "LoadCollection"]


async def test_a_released_collection_is_described_with_what_is_known(milvus, store):
    milvus.script("Query", status(101))
    rows = common_pb2.KeyValuePair(key="row_count", value="3")
    statistics = milvus_pb2.GetCollectionStatisticsResponse(stats=[rows])
    milvus.script("GetCollectionStatistics", statistics)
    info = await store.describe_collection("c", deadline=Deadline(T), load=False)
    assert (info.index_state, info.rows, info.index_kind) == (NOT_LOADED, 3, "HNSW")
    assert "LoadCollection" not in milvus.requests


@pytest.mark.parametrize(
    ("answer", "state"),
    [
        (index(), "Finished"),
        (index(rows=100, pending=100), "InProgress"),
        (index(rows=100, found=60, pending=40), "InProgress"),
        # After a merge: every row is found through the index of the segments of before.
        (index(rows=100, found=100, pending=100), "Rebuilding"),
        (index(common_pb2.InProgress, rows=100, found=100, pending=100), "Rebuilding"),
        (index(common_pb2.Failed, rows=100), "Failed"),
        (index(common_pb2.InProgress), "InProgress"),
        (status(700, old_code=25), "None"),
    ],
)
async def test_the_state_of_an_index_is_that_of_all_its_rows(milvus, store, answer, state):
    milvus.script("DescribeIndex", answer)
    info = await store.describe_collection("c", deadline=Deadline(T))
    assert info.index_state == state


async def test_rows_of_a_collection_are_indexed_pending_or_not_even_closed(milvus, store):
    milvus.script("Query", counted(1_200))
    milvus.script("DescribeIndex", index(rows=1_000, found=600, pending=400))
    info = await store.describe_collection("c", deadline=Deadline(T))
    assert (info.rows, info.indexed_rows, info.pending_rows) == (1_200, 600, 400)
    milvus.script("DescribeIndex", index(rows=1_500, found=1_500))  # 300 were deleted
    info = await store.describe_collection("c", deadline=Deadline(T))
    assert (info.rows, info.indexed_rows, info.pending_rows) == (1_200, 1_200, 0)


async def test_settling_does_not_wait_for_merged_segments_to_be_built_anew(milvus, store):
    milvus.script("GetFlushState", milvus_pb2.GetFlushStateResponse(flushed=True))
    building = index(rows=100, found=60, pending=40)
    milvus.script("DescribeIndex", building, index(rows=100, found=100, pending=100))
    await store.settle("c", deadline=Deadline(T))
    assert milvus.requests.count("DescribeIndex") == 2


async def test_an_illegal_argument_of_a_request_with_a_filter_is_the_filters(milvus, store):
    milvus.script("Query", status(1100, "there is no field of that name", 5, is_input=True))
    with pytest.raises(InvalidInput, match="no field of that name") as raised:
        await count(store, filter=WIDE)
    assert raised.value.reason == "INVALID_FILTER"


async def test_what_fails_with_the_filter_alone_is_the_filters(milvus, store):
    milvus.script("Query", status(2_031, "it cannot be evaluated"), counted(7))
    with pytest.raises(InvalidInput, match="it cannot be evaluated"):
        await count(store, filter=WIDE)


async def test_what_fails_without_the_filter_too_is_not_the_filters(milvus, store):
    milvus.script("Query", status(5))
    with pytest.raises(errors.MilvusFailed):
        await count(store, filter=WIDE)


async def test_a_refused_deletion_is_not_taken_for_done(milvus, store):
    milvus.script("Delete", status(9, old_code=48))
    with pytest.raises(Overloaded):
        await store.delete_where("c", WIDE, deadline=Deadline(T))


async def test_ids_are_deleted_though_the_read_before_has_not_found_them(milvus, store):
    milvus.script("Query", identities())
    assert await store.delete_ids("c", ["a"], deadline=Deadline(T)) == 0
    assert milvus.requests.count("Delete") == 1
    milvus.script("Delete", status(5))
    with pytest.raises(errors.MilvusFailed):
        await store.delete_ids("c", ["a"], deadline=Deadline(T))


async def test_a_write_that_milvus_took_in_part_is_not_taken_for_done(milvus, store):
    milvus.script("Upsert", milvus_pb2.MutationResult(upsert_cnt=1))
    with pytest.raises(Unavailable, match="1 of 2 rows"):
        await store.upsert("c", [picture("a"), picture("b", axis(1))], deadline=Deadline(T))


async def test_a_newer_server_is_offered_the_kinds_that_it_has(milvus, store):
    milvus.script("DescribeCollection", status(100, old_code=4))
    with pytest.raises(InvalidInput) as raised:
        await store.create_collection(spec("c", index_kind="HNSW_PQ"), deadline=Deadline(T))
    assert "DISKANN, HNSW_SQ" in str(raised.value)
    for kind in ("HNSW_SQ", "DISKANN"):
        await store.create_collection(spec("c", index_kind=kind), deadline=Deadline(T))
    assert milvus.requests.count("CreateCollection") == 2


async def test_a_refused_token_is_said_at_the_first_call(milvus, store):
    milvus.script("Connect", grpc.StatusCode.UNAUTHENTICATED)
    with pytest.raises(FailedPrecondition) as raised:
        await count(store)
    assert raised.value.reason == "MILVUS_ACCESS_DENIED"
