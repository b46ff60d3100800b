"""The Python client against real servers that answer, fail and cut connections as they are told."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import grpc
import pytest
from google.protobuf import any_pb2, duration_pb2
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_status import rpc_status

from glimpse import AsyncClient, Client, ImageFile, Outcome, Term, errors
from glimpse.indexer.v1 import indexer_pb2, indexer_pb2_grpc
from glimpse.query.v1 import query_pb2, query_pb2_grpc

NOBODY = "127.0.0.1:1"


@contextmanager
def serve(
    query: query_pb2_grpc.QueryServicer | None = None,
    indexer: indexer_pb2_grpc.IndexerServicer | None = None,
    port: int = 0,
) -> Iterator[str]:
    server = grpc.server(ThreadPoolExecutor(8), options=[("grpc.so_reuseport", 0)])
    if query is not None:
        query_pb2_grpc.add_QueryServicer_to_server(query, server)
    if indexer is not None:
        indexer_pb2_grpc.add_IndexerServicer_to_server(indexer, server)
    port = server.add_insecure_port(f"127.0.0.1:{port}")
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(None).wait()


def status(code: int, message: str, *details) -> status_pb2.Status:
    packed = []
    for detail in details:
        packed.append(any_pb2.Any())
        packed[-1].Pack(detail)
    return status_pb2.Status(code=code, message=message, details=packed)


def reason(name: str) -> error_details_pb2.ErrorInfo:
    return error_details_pb2.ErrorInfo(reason=name, domain="glimpse")


def abort(context: grpc.ServicerContext, answer: status_pb2.Status):
    context.abort_with_status(rpc_status.to_status(answer))


Script = Callable[[int, list[int], grpc.ServicerContext], status_pb2.Status | None]


class Indexer(indexer_pb2_grpc.IndexerServicer):
    """Acknowledges each image at once, unless its script gives a status or aborts.

    The script gets the stream's number, the sequences that this stream has seen, and the context.
    """

    def __init__(self, script: Script = lambda stream, seen, context: None) -> None:
        self.script = script
        self.streams: list[list[int]] = []
        self.options: list[indexer_pb2.IndexOptions] = []
        self.deleted: list[list[str]] = []

    def IndexImages(self, request_iterator, context):
        seen: list[int] = []
        self.streams.append(seen)
        self.options.append(next(request_iterator).options)
        for request in request_iterator:
            seen.append(request.image.sequence)
            error = self.script(len(self.streams), seen, context)
            acknowledgement = indexer_pb2.Acknowledgement(
                sequence=request.image.sequence,
                id=f"id-{request.image.content.decode()}",
                outcome=indexer_pb2.OUTCOME_FAILED if error else indexer_pb2.OUTCOME_INDEXED,
                error=error,
            )
            yield indexer_pb2.IndexImagesResponse(acknowledgement=acknowledgement)
        yield indexer_pb2.IndexImagesResponse(totals=indexer_pb2.Totals(indexed=len(seen)))

    def DeleteImages(self, request, context):
        self.deleted.append(list(request.ids.ids))
        return indexer_pb2.DeleteImagesResponse(deleted=len(request.ids.ids))


class Query(query_pb2_grpc.QueryServicer):
    """Answers every call with one answer, or fails it with one status."""

    def __init__(self, answer=None, failure: status_pb2.Status | None = None) -> None:
        self.answer, self.failure = answer, failure
        self.requests: list[query_pb2.SearchRequest] = []

    def Search(self, request, context):
        self.requests.append(request)
        if self.failure is not None:
            abort(context, self.failure)
        return self.answer

    GetImages = Search


def numbered(count: int) -> list[ImageFile]:
    return [ImageFile(content=str(number).encode()) for number in range(count)]


def index_all(target: str, images, **options):
    with Client(NOBODY, target) as client, client.index("c", images, **options) as ingest:
        return list(ingest)


def test_every_image_is_acknowledged_with_its_own_id():
    with serve(indexer=Indexer()) as target:
        acknowledgements = index_all(target, numbered(100))
    assert [a.id for a in acknowledgements] == [f"id-{n}" for n in range(100)]
    assert all(a.image.content == a.id.removeprefix("id-").encode() for a in acknowledgements)
    assert {a.outcome for a in acknowledgements} == {Outcome.INDEXED}


def test_options_reach_the_indexer():
    indexer = Indexer()
    with serve(indexer=indexer) as target:
        index_all(target, numbered(1), create_collection=False, force=True)
    expected = indexer_pb2.IndexOptions(collection="c", create_collection=False, force=True)
    assert indexer.options == [expected]


def test_a_stream_that_is_cut_is_taken_up_where_acknowledgements_ended():
    def cut(stream, seen, context):
        if stream <= 3 and len(seen) == 10:
            context.abort(grpc.StatusCode.UNAVAILABLE, "going away")

    indexer = Indexer(cut)
    with serve(indexer=indexer) as target:
        acknowledgements = index_all(target, numbered(100))
    assert sorted(a.id for a in acknowledgements) == sorted(f"id-{n}" for n in range(100))
    # Nine were acknowledged on each of the first three streams.
    assert [seen[0] for seen in indexer.streams] == [0, 9, 18, 27]


def test_an_indexer_that_restarts_in_the_middle_loses_nothing():
    gone = threading.Event()

    def wait_for_the_end(stream, seen, context):
        if len(seen) == 20:
            gone.set()
            while context.is_active():
                threading.Event().wait(0.01)
            raise RuntimeError("the server is stopping")

    second = Indexer()
    with ThreadPoolExecutor(1) as pool:
        with serve(indexer=Indexer(wait_for_the_end)) as target:
            running = pool.submit(index_all, target, numbered(200))
            assert gone.wait(20)
        with serve(indexer=second, port=int(target.rpartition(":")[2])):
            acknowledgements = running.result(30)
    assert sorted(a.id for a in acknowledgements) == sorted(f"id-{n}" for n in range(200))
    assert min(second.streams[0]) == 19


def test_an_image_refused_as_unavailable_is_sent_again():
    refused: set[int] = set()

    def refuse_once(stream, seen, context):
        if seen[-1] % 7 == 0 and seen[-1] not in refused:
            refused.add(seen[-1])
            return status(code_pb2.UNAVAILABLE, "the encoder is away", reason("UNAVAILABLE"))
        return None

    with serve(indexer=Indexer(refuse_once)) as target:
        acknowledgements = index_all(target, numbered(50))
    assert len(refused) == 8
    assert sorted(a.id for a in acknowledgements) == sorted(f"id-{n}" for n in range(50))
    assert {a.outcome for a in acknowledgements} == {Outcome.INDEXED}


def test_patience_without_progress_ends_with_the_last_error():
    def cut(stream, seen, context):
        context.abort(grpc.StatusCode.UNAVAILABLE, "going away")

    with serve(indexer=Indexer(cut)) as target, pytest.raises(errors.Unavailable):
        index_all(target, numbered(5), patience_s=0.3)


def test_an_image_refused_for_longer_than_patience_fails_alone():
    def refuse(stream, seen, context):
        if seen[-1] == 2:
            return status(code_pb2.UNAVAILABLE, "the encoder is away", reason("UNAVAILABLE"))
        return None

    with serve(indexer=Indexer(refuse)) as target:
        acknowledgements = index_all(target, numbered(5), patience_s=0.3)
    assert len(acknowledgements) == 5
    failed = [a for a in acknowledgements if a.outcome is Outcome.FAILED]
    assert [(a.id, str(a.error)) for a in failed] == [("id-2", "the encoder is away")]


def test_a_stream_refused_for_good_is_not_tried_again():
    def refuse(stream, seen, context):
        abort(context, status(code_pb2.NOT_FOUND, "no such collection", reason("NO_COLLECTION")))

    indexer = Indexer(refuse)
    with serve(indexer=indexer) as target, pytest.raises(errors.NotFound) as caught:
        index_all(target, numbered(3))
    assert caught.value.reason == "NO_COLLECTION"
    assert len(indexer.streams) == 1


def test_no_more_images_are_in_flight_than_allowed():
    acknowledged = 0
    most = 0

    def images():
        nonlocal most
        for number in range(300):
            most = max(most, number - acknowledged)
            yield ImageFile(content=b"1" * 100)

    with serve(indexer=Indexer()) as target, Client(NOBODY, target) as client:
        for _ in client.index("c", images(), max_in_flight=16):
            acknowledged += 1
    assert acknowledged == 300
    # One more has been taken from the iterable and waits for room, one acknowledgement may be
    # on its way from the window to the loop above.
    assert most <= 18


def test_no_more_bytes_are_in_flight_than_allowed_but_a_large_image_passes_alone():
    acknowledged = 0
    most = 0

    def images():
        nonlocal most
        for number in range(40):
            most = max(most, number - acknowledged)
            yield ImageFile(content=b"1" * 20_000)

    with serve(indexer=Indexer()) as target, Client(NOBODY, target) as client:
        for _ in client.index("c", images(), max_in_flight_bytes=10_000):
            acknowledged += 1
    assert acknowledged == 40
    assert most <= 3


def test_a_file_that_cannot_be_read_fails_alone(tmp_path):
    good = tmp_path / "good.jpg"
    good.write_bytes(b"7")
    images = [ImageFile(path=tmp_path / "gone.jpg"), ImageFile(path=good)]
    with serve(indexer=Indexer()) as target:
        acknowledgements = index_all(target, images)
    by_path = {a.image.path: a for a in acknowledgements}
    assert by_path[good].id == "id-7"
    error = by_path[tmp_path / "gone.jpg"].error
    assert isinstance(error, errors.UnreadableFile)
    assert "gone.jpg cannot be read: no such file or directory" in str(error)


@pytest.mark.parametrize(
    ("image", "field"),
    [
        (ImageFile(content=b"1", metadata={"when": object()}), "metadata"),
        (ImageFile(content=b"1", uri="\udcff.jpg"), "uri"),
        (ImageFile(content=b"1" * 2_000_000), "content"),
    ],
)
def test_what_no_message_can_hold_fails_alone_and_names_the_field(image, field):
    indexer = Indexer()
    with (
        serve(indexer=indexer) as target,
        Client(NOBODY, target, max_message_bytes=1_000_000) as client,
    ):
        acknowledgements = list(client.index("c", [image, *numbered(2)]))
    failed = [a.error for a in acknowledgements if a.error is not None]
    assert [error.field for error in failed] == [field]
    assert len(acknowledgements) == 3
    assert len(indexer.streams) == 1


def test_what_the_callers_iterable_raises_reaches_the_caller_after_what_was_sent():
    def images():
        yield from numbered(3)
        raise LookupError("the caller's own")

    got = []
    with serve(indexer=Indexer()) as target, Client(NOBODY, target) as client:
        ingest = client.index("c", images())
        got.extend(next(ingest).id for _ in range(3))
        with pytest.raises(LookupError, match="own"):
            next(ingest)
    assert got == ["id-0", "id-1", "id-2"]


def test_leaving_early_stops_the_reading_of_the_callers_iterable():
    ended = threading.Event()

    def images():
        try:
            while True:
                yield ImageFile(content=b"1")
        finally:
            ended.set()

    with serve(indexer=Indexer()) as target, Client(NOBODY, target) as client:
        with client.index("c", images(), max_in_flight=4) as ingest:
            next(ingest)
        assert ended.wait(10)


def test_an_indexer_out_of_reach_fails_at_once_and_reads_nothing():
    def images():
        pytest.fail("nothing should be read")
        yield

    started_s = time.monotonic()
    with pytest.raises(errors.Unavailable, match=r"^the indexer at .* cannot be reached$"):
        index_all(NOBODY, images())
    assert time.monotonic() - started_s < 10


def test_any_number_of_ids_is_deleted_in_calls_of_a_thousand():
    indexer = Indexer()
    with serve(indexer=indexer) as target, Client(NOBODY, target) as client:
        assert client.delete("c", ids=[str(n) for n in range(2_500)]) == 2_500
    assert [len(ids) for ids in indexer.deleted] == [1_000, 1_000, 500]


def test_a_search_comes_back_as_plain_values():
    answer = query_pb2.SearchResponse(
        hits=[query_pb2.Hit(id="a", score=0.5, attributes={"uri": "/a.jpg", "width": 640})],
        next_page_token="more",
        model=query_pb2.Model(name="demo", fingerprint="f"),
        timing=query_pb2.Timing(queue_us=1, encode_us=2, search_us=3, total_us=7),
        text_truncated=True,
    )
    metadata = {"year": 1999, "share": 0.5, "tags": ["x", None], "deep": {"yes": True}}
    answer.hits[0].attributes.metadata.update(metadata)
    with serve(query=Query(answer)) as target, Client(target, NOBODY) as client:
        result = client.search("c", "a dog")
    (hit,) = result.hits
    assert (hit.id, hit.score, hit.uri, hit.width) == ("a", 0.5, "/a.jpg", 640)
    assert hit.metadata == metadata
    assert type(hit.metadata["year"]) is int
    assert (result.next_page_token, result.text_truncated) == ("more", True)
    assert (result.model.name, result.timing.total_us) == ("demo", 7)


def test_a_search_sends_what_it_was_told(tmp_path):
    picture = tmp_path / "p.jpg"
    picture.write_bytes(b"picture")
    query = Query(query_pb2.SearchResponse())
    with serve(query=query) as target, Client(target, NOBODY) as client:
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


def test_a_search_needs_exactly_one_thing_to_look_for():
    with Client(NOBODY, NOBODY) as client:
        with pytest.raises(ValueError, match="exactly one"):
            client.search("c")
        with pytest.raises(ValueError, match="exactly one"):
            client.search("c", "a dog", image_id="i")
        with pytest.raises(ValueError, match="terms stand alone"):
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
        (code_pb2.UNAUTHENTICATED, errors.PermissionDenied),
        (code_pb2.INTERNAL, errors.GlimpseError),
    ],
)
def test_a_status_becomes_its_error_with_reason_field_and_delay(code, kind):
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
        Client(target, NOBODY) as client,
        pytest.raises(errors.GlimpseError) as caught,
    ):
        client.search("c", "a dog")
    error = caught.value
    assert type(error) is kind
    assert (error.reason, error.field, error.retry_after_s) == ("WHY", "options.limit", 0.25)
    assert str(error) == "options.limit: must be at least 1"


def test_a_query_service_out_of_reach_is_named_in_one_sentence():
    with Client(NOBODY, NOBODY) as client, pytest.raises(errors.Unavailable) as caught:
        client.search("c", "a dog")
    assert str(caught.value) == "the query service at 127.0.0.1:1 cannot be reached"
    assert caught.value.reason == ""


async def test_the_asyncio_client_sends_and_gets_the_same():
    query = Query(query_pb2.SearchResponse(hits=[query_pb2.Hit(id="a", score=0.5)]))
    with serve(query=query) as target, Client(target, NOBODY) as client:
        expected = client.search("c", "a dog", limit=3, filter="width > 1", min_score=0.25)
        async with AsyncClient(target) as asyncio_client:
            result = await asyncio_client.search(
                "c", "a dog", limit=3, filter="width > 1", min_score=0.25
            )
    assert result == expected
    assert query.requests[0] == query.requests[1]


async def test_the_asyncio_client_raises_the_same_errors():
    failure = status(code_pb2.NOT_FOUND, "no such collection", reason("NO_COLLECTION"))
    with serve(query=Query(failure=failure)) as target:
        async with AsyncClient(target) as client:
            with pytest.raises(errors.NotFound, match="no such collection") as caught:
                await client.search("c", "a dog")
            assert caught.value.reason == "NO_COLLECTION"
    async with AsyncClient(NOBODY) as client:
        with pytest.raises(errors.Unavailable, match="cannot be reached"):
            await client.get_images("c", ["a"])


def test_a_call_that_takes_too_long_ends_at_its_time():
    class Slow(Query):
        def Search(self, request, context):
            while context.is_active():
                threading.Event().wait(0.01)

    with (
        serve(query=Slow()) as target,
        Client(target, NOBODY) as client,
        pytest.raises(errors.DeadlineExceeded, match="did not answer in time"),
    ):
        client.search("c", "a dog", timeout_s=0.2)
