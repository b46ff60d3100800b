"""Indexing with the Python clients: acknowledgements, cut streams, bounds of what is read."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import grpc
import pytest
from google.rpc import code_pb2

from glimpse import ImageFile, Outcome, errors
from glimpse.indexer.v1 import indexer_pb2
from tests.scripted import NOBODY, Indexer, abort, numbered, reason, serve, status


def index_all(connect, target, images, **options):
    with connect(NOBODY, target) as client, client.index("c", images, **options) as ingest:
        return list(ingest)


def test_every_image_is_acknowledged_with_its_own_id(connect):
    with serve(indexer=Indexer()) as target:
        acknowledgements = index_all(connect, target, numbered(100))
    assert [a.id for a in acknowledgements] == [f"id-{n}" for n in range(100)]
    assert all(a.image.content == a.id.removeprefix("id-").encode() for a in acknowledgements)
    assert {a.outcome for a in acknowledgements} == {Outcome.INDEXED}


def test_options_reach_the_indexer(connect):
    indexer = Indexer()
    with serve(indexer=indexer) as target:
        index_all(connect, target, numbered(1), create_collection=False, force=True)
    expected = indexer_pb2.IndexOptions(
        collection="c", create_collection=False, force=True, max_wait_ms=120_000
    )
    assert indexer.options == [expected]


def test_a_stream_that_is_cut_is_taken_up_where_acknowledgements_ended(connect):
    def cut(stream, seen, context):
        if stream <= 3 and len(seen) == 10:
            context.abort(grpc.StatusCode.UNAVAILABLE, "going away")

    indexer = Indexer(cut)
    with serve(indexer=indexer) as target:
        acknowledgements = index_all(connect, target, numbered(100))
    assert sorted(a.id for a in acknowledgements) == sorted(f"id-{n}" for n in range(100))
    # Nine were acknowledged on each of the first three streams.
    assert [seen[0] for seen in indexer.streams] == [0, 9, 18, 27]


def test_an_indexer_that_restarts_in_the_middle_loses_nothing(connect):
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
            running = pool.submit(index_all, connect, target, numbered(200))
            assert gone.wait(20)
        with serve(indexer=second, port=int(target.rpartition(":")[2])):
            acknowledgements = running.result(30)
    assert sorted(a.id for a in acknowledgements) == sorted(f"id-{n}" for n in range(200))
    # What is known to be there is not sent again; the last acknowledgements may have been lost.
    assert 0 < min(second.streams[0]) <= 19


def test_what_the_indexer_says_after_all_acknowledgements_is_raised(connect, monkeypatch):
    whole = Indexer.IndexImages

    def ends_on_an_error(self, requests, context):
        yield from whole(self, requests, context)
        abort(context, status(code_pb2.FAILED_PRECONDITION, "start it again", reason("WHY")))

    monkeypatch.setattr(Indexer, "IndexImages", ends_on_an_error)
    with serve(indexer=Indexer()) as target, pytest.raises(errors.FailedPrecondition) as caught:
        index_all(connect, target, numbered(3))
    assert (str(caught.value), caught.value.reason) == ("start it again", "WHY")


def test_an_image_refused_as_unavailable_is_sent_again(connect):
    refused: set[int] = set()

    def refuse_once(stream, seen, context):
        if seen[-1] % 7 == 0 and seen[-1] not in refused:
            refused.add(seen[-1])
            return status(code_pb2.UNAVAILABLE, "the encoder is away", reason("UNAVAILABLE"))
        return None

    with serve(indexer=Indexer(refuse_once)) as target:
        acknowledgements = index_all(connect, target, numbered(50))
    assert len(refused) == 8
    assert sorted(a.id for a in acknowledgements) == sorted(f"id-{n}" for n in range(50))
    assert {a.outcome for a in acknowledgements} == {Outcome.INDEXED}


def test_images_refused_when_all_is_sent_get_a_stream_of_their_own(connect):
    class AfterAll(Indexer):
        def IndexImages(self, request_iterator, context):
            yield from super().IndexImages(iter(list(request_iterator)), context)

    def refuse_at_first(stream, seen, context):
        if stream == 1 and seen[-1] in (3, 9):
            return status(code_pb2.UNAVAILABLE, "the encoder is away", reason("UNAVAILABLE"))
        return None

    indexer = AfterAll(refuse_at_first)
    with serve(indexer=indexer) as target:
        acknowledgements = index_all(connect, target, numbered(10))
    assert indexer.streams == [list(range(10)), [3, 9]]
    assert sorted(a.id for a in acknowledgements) == sorted(f"id-{n}" for n in range(10))
    assert {a.outcome for a in acknowledgements} == {Outcome.INDEXED}


def test_patience_without_progress_ends_with_the_last_error(connect):
    def cut(stream, seen, context):
        context.abort(grpc.StatusCode.UNAVAILABLE, "going away")

    with serve(indexer=Indexer(cut)) as target, pytest.raises(errors.Unavailable):
        index_all(connect, target, numbered(5), patience_s=0.3)


def test_an_image_refused_for_longer_than_patience_fails_alone(connect):
    def refuse(stream, seen, context):
        if seen[-1] == 2:
            return status(code_pb2.UNAVAILABLE, "the encoder is away", reason("UNAVAILABLE"))
        return None

    with serve(indexer=Indexer(refuse)) as target:
        acknowledgements = index_all(connect, target, numbered(5), patience_s=0.3)
    assert len(acknowledgements) == 5
    failed = [a for a in acknowledgements if a.outcome is Outcome.FAILED]
    assert [(a.id, str(a.error)) for a in failed] == [("id-2", "the encoder is away")]


def test_a_stream_that_ends_when_patience_does_fails_the_refused_image_alone(connect, monkeypatch):
    late_s = 0.0
    may_end = threading.Event()
    clock = SimpleNamespace(monotonic=lambda: time.monotonic() + late_s)
    monkeypatch.setattr("glimpse.ingest.time", clock)

    class AfterAll(Indexer):
        def IndexImages(self, request_iterator, context):
            yield from super().IndexImages(iter(list(request_iterator)), context)
            assert may_end.wait(20)

    def refuse(stream, seen, context):
        if seen[-1] == 2:
            return status(code_pb2.UNAVAILABLE, "the encoder is away", reason("UNAVAILABLE"))
        return None

    with (
        serve(indexer=AfterAll(refuse)) as target,
        connect(NOBODY, target) as client,
        client.index("c", numbered(5), patience_s=60) as ingest,
    ):
        acknowledgements = [next(ingest) for _ in range(4)]
        late_s = 61.0
        may_end.set()
        acknowledgements += ingest
    assert [(a.id, a.outcome) for a in acknowledgements[4:]] == [("id-2", Outcome.FAILED)]
    assert {a.outcome for a in acknowledgements[:4]} == {Outcome.INDEXED}


def test_a_stream_refused_for_good_is_not_tried_again(connect):
    def refuse(stream, seen, context):
        abort(context, status(code_pb2.NOT_FOUND, "no such collection", reason("NO_COLLECTION")))

    indexer = Indexer(refuse)
    with serve(indexer=indexer) as target, pytest.raises(errors.NotFound) as caught:
        index_all(connect, target, numbered(3))
    assert caught.value.reason == "NO_COLLECTION"
    assert len(indexer.streams) == 1


def most_in_flight(connect, count, size_bytes, **limits):
    """Indexes `count` images; how many were taken and not acknowledged, at the most.

    That may be two more than the limits allow: one has been taken from the iterable and waits for
    room, one acknowledgement is on its way from the window to the loop below.
    """
    acknowledged = 0
    most = 0

    def images():
        nonlocal most
        for number in range(count):
            most = max(most, number - acknowledged)
            yield ImageFile(content=b"1" * size_bytes)

    with (
        serve(indexer=Indexer()) as target,
        connect(NOBODY, target) as client,
        client.index("c", images(), **limits) as ingest,
    ):
        for _ in ingest:
            acknowledged += 1
    assert acknowledged == count
    return most


def test_no_more_images_are_in_flight_than_allowed(connect):
    assert most_in_flight(connect, 300, 100, max_in_flight=16) <= 16 + 2


def test_no_more_bytes_are_in_flight_than_allowed_but_a_large_image_passes_alone(connect):
    assert most_in_flight(connect, 40, 20_000, max_in_flight_bytes=10_000) <= 1 + 2


def test_a_file_that_cannot_be_read_fails_alone(connect, tmp_path):
    good = tmp_path / "good.jpg"
    good.write_bytes(b"7")
    images = [ImageFile(path=tmp_path / "gone.jpg"), ImageFile(path=good)]
    with serve(indexer=Indexer()) as target:
        acknowledgements = index_all(connect, target, images)
    by_path = {a.image.path: a for a in acknowledgements}
    assert by_path[good].id == "id-7"
    error = by_path[tmp_path / "gone.jpg"].error
    assert isinstance(error, errors.UnreadableFile)
    assert "gone.jpg cannot be read: no such file or directory" in str(error)


def test_what_cannot_be_read_is_told_while_nothing_else_happens(connect, tmp_path):
    told = threading.Event()

    def images():
        yield ImageFile(path=tmp_path / "gone.jpg")
        assert told.wait(20)

    with (
        serve(indexer=Indexer()) as target,
        connect(NOBODY, target) as client,
        client.index("c", images()) as ingest,
    ):
        assert next(ingest).outcome is Outcome.FAILED
        told.set()
        assert list(ingest) == []


def test_objects_are_read_side_by_side(connect, monkeypatch):
    together = threading.Barrier(8)

    def read(url, max_bytes):
        together.wait(20)
        return url[-1:].encode()

    monkeypatch.setattr("glimpse.fsspec_files.read", read)
    images = [ImageFile(url=f"s3://bucket/{number}") for number in range(8)]
    with serve(indexer=Indexer()) as target:
        acknowledgements = index_all(connect, target, images, max_reads=8)
    assert sorted(a.id for a in acknowledgements) == [f"id-{number}" for number in range(8)]


def test_pictures_of_one_id_are_sent_in_their_order_however_long_reading_takes(
    connect, monkeypatch
):
    overtaken = threading.Event()

    def read(url, max_bytes):
        if url.endswith("/1"):
            assert overtaken.wait(20)
        elif url.endswith("/3"):
            overtaken.set()
        return url[-1:].encode()

    monkeypatch.setattr("glimpse.fsspec_files.read", read)
    images = [
        ImageFile(url="s3://bucket/1", id="same"),
        ImageFile(url="s3://bucket/3", id="other"),
        ImageFile(url="s3://bucket/2", id="same"),
    ]
    indexer = Indexer()
    with serve(indexer=indexer) as target:
        index_all(connect, target, images)
    assert [image.content for image in indexer.images if image.id == "same"] == [b"1", b"2"]


@pytest.mark.parametrize(
    ("image", "field"),
    [
        (ImageFile(content=b"1", metadata={"when": object()}), "metadata"),
        (ImageFile(content=b"1", metadata={"deep": [{"number": 2**53 + 1}]}), "metadata"),
        (ImageFile(content=b"1", uri="\udcff.jpg"), "uri"),
        (ImageFile(content=b"1" * 2_000_000), "content"),
    ],
)
def test_what_no_message_can_hold_fails_alone_and_names_the_field(connect, image, field):
    indexer = Indexer()
    with (
        serve(indexer=indexer) as target,
        connect(NOBODY, target, max_message_bytes=1_000_000) as client,
        client.index("c", [image, *numbered(2)]) as ingest,
    ):
        acknowledgements = list(ingest)
    failed = [a.error for a in acknowledgements if a.error is not None]
    assert [error.field for error in failed] == [field]
    assert len(acknowledgements) == 3
    assert len(indexer.streams) == 1


def test_what_the_callers_iterable_raises_reaches_the_caller_after_what_was_sent(connect):
    def images():
        yield from numbered(3)
        raise LookupError("the caller's own")

    got = []
    with (
        serve(indexer=Indexer()) as target,
        connect(NOBODY, target) as client,
        client.index("c", images()) as ingest,
    ):
        got.extend(next(ingest).id for _ in range(3))
        with pytest.raises(LookupError, match="own"):
            next(ingest)
    assert got == ["id-0", "id-1", "id-2"]


def test_leaving_early_stops_the_reading_of_the_callers_iterable(connect):
    ended = threading.Event()

    def images():
        try:
            while True:
                yield ImageFile(content=b"1")
        finally:
            ended.set()

    with serve(indexer=Indexer()) as target, connect(NOBODY, target) as client:
        with client.index("c", images(), max_in_flight=4) as ingest:
            next(ingest)
        assert ended.wait(10)


def test_an_indexer_out_of_reach_fails_at_once_and_reads_nothing(connect):
    def images():
        pytest.fail("nothing should be read")
        yield

    started_s = time.monotonic()
    with pytest.raises(errors.Unavailable, match=r"^the indexer at .* cannot be reached$"):
        index_all(connect, NOBODY, images())
    assert time.monotonic() - started_s < 10
