"""The Python clients against real servers that answer and fail as they are told."""

from __future__ import annotations

import asyncio
import inspect
import threading

import pytest
from google.protobuf import duration_pb2
from google.rpc import code_pb2, error_details_pb2

from glimpse import AsyncClient, Client, Term, errors
from glimpse.indexer.v1 import indexer_pb2
from glimpse.query.v1 import query_pb2, query_pb2_grpc
from tests.scripted import NOBODY, Indexer, Query, reason, serve, status


def test_any_number_of_ids_is_deleted_in_calls_of_a_thousand(connect):
    indexer = Indexer()
    with serve(indexer=indexer) as target, connect(NOBODY, target) as client:
        assert client.delete("c", ids=[str(n) for n in range(2_500)]) == 2_500
    assert [len(ids) for ids in indexer.deleted] == [1_000, 1_000, 500]


def test_any_number_of_ids_is_listed_in_their_order_and_behind_one(connect):
    asked = []

    class Lists(Indexer):
        """Pages of 600."""

        def ListImages(self, request, context):
            behind = [each for each in request.ids.ids if each > request.after_id]
            asked.append((len(request.ids.ids), request.after_id))
            images = [indexer_pb2.ListedImage(id=each) for each in behind[:600]]
            next_id = behind[599] if len(behind) > 600 else ""
            return indexer_pb2.ListImagesResponse(images=images, next_after_id=next_id)

    ids = [f"{number:04}" for number in range(1_501)]
    with serve(indexer=Lists()) as target, connect(NOBODY, target) as client:
        listed = client.list_images("c", ids=[*ids[::-1], *ids], after_id="0000")
        assert [image.id for image in listed] == ids[1:]
        assert list(client.list_images("c", ids=[])) == []
    assert asked == [(1_000, "0000"), (1_000, "0600"), (500, "0000")]


def test_a_search_comes_back_as_plain_values(connect):
    answer = query_pb2.SearchResponse(
        hits=[query_pb2.Hit(id="a", score=0.5, attributes={"uri": "/a.jpg", "width": 640})],
        next_page_token="more",
        model=query_pb2.Model(name="demo", fingerprint="f"),
        timing=query_pb2.Timing(queue_us=1, encode_us=2, search_us=3, total_us=7),
        text_truncated=True,
    )
    metadata = {"year": 1999, "share": 0.5, "tags": ["x", None], "deep": {"yes": True}}
    answer.hits[0].attributes.metadata.update(metadata)
    with serve(query=Query(answer)) as target, connect(target, NOBODY) as client:
        result = client.search("c", "a dog")
    (hit,) = result.hits
    assert (hit.id, hit.score, hit.uri, hit.width) == ("a", 0.5, "/a.jpg", 640)
    assert hit.metadata == metadata
    assert type(hit.metadata["year"]) is int
    assert (result.next_page_token, result.text_truncated) == ("more", True)
    assert (result.model.name, result.timing.total_us) == ("demo", 7)


def test_a_search_sends_what_it_was_told(connect, tmp_path):
    picture = tmp_path / "p.jpg"
    picture.write_bytes(b"picture")
    query = Query(query_pb2.SearchResponse())
    with serve(query=query) as target, connect(target, NOBODY) as client:
        client.search("c", "a dog", limit=3, offset=2, filter="width > 1", min_score=0.25)
        client.search("c", image=picture, strong=True, include_query_images=True)
        client.search("c", vector=[1, 0.5], output_fields=["vector"], page_token="t")
        client.search("c", terms=[Term(text="a dog"), Term(image_id="i", weight=-0.5)])
    text, image, vector, terms = query.requests
    options = query_pb2.SearchOptions(limit=3, offset=2, filter="width > 1", min_score=0.25)
    assert text == query_pb2.SearchRequest(collection="c", text="a dog", options=options)
    assert image.image == b"picture"
    assert image.options.consistency == query_pb2.CONSISTENCY_STRONG
    assert image.options.include_query_images
    assert list(vector.vector.values) == [1, 0.5]
    assert (list(vector.options.output_fields), vector.page_token) == (["vector"], "t")
    assert terms.weighted_sum.terms[1] == query_pb2.Term(image_id="i", weight=-0.5)


def test_a_batch_is_one_call_and_each_query_has_its_own_answer(connect):
    refusal = status(code_pb2.INVALID_ARGUMENT, "queries[1].text: is wrong", reason("TEXT_EMPTY"))
    hits = query_pb2.Hits(hits=[query_pb2.Hit(id="a", score=0.5)])
    response = query_pb2.BatchSearchResponse(
        results=[
            query_pb2.BatchResult(hits=hits, text_truncated=True),
            query_pb2.BatchResult(error=refusal),
        ],
        model=query_pb2.Model(name="demo", fingerprint="f"),
        timing=query_pb2.Timing(total_us=7),
    )
    query = Query(response)
    away = Term(image_id="i", weight=-1)
    with serve(query=query) as target, connect(target, NOBODY) as client:
        result = client.batch_search(
            "c", ["a dog", Term(vector=[1.0]), [Term(text="a cat"), away]], limit=2, strong=True
        )
    (request,) = query.requests
    assert [q.WhichOneof("query") for q in request.queries] == ["text", "vector", "weighted_sum"]
    assert request.queries[2].weighted_sum.terms[1] == query_pb2.Term(image_id="i", weight=-1)
    assert (request.options.limit, request.options.consistency) == (2, query_pb2.CONSISTENCY_STRONG)
    found, refused = result.answers
    assert ([hit.id for hit in found.hits], found.text_truncated, found.error) == (
        ["a"],
        True,
        None,
    )
    assert isinstance(refused.error, errors.InvalidInput)
    assert (refused.hits, refused.error.reason) == ([], "TEXT_EMPTY")
    assert (result.model.name, result.timing.total_us) == ("demo", 7)


def test_a_file_of_gigabytes_is_not_read_to_be_searched_by(connect, tmp_path):
    picture = tmp_path / "sparse.jpg"
    with picture.open("wb") as file:
        file.truncate(2**33)
    with connect(NOBODY, NOBODY) as client, pytest.raises(errors.InvalidInput) as raised:
        client.search("c", image=picture)
    assert raised.value.reason == "IMAGE_TOO_LARGE"


def test_images_come_by_id_and_missing_ones_are_named(connect):
    image = query_pb2.Image(id="a", attributes={"uri": "/a.jpg"})
    query = Query(query_pb2.GetImagesResponse(images=[image], missing_ids=["b"]))
    with serve(query=query) as target, connect(target, NOBODY) as client:
        found = client.get_images("c", ["a", "b"], ["uri"])
    assert query.requests[0].ids == ["a", "b"]
    assert [(image.id, image.uri) for image in found.images] == [("a", "/a.jpg")]
    assert found.missing_ids == ["b"]


def test_collections_are_made_described_listed_and_dropped(connect):
    indexer = Indexer()
    with serve(indexer=indexer) as target, connect(NOBODY, target) as client:
        made = client.create_collection("c", index_kind="hnsw", metric="COSINE")
        assert (made.name, made.index_kind, made.metric) == ("c", "HNSW", "COSINE")
        assert client.get_collection("c") == made
        assert indexer.counted == 0
        assert client.get_collection("c", exact=True) == made
        assert indexer.counted == 1
        assert client.collections() == [made]
        assert client.drop_collection("c") is None
        assert client.collections() == []
        with pytest.raises(errors.InvalidInput, match="index_kind: must be one of AUTO, FLAT"):
            client.create_collection("c", index_kind="btree")


def test_images_are_deleted_by_filter_or_by_ids_but_not_by_both(connect):
    indexer = Indexer()
    with serve(indexer=indexer) as target, connect(NOBODY, target) as client:
        assert client.delete("c", filter="width > 1") == 0
        with pytest.raises(ValueError, match="exactly one"):
            client.delete("c", filter="width > 1", ids=["a"])
        with pytest.raises(ValueError, match="exactly one"):
            client.delete("c")
    assert indexer.filters == ["width > 1"]


def test_a_search_needs_exactly_one_thing_to_look_for(connect):
    with connect(NOBODY, NOBODY) as client:
        with pytest.raises(ValueError, match="exactly one"):
            client.search("c")
        with pytest.raises(ValueError, match="exactly one"):
            client.search("c", "a dog", image_id="i")
        with pytest.raises(ValueError, match="terms exclude other queries"):
            client.search("c", "a dog", terms=[Term(text="a cat")])
        with pytest.raises(errors.InvalidInput, match="32 bits"):
            client.search("c", "a dog", limit=2**40)
        with pytest.raises(errors.InvalidInput, match="text: must be valid Unicode"):
            client.search("c", "\ud800")


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (code_pb2.INVALID_ARGUMENT, errors.InvalidInput),
        (code_pb2.NOT_FOUND, errors.NotFound),
        (code_pb2.FAILED_PRECONDITION, errors.FailedPrecondition),
        (code_pb2.RESOURCE_EXHAUSTED, errors.Overloaded),
        (code_pb2.DEADLINE_EXCEEDED, errors.DeadlineExceeded),
        (code_pb2.UNAUTHENTICATED, errors.Unauthenticated),
        (code_pb2.INTERNAL, errors.GlimpseError),
    ],
)
def test_a_status_becomes_its_error_with_reason_field_and_delay(connect, code, kind):
    violation = error_details_pb2.BadRequest.FieldViolation(field="options.limit")
    failure = status(
        code,
        "options.limit: must be at least 1",
        reason("WHY"),
        error_details_pb2.BadRequest(field_violations=[violation]),
        error_details_pb2.RetryInfo(retry_delay=duration_pb2.Duration(nanos=250_000_000)),
    )
    with (
        serve(query=Query(failure=failure)) as target,
        connect(target, NOBODY) as client,
        pytest.raises(errors.GlimpseError) as caught,
    ):
        client.search("c", "a dog")
    error = caught.value
    assert type(error) is kind
    assert (error.reason, error.field, error.retry_after_s) == ("WHY", "options.limit", 0.25)
    assert str(error) == "options.limit: must be at least 1"


def test_a_query_service_out_of_reach_is_named_in_one_sentence(connect):
    with connect(NOBODY, NOBODY) as client, pytest.raises(errors.Unavailable) as caught:
        client.search("c", "a dog")
    assert str(caught.value) == "the query service at 127.0.0.1:1 cannot be reached"
    assert caught.value.reason == ""


@pytest.mark.parametrize("failures", [4, 5])
def test_a_call_that_finds_nobody_is_made_five_times(connect, failures):
    query = Query(query_pb2.SearchResponse(), fail_first=failures)
    with serve(query=query) as target, connect(target, NOBODY) as client:
        if failures < 5:
            assert client.search("c", "a dog").hits == []
        else:
            with pytest.raises(errors.Unavailable):
                client.search("c", "a dog")
    assert len(query.requests) == 5


class Slow(Query):
    """Answers once its caller has gone; knows how long callers wait, and that one has gone."""

    def __init__(self) -> None:
        super().__init__()
        self.entered, self.left = threading.Event(), threading.Event()
        self.times_left_s: list[float] = []

    def Search(self, request, context):
        ended = threading.Event()
        context.add_callback(ended.set)
        self.times_left_s.append(context.time_remaining())
        self.entered.set()
        if ended.wait(20):
            self.left.set()
        return query_pb2.SearchResponse()


def test_a_call_ends_at_the_clients_time_or_at_its_own(connect):
    slow = Slow()
    with serve(query=slow) as target, connect(target, NOBODY, timeout_s=0.2) as client:
        with pytest.raises(errors.DeadlineExceeded, match="did not answer in time"):
            client.search("c", "a dog")
        with pytest.raises(errors.DeadlineExceeded):
            client.search("c", "a dog", timeout_s=0.5)
    clients, own = slow.times_left_s
    assert clients <= 0.25 < own <= 0.55  # gRPC rounds up when it tells the server


async def test_a_cancelled_call_ends_in_the_service():
    slow = Slow()
    with serve(query=slow) as target:
        async with AsyncClient(target, NOBODY) as client:
            call = asyncio.ensure_future(client.search("c", "a dog", timeout_s=20))
            assert await asyncio.to_thread(slow.entered.wait, 20)
            call.cancel()
            assert await asyncio.to_thread(slow.left.wait, 10)


async def test_many_calls_share_the_asyncio_clients_connection():
    peers = set()

    class Query(query_pb2_grpc.QueryServicer):
        def Search(self, request, context):
            peers.add(context.peer())
            return query_pb2.SearchResponse(next_page_token=request.text)

    texts = [str(number) for number in range(50)]
    with serve(query=Query()) as target:
        async with AsyncClient(target, NOBODY) as client:
            results = await asyncio.gather(*(client.search("c", text) for text in texts))
    assert [result.next_page_token for result in results] == texts
    assert len(peers) == 1


DIFFERENT = ("index", "import_images", "close")
"""Methods that asyncio programs call in another way, or on a thread."""


def test_both_clients_take_the_same_arguments():
    def methods(kind):
        return {
            name: str(inspect.signature(member)).replace("AsyncIterator", "Iterator")
            for name, member in vars(kind).items()
            if callable(member) and not name.startswith("_") and name not in DIFFERENT
        }

    assert methods(Client) == methods(AsyncClient)
    assert "search" in methods(Client)
    assert inspect.signature(Client) == inspect.signature(AsyncClient)
    assert "page_token: 'str' = ''" in methods(Client)["search"]
