"""The indexer through its contract: a real server, a real encoder contract, real picture files."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import io
import struct
import zlib

import grpc
import numpy as np
import pytest
from google.protobuf import json_format, struct_pb2
from google.rpc import code_pb2
from PIL import Image as Picture
from prometheus_client import CollectorRegistry

from glimpse import errors
from glimpse.encoder.v1 import encoder_pb2
from glimpse.indexer.v1 import indexer_pb2 as pb
from glimpse.indexer.v1 import indexer_pb2_grpc
from glimpse.pictures.preprocess import decode
from glimpse.pictures.preprocessing import Preprocessing
from glimpse.transport.status import from_rpc_error, from_status
from services.common.deadline import Deadline
from services.common.encoder_client import EncoderClient
from services.common.encoders import Encoders
from services.indexer import bounds
from services.indexer.catalog import Catalog
from services.indexer.generations import Generations
from services.indexer.imports import Imports
from services.indexer.metrics import IndexerMetrics
from services.indexer.pipeline import Pipeline
from services.indexer.servicer import IndexerServicer
from services.indexer.settings import IndexerSettings
from services.indexer.settling import Settling
from services.vectors.filters import Comparison
from services.vectors.records import CollectionSpec
from tests.fakes import FakeEncoder, ThreadDecoder, serve, vector_of
from tests.memory_store import MemoryStore
from tests.waiting import until

NAME = "pictures"
OPTIONS = pb.IndexOptions(collection=NAME, create_collection=True)
FORCED = pb.IndexOptions(collection=NAME, create_collection=True, force=True)
T = 20.0


class Service:
    """An indexer on a loopback port and everything it stands on."""

    def __init__(self, store, encoder, target, pipeline, registry):
        self.store, self.encoder, self.target, self.pipeline = store, encoder, target, pipeline
        self.registry = registry
        self.channel = grpc.aio.insecure_channel(
            target, options=[("grpc.max_send_message_length", 64 * 2**20)]
        )
        self.stub = indexer_pb2_grpc.IndexerStub(self.channel)

    async def index(self, images, options=OPTIONS):
        """Acknowledgements by sequence number, and the totals."""
        call = self.stub.IndexImages(requests(images, options), timeout=T)
        acks, totals = {}, pb.Totals()
        ended = False
        async for response in call:
            assert not ended, "totals come last"
            if response.WhichOneof("message") == "totals":
                totals, ended = response.totals, True
            else:
                ack = response.acknowledgement
                assert ack.sequence not in acks
                acks[ack.sequence] = ack
        assert ended
        return acks, totals

    def sample(self, name, **labels):
        return self.registry.get_sample_value(name, labels)

    async def row(self, identity, *fields):
        fields = fields or ("vector", "uri", "metadata", "width", "height", "format")
        return (await self.store.fetch(NAME, [identity], fields, deadline=Deadline(T)))[identity]


@pytest.fixture
async def service():
    async with opened() as made:
        yield made


@contextlib.asynccontextmanager
async def opened(store=None, encoder=None, others=(), **values):
    """Over an encoder that is made and served here, and the targets of others."""
    encoder = encoder or FakeEncoder()
    store = store or MemoryStore()
    values = {"retry_budget_s": 2.0, "write_wait_ms": 20, **values}
    settings = IndexerSettings(**values)
    async with encoder.serve() as encoder_target:
        targets = [encoder_target, *others]
        peer = Encoders([EncoderClient(each, settings.max_message_bytes) for each in targets])
        registry = CollectorRegistry()
        metrics = IndexerMetrics(registry)
        pipeline = Pipeline(store, peer, ThreadDecoder(), settings, metrics)
        catalog = Catalog(store, peer, settings)
        settling = Settling(store, settings, metrics)
        imports = Imports(store, settings, metrics, pipeline.line)
        generations = Generations(store, peer, settings)
        servicer = IndexerServicer(
            pipeline, imports, catalog, generations, settling, store, settings
        )
        add = indexer_pb2_grpc.add_IndexerServicer_to_server
        async with serve(add, servicer) as target:
            made = Service(store, encoder, target, pipeline, registry)
            made.catalog, made.imports, made.generations = catalog, imports, generations
            made.encoder_target = encoder_target
            yield made
            await made.channel.close()
        await peer.close()


async def requests(images, options=OPTIONS):
    yield pb.IndexImagesRequest(options=options)
    for image in images:
        yield pb.IndexImagesRequest(image=image)


def drawn(shade, size=(20, 16), mode="RGB"):
    picture = Picture.new("RGB", size, (shade % 256, shade // 256 % 256, 7))
    return picture.convert(mode)


def file(picture, kind="PNG", **options):
    stream = io.BytesIO()
    picture.save(stream, kind, **options)
    return stream.getvalue()


def image(i, **fields):
    return pb.Image(**{"sequence": i, "id": f"p{i}", "content": file(drawn(i)), **fields})


def as_struct(value):
    return json_format.ParseDict(value, struct_pb2.Struct())


def outcomes(acks):
    return {sequence: ack.outcome for sequence, ack in acks.items()}


async def failure(call):
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return from_rpc_error(caught.value, "indexer")


async def stream_failure(service, *messages):
    """How a stream ends after `messages`, the last of which ends it.

    Nothing is written behind them: gRPC's client reports a write to an ended stream as INTERNAL,
    and the status that ended it is lost.
    """
    call = service.stub.IndexImages(timeout=T)
    for message in messages:
        await call.write(message)
    if not messages:
        await call.done_writing()
    return await failure(call.read())


def starting(collection=NAME, create=True):
    options = pb.IndexOptions(collection=collection, create_collection=create)
    return pb.IndexImagesRequest(options=options)


# Indexing


async def test_images_become_rows_with_their_attributes_and_totals_come_last(service):
    content = file(drawn(5, (40, 30)), "JPEG")
    metadata = {"year": 2021, "share": 0.5, "tags": ["a", 1], "open": True, "none": None}
    sent = [
        image(1, content=content, uri="photos/ä b.jpg", metadata=as_struct(metadata)),
        *(image(i) for i in range(2, 40)),
    ]
    acks, totals = await service.index(sent)
    assert set(outcomes(acks).values()) == {pb.OUTCOME_INDEXED}
    assert sorted(acks) == list(range(1, 40))
    assert (totals.indexed, totals.unchanged, totals.failed) == (39, 0, 0)
    row = await service.row("p1")
    assert (row["uri"], row["width"], row["height"], row["format"]) == (
        "photos/ä b.jpg",
        40,
        30,
        "JPEG",
    )
    assert row["metadata"] == metadata
    assert type(row["metadata"]["year"]) is int
    pixels = decode(content, Preprocessing(service.encoder.image_size), 10**6).pixels
    np.testing.assert_allclose(row["vector"], vector_of(pixels.tobytes(), 32), atol=1e-6)
    assert service.encoder.items["pixels"] == 39


async def test_id_defaults_to_the_content(service):
    content = file(drawn(3))
    acks, _ = await service.index([pb.Image(sequence=2**64 - 1, content=content)])
    assert acks[2**64 - 1].id == hashlib.sha256(content).hexdigest()[:32]


async def test_second_run_is_unchanged_and_encodes_nothing(service):
    sent = [image(i, uri=f"{i}.png", metadata=as_struct({"n": i})) for i in range(20)]
    await service.index(sent)
    encoded = service.encoder.items["pixels"]
    acks, totals = await service.index(sent)
    assert set(outcomes(acks).values()) == {pb.OUTCOME_UNCHANGED}
    assert (totals.indexed, totals.unchanged, totals.failed) == (0, 20, 0)
    assert service.encoder.items["pixels"] == encoded
    forced = pb.IndexOptions(collection=NAME, force=True)
    acks, _ = await service.index(sent, forced)
    assert set(outcomes(acks).values()) == {pb.OUTCOME_INDEXED}


async def test_stream_resumed_after_a_cut_is_unchanged_for_what_was_acknowledged(service):
    sent = [image(i) for i in range(30)]
    acknowledged = set()
    call = service.stub.IndexImages()
    await call.write(pb.IndexImagesRequest(options=OPTIONS))
    for each in sent[:20]:
        await call.write(pb.IndexImagesRequest(image=each))
    while len(acknowledged) < 5:
        acknowledged.add((await call.read()).acknowledgement.sequence)
    call.cancel()
    acks, totals = await service.index(sent)
    assert sorted(acks) == list(range(30))
    assert {acks[sequence].outcome for sequence in acknowledged} == {pb.OUTCOME_UNCHANGED}
    assert totals.failed == 0
    assert await service.store.count(NAME, deadline=Deadline(T)) == 30


async def test_cut_stream_stops_its_work_and_frees_its_place():
    async with opened(max_streams=1) as service:
        service.encoder.open.clear()
        call = service.stub.IndexImages(requests([image(1)]))
        await until(lambda: service.encoder.items["calls"] > 0)
        refused = await stream_failure(service, starting())
        assert isinstance(refused, errors.Overloaded)
        call.cancel()
        await until(lambda: not service.sample("glimpse_indexer_streams"))
        service.encoder.open.set()
        acks, _ = await service.index([image(2)])
        assert acks[2].outcome == pb.OUTCOME_INDEXED
        assert await service.store.count(NAME, deadline=Deadline(T)) == 1


async def test_caller_that_leaves_without_reading_leaves_nothing_behind(service):
    call = service.stub.IndexImages()
    await call.write(pb.IndexImagesRequest(options=OPTIONS))
    for i in range(50):
        await call.write(pb.IndexImagesRequest(image=image(i)))
    await until(lambda: service.sample("glimpse_indexer_streams") == 1)
    call.cancel()
    await until(lambda: not service.sample("glimpse_indexer_streams"))
    assert service.sample("glimpse_indexer_held_bytes") == 0
    for stage in ("look_up", "decode", "encode", "write"):
        assert not service.sample("glimpse_indexer_stage_images", stage=stage)


async def test_draining_acknowledges_what_was_taken_then_asks_to_resume(service):
    call = service.stub.IndexImages()
    await call.write(pb.IndexImagesRequest(options=OPTIONS))
    await call.write(pb.IndexImagesRequest(image=image(1)))
    first = await call.read()
    service.encoder.open.clear()
    calls = service.encoder.items["calls"]
    await call.write(pb.IndexImagesRequest(image=image(2)))
    await until(lambda: service.encoder.items["calls"] > calls)
    service.pipeline.drain()
    service.encoder.open.set()
    second = await call.read()
    assert {each.acknowledgement.sequence for each in (first, second)} == {1, 2}
    assert second.acknowledgement.outcome == pb.OUTCOME_INDEXED
    error = await failure(call.read())
    assert isinstance(error, errors.Unavailable)
    assert error.reason == "RESUME"


async def test_batch_acknowledges_in_the_order_of_the_request(service):
    images = [image(7), image(7, id="other"), image(1, content=b"none"), image(3)]
    request = pb.BatchIndexImagesRequest(options=OPTIONS, images=images)
    response = await service.stub.BatchIndexImages(request, timeout=T)
    acks = response.acknowledgements
    assert [ack.sequence for ack in acks] == [7, 7, 1, 3]
    assert [ack.id for ack in acks] == ["p7", "other", "p1", "p3"]
    assert [ack.outcome for ack in acks] == [
        pb.OUTCOME_INDEXED,
        pb.OUTCOME_INDEXED,
        pb.OUTCOME_FAILED,
        pb.OUTCOME_INDEXED,
    ]


async def test_images_of_a_small_batch_pass_those_of_large_ones_and_of_streams(service):
    async def priorities(count):
        service.encoder.priorities.clear()
        images = [image(n) for n in range(count)]
        request = pb.BatchIndexImagesRequest(options=FORCED, images=images)
        await service.stub.BatchIndexImages(request, timeout=T)
        return service.encoder.priorities

    assert await priorities(8) == {encoder_pb2.PRIORITY_INTERACTIVE}
    assert await priorities(9) == {encoder_pb2.PRIORITY_BULK}
    service.encoder.priorities.clear()
    await service.index([image(1)], FORCED)
    assert service.encoder.priorities == {encoder_pb2.PRIORITY_BULK}


@pytest.mark.parametrize("count", [0, 257])
async def test_batch_of_a_wrong_size_is_refused(service, count):
    images = [pb.Image(content=b"x")] * count
    request = pb.BatchIndexImagesRequest(options=OPTIONS, images=images)
    error = await failure(service.stub.BatchIndexImages(request, timeout=T))
    assert isinstance(error, errors.InvalidInput)
    assert error.field == "images"
    assert "256" in str(error)


async def test_batch_without_an_encoder_ends_at_its_deadline():
    async with opened(retry_budget_s=60.0, default_timeout_s=0.5) as service:
        service.encoder.open.clear()
        request = pb.BatchIndexImagesRequest(options=OPTIONS, images=[image(1)])
        error = await failure(service.stub.BatchIndexImages(request))
        assert isinstance(error, errors.DeadlineExceeded)


# Bad input


def bomb():
    """A PNG of a few hundred bytes that claims 30,000 x 30,000 pixels."""

    def chunk(kind, data):
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    header = struct.pack(">IIBBBBB", 30_000, 30_000, 8, 0, 0, 0, 0)
    data = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(1000)))
    return b"\x89PNG\r\n\x1a\n" + data + chunk(b"IEND", b"")


BAD_FILES = {
    "zero-byte": b"",
    "non-image": b"#!/bin/sh\necho hello\n",
    "unreadable": b"\x89PNG\r\n\x1a\n" + bytes(100),
    "truncated": file(Picture.effect_noise((64, 64), 80).convert("RGB"), "JPEG")[:900],
    "bomb": bomb(),
}


def gray_16():
    return Picture.fromarray(np.full((16, 20), 40_000, np.uint16))


def rotated():
    exif = Picture.Exif()
    exif[0x0112] = 6
    return file(drawn(9, (40, 30)), "JPEG", exif=exif)


GOOD_FILES = {
    "CMYK": (file(drawn(1, mode="CMYK"), "JPEG"), (20, 16), "JPEG"),
    "16-bit": (file(gray_16()), (20, 16), "PNG"),
    "animated": (
        file(drawn(1), "GIF", save_all=True, append_images=[drawn(99), drawn(199)]),
        (20, 16),
        "GIF",
    ),
    "EXIF-rotated": (rotated(), (30, 40), "JPEG"),
    "1x1": (file(drawn(4, (1, 1))), (1, 1), "PNG"),
    "named .png, is JPEG": (file(drawn(8), "JPEG"), (20, 16), "JPEG"),
}


async def test_odd_files_are_indexed_and_bad_ones_fail_beside_unharmed_neighbours(service):
    sent, expected_good, expected_bad = [], {}, {}
    files = [*BAD_FILES.items(), *((name, each[0]) for name, each in GOOD_FILES.items())]
    for number, (name, content) in enumerate(files):
        sent += [image(1000 + number), image(number, content=content, uri=f"{name}.png")]
        (expected_bad if name in BAD_FILES else expected_good)[number] = name
    acks, totals = await service.index(sent)
    for number in expected_bad:
        error = from_status(acks[number].error)
        assert acks[number].outcome == pb.OUTCOME_FAILED
        assert isinstance(error, errors.InvalidInput)
        assert error.field == "image"
        assert error.reason.startswith("IMAGE_")
    for number, name in expected_good.items():
        assert acks[number].outcome == pb.OUTCOME_INDEXED, name
        row = await service.row(f"p{number}")
        assert ((row["width"], row["height"]), row["format"]) == GOOD_FILES[name][1:], name
    for number in range(len(files)):
        assert acks[1000 + number].outcome == pb.OUTCOME_INDEXED
    assert totals.failed == len(expected_bad)


def nested(levels):
    value = 1
    for _ in range(levels):
        value = {"a": value}
    return as_struct(value)


def values(count):
    return struct_pb2.Struct(
        fields={
            "a": struct_pb2.Value(
                list_value=struct_pb2.ListValue(values=[struct_pb2.Value(number_value=1)] * count)
            )
        }
    )


BAD_FIELDS = {
    "quote in id": ({"id": 'x" or "1" == "1'}, "image.id", "A-Z"),
    "long id": ({"id": "x" * 129}, "image.id", "128"),
    "line break after id": ({"id": "x\n"}, "image.id", "A-Z"),
    "long uri": ({"uri": "x" * 2049}, "image.uri", "2048"),
    "control character in uri": ({"uri": "a\x00b"}, "image.uri", "control"),
    "many values of metadata": ({"metadata": values(5_900)}, "image.metadata", "16384"),
    "countless values of metadata": ({"metadata": values(200_000)}, "image.metadata", "16384"),
    "large metadata": ({"metadata": as_struct({"a": "x" * 16_384})}, "image.metadata", "16384"),
    "deep metadata": ({"metadata": nested(9)}, "image.metadata", "8 levels"),
    "infinite metadata": (
        {"metadata": struct_pb2.Struct(fields={"a": struct_pb2.Value(number_value=float("inf"))})},
        "image.metadata",
        "finite",
    ),
    "large file": ({"content": bytes(2**20 + 1)}, "image.content", str(2**20)),
    "many pixels": ({"content": bomb()}, "image", "50000000"),
}


async def test_broken_bounds_name_field_and_bound_and_fail_alone():
    async with opened(max_file_bytes=2**20) as service:
        sent = []
        for number, (fields, *_) in enumerate(BAD_FIELDS.values()):
            sent += [image(1000 + number), image(number, **fields)]
        acks, totals = await service.index(sent)
        for number, (_, field, bound) in enumerate(BAD_FIELDS.values()):
            error = from_status(acks[number].error)
            assert isinstance(error, errors.InvalidInput)
            assert error.field == field
            assert bound in str(error)
            assert acks[1000 + number].outcome == pb.OUTCOME_INDEXED
        assert totals.failed == len(BAD_FIELDS)


async def test_a_message_of_countless_fields_is_refused_unparsed(service):
    request = pb.BatchIndexImagesRequest(options=OPTIONS, images=[pb.Image()] * 20_000)
    error = await failure(service.stub.BatchIndexImages(request, timeout=T))
    assert (error.field, error.reason) == ("request", "INVALID_INPUT")


async def test_values_at_their_bounds_are_taken(service):
    sent = [
        image(1, id="x" * 128),
        image(2, id="a/b:c._-9"),
        image(3, uri="ü" * 2048),
        image(4, metadata=nested(8)),
        image(6, metadata=values(5_457)),  # 60,042 bytes as a message, 16,378 as JSON
        image(5, metadata=as_struct({"a": "x" * 16_000})),
    ]
    acks, _ = await service.index(sent)
    assert set(outcomes(acks).values()) == {pb.OUTCOME_INDEXED}


@pytest.mark.parametrize(
    "messages",
    [
        [],
        [pb.IndexImagesRequest(image=pb.Image(content=b"x"))],
        [pb.IndexImagesRequest()],
        [pb.IndexImagesRequest(options=OPTIONS), pb.IndexImagesRequest(options=OPTIONS)],
        [pb.IndexImagesRequest(options=OPTIONS), pb.IndexImagesRequest()],
    ],
    ids=["nothing", "image first", "empty first", "options twice", "empty later"],
)
async def test_messages_out_of_order_are_refused(service, messages):
    error = await stream_failure(service, *messages)
    assert isinstance(error, errors.InvalidInput)
    assert error.field in ("options", "image")


async def test_stream_whose_options_never_come_ends_and_frees_its_place():
    async with opened(default_timeout_s=0.05) as service:
        call = service.stub.IndexImages(timeout=60)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call.read()
        assert isinstance(from_rpc_error(caught.value, "indexer"), errors.DeadlineExceeded)


# Collections


async def test_unknown_collection_is_not_found_unless_asked_to_make_it(service):
    error = await stream_failure(service, starting(create=False))
    assert isinstance(error, errors.NotFound)
    options = pb.IndexOptions(collection=NAME)
    request = pb.BatchIndexImagesRequest(options=options, images=[image(1)])
    assert isinstance(
        await failure(service.stub.BatchIndexImages(request, timeout=T)), errors.NotFound
    )
    assert isinstance(
        await failure(
            service.stub.GetCollection(pb.GetCollectionRequest(collection=NAME), timeout=T)
        ),
        errors.NotFound,
    )


@pytest.mark.parametrize("name", ["", "1a", "a-b", "a b", 'a"', "a" * 256, "a\n"])
async def test_collection_names_are_bounded(service, name):
    error = await stream_failure(service, starting(name))
    assert isinstance(error, errors.InvalidInput)
    request = pb.CreateCollectionRequest(collection=name)
    error = await failure(service.stub.CreateCollection(request, timeout=T))
    assert error.field == "collection"


async def test_two_streams_that_make_the_same_collection_both_succeed(service):
    ends = await asyncio.gather(*(service.index([image(i)]) for i in range(4)))
    assert [totals.indexed for _, totals in ends] == [1] * 4
    assert await service.store.count(NAME, deadline=Deadline(T)) == 4


async def test_vectors_of_another_model_are_refused_naming_both(service):
    spec = CollectionSpec(NAME, 32, "old model", "0" * 64)
    await service.store.create_collection(spec, deadline=Deadline(T))
    error = await stream_failure(service, starting())
    assert isinstance(error, errors.FailedPrecondition)
    assert error.reason == "MODEL_MISMATCH"
    for part in ("old model", "0" * 64, "fake", "f" * 64):
        assert part in str(error)


async def test_a_collection_of_pictures_that_were_seen_otherwise_is_refused_saying_so(service):
    await service.store.create_collection(
        CollectionSpec(NAME, 32, "fake", "f" * 64 + "/224px/v1"), deadline=Deadline(T)
    )
    service.encoder.fingerprint = "f" * 64 + "/224px/v2"
    error = await stream_failure(service, starting())
    assert error.reason == "MODEL_MISMATCH"
    assert str(error).endswith("pictures are seen otherwise: 224px/v1 then, 224px/v2 now")


@pytest.mark.parametrize(("name", "value"), [("preprocessing_version", "0"), ("resize", 99)])
async def test_a_model_whose_pixels_cannot_be_made_is_refused_by_name(service, name, value):
    setattr(service.encoder, name, value)
    error = await stream_failure(service, starting())
    assert isinstance(error, errors.FailedPrecondition)
    assert error.reason == "PREPROCESSING_UNKNOWN"
    assert "fake" in str(error)
    with pytest.raises(errors.NotFound):
        await service.store.get_spec(NAME, deadline=Deadline(T))


async def test_encoder_that_changes_its_model_under_a_stream_writes_nothing(service):
    await service.index([image(1)])
    call = service.stub.IndexImages()
    await call.write(pb.IndexImagesRequest(options=OPTIONS))
    await call.write(pb.IndexImagesRequest(image=image(2)))
    await call.read()
    service.encoder.fingerprint = "0" * 64
    await call.write(pb.IndexImagesRequest(image=image(3)))
    ack = (await call.read()).acknowledgement
    assert from_status(ack.error).reason == "MODEL_MISMATCH"
    await call.done_writing()
    assert (await call.read()).totals.failed == 1
    assert await service.store.count(NAME, deadline=Deadline(T)) == 2


async def test_collection_is_made_described_listed_and_dropped(service):
    stub = service.stub
    request = pb.CreateCollectionRequest(collection=NAME, metric=pb.METRIC_COSINE)
    made = (await stub.CreateCollection(request, timeout=T)).collection
    assert (made.name, made.dimension, made.rows) == (NAME, 32, 0)
    assert (made.model_name, made.model_fingerprint) == ("fake", "f" * 64)
    assert made.metric == pb.METRIC_COSINE
    assert isinstance(
        await failure(stub.CreateCollection(request, timeout=T)), errors.AlreadyExists
    )
    await stub.CreateCollection(pb.CreateCollectionRequest(collection="another"), timeout=T)
    await service.index([image(1), image(2)])
    got = await stub.GetCollection(pb.GetCollectionRequest(collection=NAME), timeout=T)
    assert got.collection.rows == 2
    assert got.collection.bytes > 2 * 32 * 4
    assert got.collection.index_kind == pb.INDEX_KIND_FLAT
    assert got.collection.created_at_ms > 0
    listed = await stub.ListCollections(pb.ListCollectionsRequest(), timeout=T)
    assert [each.name for each in listed.collections] == ["another", NAME]
    for confirm in ("", "Pictures", "pictures "):
        request = pb.DropCollectionRequest(collection=NAME, confirm=confirm)
        error = await failure(stub.DropCollection(request, timeout=T))
        assert error.field == "confirm"
    request = pb.DropCollectionRequest(collection=NAME, confirm=NAME)
    await stub.DropCollection(request, timeout=T)
    assert isinstance(await failure(stub.DropCollection(request, timeout=T)), errors.NotFound)


@pytest.mark.parametrize(
    ("fields", "field"),
    [({"index_kind": 99}, "index_kind"), ({"metric": 99}, "metric")],
)
async def test_unknown_kinds_are_refused(service, fields, field):
    request = pb.CreateCollectionRequest(collection=NAME, **fields)
    error = await failure(service.stub.CreateCollection(request, timeout=T))
    assert error.field == field


async def test_index_kind_that_the_store_does_not_have_is_refused(service):
    request = pb.CreateCollectionRequest(collection=NAME, index_kind=pb.INDEX_KIND_DISKANN)
    error = await failure(service.stub.CreateCollection(request, timeout=T))
    assert error.field == "index_kind"


async def test_images_are_deleted_by_id_and_by_filter():
    store = MemoryStore({'metadata["n"] >= 6': Comparison("metadata", ">=", 6, ("n",))})
    async with opened(store) as service:
        await service.index([image(i, metadata=as_struct({"n": i})) for i in range(8)])

        async def delete(**selector):
            request = pb.DeleteImagesRequest(collection=NAME, **selector)
            return (await service.stub.DeleteImages(request, timeout=T)).deleted

        async def count(filter=""):
            request = pb.CountImagesRequest(collection=NAME, filter=filter)
            return (await service.stub.CountImages(request, timeout=T)).count

        assert await count('metadata["n"] >= 6') == 2
        before = await count()
        assert await delete(ids=pb.Ids(ids=["p0", "p1", "never"])) == 2
        assert await count() == before - 2
        assert await delete(filter='metadata["n"] >= 6') == 2
        assert await store.count(NAME, deadline=Deadline(T)) == 4


async def test_images_are_listed_page_by_page_with_what_is_asked_for(service):
    await service.index([image(i, uri=f"u/{i}", metadata=as_struct({"n": [i]})) for i in range(8)])

    async def page(**fields):
        request = pb.ListImagesRequest(collection=NAME, **fields)
        return await service.stub.ListImages(request, timeout=T)

    first = await page(page_size=5, output_fields=["uri", "metadata", "uri"])
    assert [image.id for image in first.images] == [f"p{i}" for i in range(5)]
    assert (first.images[3].uri, dict(first.images[3].metadata)["n"][0]) == ("u/3", 3)
    assert (first.next_after_id, first.images[3].width) == ("p4", 0)
    second = await page(page_size=5, after_id=first.next_after_id, output_fields=["vector"])
    assert [image.id for image in second.images] == ["p5", "p6", "p7"]
    assert sum(value**2 for value in second.images[0].vector) == pytest.approx(1, abs=1e-5)
    assert second.next_after_id == ""


async def test_images_of_given_ids_are_listed_by_the_same_pages(service):
    await service.index([image(i, uri=f"u/{i}") for i in range(8)])

    async def page(**fields):
        ids = pb.Ids(ids=["p6", "never", "p2", "p6", "p4"])
        request = pb.ListImagesRequest(collection=NAME, ids=ids, output_fields=["uri"], **fields)
        answer = await service.stub.ListImages(request, timeout=T)
        return [(each.id, each.uri) for each in answer.images], answer.next_after_id

    assert await page() == ([("p2", "u/2"), ("p4", "u/4"), ("p6", "u/6")], "")
    assert await page(page_size=2) == ([("p2", "u/2"), ("p4", "u/4")], "p4")
    assert await page(after_id="p4") == ([("p6", "u/6")], "")


async def test_a_page_of_large_images_ends_early_and_the_next_continues(service, monkeypatch):
    monkeypatch.setattr(bounds, "MAX_LISTED_BYTES", 1)
    await service.index([image(i, metadata=as_struct({"n": "x" * 9_000})) for i in range(200)])
    listed, after_id, pages = [], "", 0
    while pages == 0 or after_id:
        request = pb.ListImagesRequest(
            collection=NAME, after_id=after_id, output_fields=["metadata"]
        )
        answer = await service.stub.ListImages(request, timeout=T)
        listed += [image.id for image in answer.images]
        after_id, pages = answer.next_after_id, pages + 1
    assert listed == sorted(f"p{i}" for i in range(200))
    assert pages > 1


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"page_size": 10_001}, "page_size"),
        ({"after_id": "no id"}, "after_id"),
        ({"output_fields": ["score"]}, "output_fields"),
        ({"output_fields": ["uri"] * 65}, "output_fields"),
        ({"filter": "x" * 65_537}, "filter"),
        ({"filter": "width >"}, "filter"),
        ({"ids": pb.Ids()}, "ids"),
        ({"ids": pb.Ids(ids=["a"] * 1_001)}, "ids"),
        ({"ids": pb.Ids(ids=["a", "no id"])}, "ids[1]"),
        ({"ids": pb.Ids(ids=["a"]), "filter": "width > 1"}, "ids"),
    ],
)
async def test_a_list_beyond_a_bound_is_refused(service, fields, field):
    await service.index([image(1)])
    error = await failure(
        service.stub.ListImages(pb.ListImagesRequest(collection=NAME, **fields), timeout=T)
    )
    assert error.field == field


@pytest.mark.parametrize(
    ("selector", "field"),
    [
        ({}, "selector"),
        ({"filter": ""}, "filter"),
        ({"filter": "  "}, "filter"),
        ({"filter": "width >"}, "filter"),
        ({"ids": pb.Ids()}, "ids"),
        ({"ids": pb.Ids(ids=["x"] * 1001)}, "ids"),
        ({"ids": pb.Ids(ids=["p1", '" or id != "'])}, "ids[1]"),
    ],
)
async def test_deletion_without_a_clear_selection_is_refused(service, selector, field):
    await service.index([image(1)])
    request = pb.DeleteImagesRequest(collection=NAME, **selector)
    error = await failure(service.stub.DeleteImages(request, timeout=T))
    assert isinstance(error, errors.InvalidInput)
    assert error.field == field
    assert await service.store.count(NAME, deadline=Deadline(T)) == 1


# Peers that are away


async def test_encoder_that_stays_away_fails_images_with_unavailable_and_spares_the_rest():
    async with opened(retry_budget_s=0.3) as service:
        await service.index([image(1)])
        service.encoder.failures = 10**6
        acks, totals = await service.index([image(1), image(2), image(3, content=b"none")])
        assert acks[1].outcome == pb.OUTCOME_UNCHANGED
        assert acks[2].error.code == code_pb2.UNAVAILABLE
        assert acks[3].error.code == code_pb2.INVALID_ARGUMENT
        assert (totals.unchanged, totals.failed) == (1, 2)
        service.encoder.failures = 0
        acks, _ = await service.index([image(2)])
        assert acks[2].outcome == pb.OUTCOME_INDEXED


async def test_a_stream_waits_for_a_peer_no_longer_than_its_caller():
    async with opened(retry_budget_s=3600) as service:
        await service.index([image(1)])
        service.encoder.failures = 10**6
        options = pb.IndexOptions(collection=NAME, max_wait_ms=300)
        acks, _ = await service.index([image(2)], options)
        assert acks[2].error.message.startswith("given up on the encoder after 0.3 s: ")


async def test_failing_encoder_is_asked_again(service):
    await service.index([image(1)])
    service.encoder.failures = 2
    acks, _ = await service.index([image(2)])
    assert acks[2].outcome == pb.OUTCOME_INDEXED
