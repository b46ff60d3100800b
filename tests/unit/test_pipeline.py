"""A stream of images: order, memory, retries, cancellation; over a store in memory, no gRPC."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import gc
import hashlib
import io
import itertools
import sys

import numpy as np
import pytest
from PIL import Image as Picture
from prometheus_client import CollectorRegistry

from glimpse import errors
from glimpse.pictures.preprocess import decode
from glimpse.pictures.preprocessing import PREPROCESSING_VERSION
from glimpse.results import Outcome
from services.common.deadline import Deadline
from services.common.encoder_client import Embedded, EncodedBatch, EncoderModel
from services.indexer import row_writes
from services.indexer.metrics import IndexerMetrics
from services.indexer.pipeline import Pipeline
from services.indexer.records import Image, Target
from services.indexer.settings import IndexerSettings
from services.vectors.metadata import NO_METADATA, Metadata
from services.vectors.records import CollectionSpec
from tests.fakes import ThreadDecoder, vector_of
from tests.memory_store import MemoryStore
from tests.waiting import until

NAME = "pictures"
MODEL = EncoderModel(
    name="fake",
    fingerprint="f" * 64,
    dimension=8,
    image_size=16,
    preprocessing_version=PREPROCESSING_VERSION,
    max_texts=8,
    max_images=4,
    max_file_bytes=2**20,
    max_image_pixels=10**6,
    max_message_bytes=2**22,
)
TARGET = Target(NAME, MODEL)
T = 30.0
# Six batches of decoded pictures, the encoder's four at a time, have a budget of their own.
PIXELS_BYTES = 6 * 4 * 3 * 16 * 16
# What an image of these tests holds besides: its row, and a file of some hundred bytes.
LEAST_BYTES = 4096
MOST_BYTES = 2 * LEAST_BYTES


class Encoder:
    """The peer's interface without a network; calls wait while `open` is cleared."""

    def __init__(self):
        self.open = asyncio.Event()
        self.open.set()
        self.batches = []
        self.in_flight = self.max_in_flight = 0
        self.failures = []
        self.fingerprint = MODEL.fingerprint
        self.refused = set()
        self.cancelled = 0

    async def encode_pixels(self, fingerprint, pixels, deadline, interactive):
        assert fingerprint == MODEL.fingerprint
        self.batches.append(len(pixels))
        self.in_flight += 1
        self.max_in_flight = max(self.max_in_flight, self.in_flight)
        try:
            await self.open.wait()
            if self.failures:
                raise self.failures.pop(0)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        finally:
            self.in_flight -= 1
        return EncodedBatch(
            [self.embedded(array.tobytes()) for array in pixels], self.fingerprint, 0, 0
        )

    def embedded(self, content):
        if content in self.refused:
            return Embedded(None, errors.InvalidImage("image", "refused by the encoder"))
        return Embedded(vector_of(content, MODEL.dimension), None)


class Store(MemoryStore):
    """The store in memory that can fail, wait, and refuse a row; and counts what it writes."""

    def __init__(self):
        super().__init__()
        self.failures = []
        self.open = asyncio.Event()  # which `held_ids` wait for
        self.held_ids = set()
        self.writes = []
        self.asked = []
        self.refused_ids = set()
        self.readable = asyncio.Event()
        self.readable.set()
        self.reading = 0

    async def fetch(self, *arguments, **options):
        self.reading += 1
        await self.readable.wait()
        return await super().fetch(*arguments, **options)

    async def upsert(self, name, rows, *, deadline):
        self.asked.append([row.id for row in rows])
        if self.held_ids.intersection(self.asked[-1]):
            await self.open.wait()
        if self.failures:
            raise self.failures.pop(0)
        if any(row.id in self.refused_ids for row in rows):
            raise errors.InvalidInput("rows[0].metadata", "is refused")
        self.writes.append([row.id for row in rows])
        await super().upsert(name, rows, deadline=deadline)


class World:
    def __init__(self, **settings):
        values = {"retry_budget_s": 5.0, "write_wait_ms": 20, **settings}
        self.registry = CollectorRegistry()
        self.store, self.encoder = Store(), Encoder()
        settings, metrics = IndexerSettings(**values), IndexerMetrics(self.registry)
        self.pipeline = Pipeline(self.store, self.encoder, ThreadDecoder(), settings, metrics)

    async def index(self, images, force=False, keep_copies=False):
        target = Target(NAME, MODEL, force, keep_copies=keep_copies)
        return [ack async for ack in self.pipeline.index(target, source(images))]

    async def rows(self, *ids):
        fields = ("vector", "content_sha256", "uri", "metadata", "width", "height", "format")
        return await self.store.fetch(NAME, ids, fields, deadline=Deadline(T))

    def metric(self, name, **labels):
        return self.registry.get_sample_value(name, labels) or 0.0


@pytest.fixture
async def world():
    async with opened() as made:
        yield made


@contextlib.asynccontextmanager
async def opened(**settings):
    made = World(**settings)
    spec = CollectionSpec(NAME, MODEL.dimension, MODEL.name, MODEL.fingerprint)
    await made.store.create_collection(spec, deadline=Deadline(T))
    yield made


async def source(images):
    for image in images:
        yield image


def png(shade, size=(20, 16)):
    file = io.BytesIO()
    Picture.new("RGB", size, (shade % 256, shade // 256 % 256, 7)).save(file, "PNG")
    return file.getvalue()


def images(count, start=0):
    return [Image(i, png(i), id=f"p{i}") for i in range(start, start + count)]


def expected_vector(content):
    return vector_of(decode(content, MODEL.preprocessing, 10**6).pixels.tobytes(), MODEL.dimension)


def outcomes(acks):
    return {ack.sequence: ack.outcome for ack in acks}


async def test_every_image_is_acknowledged_once_with_its_own_vector(world):
    sent = images(50)
    acks = await world.index(sent)
    assert sorted(ack.sequence for ack in acks) == list(range(50))
    assert set(outcomes(acks).values()) == {Outcome.INDEXED}
    rows = await world.rows(*(image.id for image in sent))
    for image in sent:
        row = rows[image.id]
        np.testing.assert_allclose(row["vector"], expected_vector(image.content), atol=1e-6)
        assert row["content_sha256"] == hashlib.sha256(image.content).hexdigest()
        assert (row["width"], row["height"], row["format"]) == (20, 16, "PNG")
    assert world.metric("glimpse_indexer_images_total", outcome="indexed") == 50
    assert world.metric("glimpse_indexer_held_bytes") == 0


async def test_the_time_of_a_row_is_that_of_the_try_that_wrote_it(world, monkeypatch):
    """Not of when it was ready: who looks for what is new need not look further back."""
    times = itertools.count(7_001)
    monkeypatch.setattr(row_writes, "now_ms", lambda: next(times))
    world.store.failures = [errors.Unavailable("away")]
    await world.index(images(1))
    rows = await world.store.fetch(NAME, ["p0"], ["indexed_at_ms"], deadline=Deadline(T))
    assert rows == {"p0": {"indexed_at_ms": 7_002}}


async def test_acknowledgement_comes_only_after_the_store_has_taken_the_row(world):
    world.store.held_ids = {"p0", "p1", "p2"}
    acks = []

    async def run():
        target = Target(NAME, MODEL)
        async for ack in world.pipeline.index(target, source(images(3))):
            assert await world.rows(ack.id)
            acks.append(ack)

    task = asyncio.create_task(run())
    await until(lambda: world.metric("glimpse_indexer_stage_images", stage="write") == 3)
    assert not acks
    world.store.open.set()
    await task
    assert len(acks) == 3


async def test_same_content_and_attributes_are_unchanged_without_encoding(world):
    sent = [
        Image(i, png(i), uri=f"a/{i}.png", metadata=Metadata.of({"n": i, "deep": {"x": [1]}}))
        for i in range(9)
    ]
    await world.index(sent)
    encoded = sum(world.encoder.batches)
    writes = len(world.store.writes)
    acks = await world.index(sent)
    assert set(outcomes(acks).values()) == {Outcome.UNCHANGED}
    assert {ack.id for ack in acks} == {hashlib.sha256(i.content).hexdigest()[:32] for i in sent}
    assert (sum(world.encoder.batches), len(world.store.writes)) == (encoded, writes)


@pytest.mark.parametrize(
    "change",
    [{"uri": "b.png"}, {"metadata": Metadata.of({"n": True})}, {"metadata": NO_METADATA}],
    ids=str,
)
async def test_changed_attributes_rewrite_the_row_with_the_stored_vector(world, change):
    image = Image(0, png(1), id="x", uri="a.png", metadata=Metadata.of({"n": 1}))
    await world.index([image])
    encoded = sum(world.encoder.batches)
    changed = dataclasses.replace(image, **change)
    (ack,) = await world.index([changed])
    assert ack.outcome is Outcome.INDEXED
    assert sum(world.encoder.batches) == encoded
    row = (await world.rows("x"))["x"]
    assert (row["uri"], row["metadata"]) == (changed.uri, changed.metadata.value)
    assert (row["width"], row["height"], row["format"]) == (20, 16, "PNG")
    np.testing.assert_allclose(row["vector"], expected_vector(image.content), atol=1e-6)


async def test_changed_content_replaces_the_row(world):
    await world.index([Image(0, png(1), id="x")])
    (ack,) = await world.index([Image(0, png(2), id="x")])
    assert ack.outcome is Outcome.INDEXED
    row = (await world.rows("x"))["x"]
    np.testing.assert_allclose(row["vector"], expected_vector(png(2)), atol=1e-6)
    assert await world.store.count(NAME, deadline=Deadline(T)) == 1


def copies(*numbered_uris, content=None):
    return [
        Image(number, content or png(1), uri=uri, metadata=Metadata.of({"n": number}))
        for number, uri in enumerate(numbered_uris)
    ]


async def test_copies_have_a_row_each_and_are_encoded_once_in_a_run_and_over_runs(world):
    acks = await world.index(copies("a", "b", "c", "a"), keep_copies=True)
    assert {ack.outcome for ack in acks} == {Outcome.INDEXED}
    assert sum(world.encoder.batches) == 1
    rows = await world.rows(*{ack.id for ack in acks})
    # Of the two at one path the later one stays.
    assert {row["uri"]: row["metadata"]["n"] for row in rows.values()} == {"a": 3, "b": 1, "c": 2}
    for row in rows.values():
        np.testing.assert_allclose(row["vector"], expected_vector(png(1)), atol=1e-6)
    acks = await world.index(copies("x", "b", "c", "a"), keep_copies=True)
    assert outcomes(acks)[0] is Outcome.INDEXED
    assert {outcomes(acks)[number] for number in (1, 2, 3)} == {Outcome.UNCHANGED}
    assert sum(world.encoder.batches) == 1
    assert await world.store.count(NAME, deadline=Deadline(T)) == 4


async def test_a_copy_stays_when_the_row_of_the_first_is_gone(world):
    first = hashlib.sha256(png(1)).hexdigest()[:32]
    await world.index(copies("a", "b"), keep_copies=True)
    await world.store.delete_ids(NAME, [first], deadline=Deadline(T))
    acks = await world.index(copies("x", "b"), keep_copies=True)
    assert outcomes(acks) == {0: Outcome.INDEXED, 1: Outcome.UNCHANGED}
    assert await world.store.count(NAME, deadline=Deadline(T)) == 2


async def test_with_force_each_copy_keeps_its_row(world):
    await world.index(copies("a", "b"), keep_copies=True)
    acks = await world.index(copies("a", "b"), keep_copies=True, force=True)
    assert {ack.outcome for ack in acks} == {Outcome.INDEXED}
    assert await world.store.count(NAME, deadline=Deadline(T)) == 2


async def test_copies_of_what_is_no_picture_fail_with_it(world):
    acks = await world.index(copies("a", "b", "c", content=b"nothing"), keep_copies=True)
    assert {ack.outcome for ack in acks} == {Outcome.FAILED}
    assert {type(ack.error) for ack in acks} == {errors.InvalidImage}


async def test_a_copy_does_not_share_the_fate_of_a_row_that_is_refused(world):
    first = hashlib.sha256(png(1)).hexdigest()[:32]
    world.store.refused_ids = {first}
    acks = await world.index(copies("a", "b"), keep_copies=True)
    assert outcomes(acks)[0] is Outcome.FAILED
    world.store.refused_ids = set()
    acks = await world.index(copies("a", "b"), keep_copies=True)
    assert {row["uri"] for row in (await world.rows(*(ack.id for ack in acks))).values()} == {
        "a",
        "b",
    }


async def test_without_keep_copies_the_last_of_equal_pictures_stays(world):
    await world.index(copies("a", "b"))
    (row,) = (await world.rows(hashlib.sha256(png(1)).hexdigest()[:32])).values()
    assert row["uri"] == "b"
    assert await world.store.count(NAME, deadline=Deadline(T)) == 1


async def test_force_indexes_again_what_is_there_unchanged(world):
    await world.index(images(2))
    encoded = sum(world.encoder.batches)
    acks = await world.index(images(2), force=True)
    assert set(outcomes(acks).values()) == {Outcome.INDEXED}
    assert sum(world.encoder.batches) == encoded + 2


@pytest.mark.parametrize("first_there", [False, True])
async def test_of_one_id_sent_twice_the_later_wins_and_both_are_acknowledged(world, first_there):
    versions = [Image(i, png(i), id="same") for i in (1, 2, 1, 3, 1)]
    if first_there:
        # The last version is there at first: an early look must not let it pass for unchanged.
        await world.index(versions[:1])
    sent = [dataclasses.replace(image, sequence=i) for i, image in enumerate(versions)]
    acks = await world.index(sent)
    assert sorted(outcomes(acks)) == [0, 1, 2, 3, 4]
    assert Outcome.FAILED not in outcomes(acks).values()
    row = (await world.rows("same"))["same"]
    np.testing.assert_allclose(row["vector"], expected_vector(png(1)), atol=1e-6)


async def test_a_slow_earlier_version_does_not_overwrite_a_later_one():
    async with opened(max_encode_batch=1, write_wait_ms=0) as world:
        slow = decode(png(1), MODEL.preprocessing, 10**6).pixels.tobytes()
        gate = asyncio.Event()
        plain = world.encoder.encode_pixels

        async def encode(fingerprint, pixels, deadline, interactive):
            if pixels[0].tobytes() == slow:
                await gate.wait()
            return await plain(fingerprint, pixels, deadline, interactive)

        world.encoder.encode_pixels = encode
        task = asyncio.create_task(
            world.index(
                [Image(0, png(1), id="same"), Image(1, png(2), id="same"), Image(2, png(3))]
            )
        )
        await until(lambda: any("same" in ids for ids in world.store.writes))
        gate.set()
        acks = await task
        assert set(outcomes(acks).values()) == {Outcome.INDEXED}
        row = (await world.rows("same"))["same"]
        np.testing.assert_allclose(row["vector"], expected_vector(png(2)), atol=1e-6)


async def test_what_is_there_does_not_pass_for_unchanged_while_another_version_is_under_way(world):
    await world.index([Image(0, png(1), id="same")])
    world.encoder.open.clear()

    async def there_and_back():
        yield Image(0, png(2), id="same")
        await until(lambda: world.encoder.in_flight == 1)
        yield Image(1, png(1), id="same")
        await until(lambda: world.encoder.in_flight == 2)
        world.encoder.open.set()

    acks = await _collect(world.pipeline.index(Target(NAME, MODEL), there_and_back()))
    assert set(outcomes(acks).values()) == {Outcome.INDEXED}
    row = (await world.rows("same"))["same"]
    np.testing.assert_allclose(row["vector"], expected_vector(png(1)), atol=1e-6)


async def test_writes_run_side_by_side_but_never_two_of_one_id():
    async with opened(max_write_rows=1, write_wait_ms=0) as world:
        world.store.held_ids = {"same"}

        async def versions():
            yield Image(0, png(1), id="same")
            await until(lambda: world.store.asked == [["same"]])
            yield Image(1, png(2), id="other")
            await until(lambda: world.store.writes == [["other"]])
            yield Image(2, png(3), id="same")

        ending = asyncio.create_task(_collect(world.pipeline.index(TARGET, versions())))
        await until(lambda: world.metric("glimpse_indexer_stage_images", stage="write") == 2)
        assert world.store.asked == [["same"], ["other"]]
        world.store.open.set()
        acks = await ending
        assert set(outcomes(acks).values()) == {Outcome.INDEXED}
        assert world.store.asked == [["same"], ["other"], ["same"]]
        row = (await world.rows("same"))["same"]
        np.testing.assert_allclose(row["vector"], expected_vector(png(3)), atol=1e-6)


async def test_a_slow_look_up_does_not_hold_up_the_next():
    async with opened(max_look_up_rows=4) as world:
        world.store.readable.clear()
        ending = asyncio.create_task(world.index(images(40)))
        await until(lambda: world.store.reading == 10)
        world.store.readable.set()
        assert len(await ending) == 40


async def test_a_bad_later_version_leaves_the_earlier_one(world):
    acks = await world.index([Image(0, png(1), id="x"), Image(1, b"no picture", id="x")])
    assert outcomes(acks) == {0: Outcome.INDEXED, 1: Outcome.FAILED}
    row = (await world.rows("x"))["x"]
    np.testing.assert_allclose(row["vector"], expected_vector(png(1)), atol=1e-6)


async def test_bad_images_fail_alone_and_name_their_field(world):
    refused = png(77)
    world.encoder.refused.add(decode(refused, MODEL.preprocessing, 10**6).pixels.tobytes())
    world.store.refused_ids.add("p5")
    bad = {
        100: (Image(100, png(1), id='a"b'), "image.id"),
        101: (Image(101, png(1), id="u", uri="x" * 2049), "image.uri"),
        102: (Image(102, png(1), id="c", uri="a\nb"), "image.uri"),
        105: (Image(105, b"", id="e"), "image"),
        106: (Image(106, png(1)[:60], id="t"), "image"),
        107: (Image(107, refused, id="r"), "image"),
        108: (Image(108, bytes(33 * 2**20), id="big"), "image.content"),
        5: (images(1, 5)[0], "rows[0].metadata"),
    }
    good = [image for image in images(20) if image.sequence != 5]
    mixed = good[:10] + [image for image, _ in bad.values()] + good[10:]
    acks = {ack.sequence: ack for ack in await world.index(mixed)}
    assert len(acks) == len(mixed)
    for sequence, (_, field) in bad.items():
        assert acks[sequence].outcome is Outcome.FAILED
        assert isinstance(acks[sequence].error, errors.InvalidInput)
        assert acks[sequence].error.field == field
    assert acks[100].id == ""
    assert all(acks[image.sequence].outcome is Outcome.INDEXED for image in good)
    assert await world.store.count(NAME, deadline=Deadline(T)) == len(good)


async def test_a_sender_without_end_is_stopped_at_the_budget():
    async with opened(max_stream_bytes=2**20) as world:
        world.encoder.open.clear()
        taken = 0
        highest = 0.0

        def held():
            return world.metric("glimpse_indexer_held_bytes")

        async def endless():
            nonlocal taken, highest
            for image in images(3000):
                taken += 1
                yield image
                highest = max(highest, held())

        task = asyncio.create_task(_collect(world.pipeline.index(Target(NAME, MODEL), endless())))
        await until(lambda: held() > 2**20 - MOST_BYTES and world.encoder.in_flight == 4)
        assert taken <= 2**20 // LEAST_BYTES
        assert world.encoder.max_in_flight == 4
        world.encoder.open.set()
        acks = await task
        assert len(acks) == 3000
        assert highest <= 2**20
        assert held() == 0


async def test_a_caller_that_reads_no_acknowledgements_stops_the_sender():
    async with opened(max_stream_bytes=2**20) as world:
        taken = 0

        async def endless():
            nonlocal taken
            while True:
                taken += 1
                yield Image(taken, b"bad", id="not valid")

        acknowledgements = world.pipeline.index(Target(NAME, MODEL), endless())
        await anext(acknowledgements)
        bound = 2**20 - PIXELS_BYTES
        await until(lambda: world.metric("glimpse_indexer_held_bytes") > bound - MOST_BYTES)
        assert taken <= bound // LEAST_BYTES + 2
        await acknowledgements.aclose()


async def test_an_encoder_that_comes_back_within_the_budget_costs_nothing(world):
    world.encoder.failures = [
        errors.Unavailable("gone", retry_after_s=0.001),
        errors.Overloaded("full", retry_after_s=0.001),
        errors.DeadlineExceeded("slow"),
    ]
    acks = await world.index(images(3))
    assert set(outcomes(acks).values()) == {Outcome.INDEXED}
    assert not world.encoder.failures


async def test_a_store_that_comes_back_within_the_budget_costs_nothing(world):
    world.store.failures = [
        errors.Unavailable("gone", retry_after_s=0.001),
        errors.Overloaded("memory quota", retry_after_s=0.001),
        errors.DeadlineExceeded("slow"),
    ]
    acks = await world.index(images(3))
    assert set(outcomes(acks).values()) == {Outcome.INDEXED}
    assert not world.store.failures
    assert await world.store.count(NAME, deadline=Deadline(T)) == 3


@pytest.mark.parametrize("peer", ["encoder", "store"])
@pytest.mark.parametrize(
    "failure", [errors.Unavailable, errors.Overloaded, errors.DeadlineExceeded]
)
async def test_a_peer_away_for_longer_fails_the_affected_images_alone(peer, failure):
    async with opened(retry_budget_s=0.2) as world:
        await world.index(images(2))
        getattr(world, peer).failures = [failure("gone", retry_after_s=0.001)] * 1000
        acks = await world.index([*images(2), *images(4, 10), Image(99, b"bad", id="bad")])
        ends = {ack.sequence: ack for ack in acks}
        assert [ends[i].outcome for i in (0, 1)] == [Outcome.UNCHANGED] * 2
        for i in range(10, 14):
            assert isinstance(ends[i].error, errors.Unavailable)
        assert isinstance(ends[99].error, errors.InvalidImage)
        assert await world.store.count(NAME, deadline=Deadline(T)) == 2


async def test_nothing_is_written_where_too_little_is_free_for_milvus_lite(tmp_path):
    settings = {"milvus_lite_dir": tmp_path, "retry_budget_s": 0}
    async with opened(min_free_bytes=2**62, **settings) as world:
        (ack,) = await world.index(images(1))
        assert (ack.outcome, world.store.asked) == (Outcome.FAILED, [])
        assert f"the disk of {tmp_path} has " in str(ack.error)
        assert "INDEXER_MIN_FREE_BYTES is" in str(ack.error)
    async with opened(min_free_bytes=0, **settings) as world:
        (ack,) = await world.index(images(1))
        assert ack.outcome is Outcome.INDEXED


async def test_another_model_at_the_encoder_writes_no_vector(world):
    world.encoder.fingerprint = "0" * 64
    acks = await world.index(images(3))
    for ack in acks:
        assert isinstance(ack.error, errors.ModelMismatch)
        assert "0" * 64 in str(ack.error)
        assert MODEL.fingerprint in str(ack.error)
    assert await world.store.count(NAME, deadline=Deadline(T)) == 0


async def test_files_of_a_caller_that_leaves_do_not_wait_for_the_garbage_collector(world):
    content = png(1)
    before = sys.getrefcount(content)
    world.encoder.open.clear()
    gc.disable()
    try:
        call = asyncio.create_task(world.index([Image(i, content, id=f"{i}") for i in range(9)]))
        await until(lambda: world.encoder.in_flight)
        call.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await call
        del call
        await until(lambda: sys.getrefcount(content) == before)
    finally:
        gc.enable()


async def test_a_caller_that_leaves_leaves_nothing_behind(world):
    tasks = asyncio.all_tasks()
    world.encoder.open.clear()

    async def endless():
        i = 0
        while True:
            i += 1
            yield Image(i, png(i), id=f"p{i}")

    reader = asyncio.create_task(_collect(world.pipeline.index(Target(NAME, MODEL), endless())))
    await until(lambda: world.encoder.in_flight == 4)
    reader.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reader
    assert world.encoder.cancelled == 4
    assert asyncio.all_tasks() == tasks
    assert world.metric("glimpse_indexer_held_bytes") == 0
    assert world.metric("glimpse_indexer_streams") == 0
    for stage in ("look_up", "decode", "encode", "write"):
        assert not world.metric("glimpse_indexer_stage_images", stage=stage)


async def test_a_caller_that_leaves_before_an_images_first_step_is_waited_for_by_nobody(world):
    tasks = asyncio.all_tasks()

    async def leaving():
        call.cancel()  # its turn comes before that of the image
        yield Image(0, png(0), id="p0")
        await asyncio.Event().wait()

    call = asyncio.create_task(_collect(world.pipeline.index(Target(NAME, MODEL), leaving())))
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(call, T)
    assert asyncio.all_tasks() == tasks


async def test_a_stop_acknowledges_what_was_taken_then_asks_to_resume(world):
    world.encoder.open.clear()
    waiting = asyncio.Event()

    async def stalling():
        for image in images(6):
            yield image
        waiting.set()
        await asyncio.Event().wait()

    acks = []

    async def run():
        async for ack in world.pipeline.index(Target(NAME, MODEL), stalling()):
            acks.append(ack)

    task = asyncio.create_task(run())
    await waiting.wait()
    world.pipeline.drain()
    world.encoder.open.set()
    with pytest.raises(errors.Unavailable) as caught:
        await task
    assert caught.value.reason == "RESUME"
    assert len(acks) == 6
    assert set(outcomes(acks).values()) == {Outcome.INDEXED}
    with pytest.raises(errors.Unavailable):
        await world.index(images(1))


async def test_a_faulty_sender_gets_its_acknowledgements_before_its_error(world):
    async def faulty():
        for image in images(4):
            yield image
        raise errors.InvalidInput("image", "is missing")

    acks = []

    async def run():
        async for ack in world.pipeline.index(Target(NAME, MODEL), faulty()):
            acks.append(ack)

    with pytest.raises(errors.InvalidInput):
        await run()
    assert set(outcomes(acks).values()) == {Outcome.INDEXED}
    assert len(acks) == 4


async def test_streams_past_the_limit_are_turned_away():
    async with opened(max_streams=1) as world:
        world.encoder.open.clear()
        first = asyncio.create_task(world.index(images(1)))
        await until(lambda: world.encoder.in_flight == 1)
        with pytest.raises(errors.Overloaded):
            await world.index(images(1))
        world.encoder.open.set()
        await first
        await world.index(images(1))


async def test_two_streams_of_the_same_images_end_as_one_row_each(world):
    ends = await asyncio.gather(world.index(images(30)), world.index(images(30)))
    for acks in ends:
        assert len(acks) == 30
        assert Outcome.FAILED not in outcomes(acks).values()
    assert await world.store.count(NAME, deadline=Deadline(T)) == 30


async def test_rows_wait_for_no_others_once_the_sender_has_paused():
    async with opened(write_wait_ms=10_000) as world:
        answered = asyncio.Event()

        async def one_at_a_time():
            yield Image(0, png(0))
            await answered.wait()
            yield Image(1, png(1))

        async def run():
            async for _ in world.pipeline.index(Target(NAME, MODEL), one_at_a_time()):
                answered.set()

        await asyncio.wait_for(run(), T)


async def test_images_are_encoded_and_written_in_batches(world):
    await world.index(images(200))
    assert max(world.encoder.batches) == MODEL.max_images
    assert len(world.encoder.batches) < 120
    assert len(world.store.writes) < 60


async def _collect(acknowledgements):
    return [ack async for ack in acknowledgements]
