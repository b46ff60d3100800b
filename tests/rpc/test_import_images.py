"""Rows with vectors through the indexer's contract: in by ImportImages, out by ListImages."""

from __future__ import annotations

import asyncio
import json

import grpc
import numpy as np
import pytest

from glimpse import Client, errors
from glimpse.indexer.v1 import indexer_pb2 as pb
from glimpse.transport.status import from_rpc_error, from_status
from services.common.deadline import Deadline
from services.indexer import bounds
from services.vectors.records import CollectionSpec
from tests.memory_store import MemoryStore
from tests.rpc.test_indexer import NAME, T, opened
from tests.rpc.test_indexer_generations import SwitchingStore
from tests.waiting import until

DIMENSION = 8
OPTIONS = pb.ImportOptions(
    collection=NAME,
    create_collection=True,
    model_name="elsewhere",
    model_fingerprint="e" * 64,
    dimension=DIMENSION,
)


@pytest.fixture
async def service():
    async with opened() as made:
        yield made


def vector(number, dimension=DIMENSION):
    values = np.random.default_rng(number).standard_normal(dimension)
    return (values / np.linalg.norm(values)).astype("<f4").tobytes()


def row(number, **fields):
    return pb.ImportedImage(**{"id": f"r{number:04}", "vector": vector(number), **fields})


def batch(sequence, *images):
    return pb.ImportBatch(sequence=sequence, images=images)


def options(**changes):
    changed = pb.ImportOptions()
    changed.CopyFrom(OPTIONS)
    for name, value in changes.items():
        setattr(changed, name, value)
    return changed


async def requests(batches, given=OPTIONS):
    yield pb.ImportImagesRequest(options=given)
    for each in batches:
        yield pb.ImportImagesRequest(batch=each)


async def imported(service, *batches, given=OPTIONS):
    """The acknowledgements, and the totals."""
    call = service.stub.ImportImages(requests(batches, given), timeout=T)
    *acks, last = [answer async for answer in call]
    assert last.WhichOneof("message") == "totals"
    return [answer.acknowledgement for answer in acks], last.totals


async def refusal(service, messages):
    """The error that a stream of these messages ends with."""

    async def each():
        for message in messages:
            yield message

    with pytest.raises(grpc.aio.AioRpcError) as raised:
        async for _ in service.stub.ImportImages(each(), timeout=T):
            pass
    return from_rpc_error(raised.value, "the indexer")


async def listed(service, **fields):
    """All images, packed, page by page."""
    found, after_id = [], None
    while after_id != "":
        request = pb.ListImagesRequest(
            collection=NAME, after_id=after_id or "", packed=True, bounded=bool(after_id), **fields
        )
        page = await service.stub.ListImages(request, timeout=T)
        found += page.images
        after_id = page.next_after_id
    return found


async def test_rows_come_out_as_they_went_in(service):
    metadata = '{"n": 9007199254740993, "deep": [1.5, {"ü": null}]}'
    given = [
        row(1, uri="s3://a/1.jpg", width=640, height=480, format="JPEG", metadata_json=metadata,
            indexed_at_ms=1_732_000_000_123, content_sha256="ab" * 32),
        row(2),
    ]  # fmt: skip
    acks, totals = await imported(service, batch(7, *given), batch(8, row(3)))
    assert [(ack.sequence, ack.written) for ack in acks] == [(7, 2), (8, 1)]
    assert (totals.written, totals.rejected) == (3, 0)
    assert service.encoder.items == {}, "no encoder is asked"

    fields = ["vector", "uri", "width", "height", "format", "metadata", "indexed_at_ms",
              "content_sha256"]  # fmt: skip
    first, second, third = await listed(service, output_fields=fields)
    assert json.loads(first.metadata_json) == json.loads(metadata), "also past what doubles hold"
    assert (first.packed_vector, first.vector) == (given[0].vector, [])
    for name in ("id", "uri", "width", "height", "format", "indexed_at_ms", "content_sha256"):
        assert getattr(first, name) == getattr(given[0], name)
    assert (second.metadata_json, third.id) == ("{}", "r0003")
    assert second.indexed_at_ms > given[0].indexed_at_ms, "of one that has none: now"


@pytest.mark.parametrize(
    ("field", "bad"),
    [
        ("id", row(1, id="")),
        ("id", row(1, id='x" or id != "')),
        ("vector", row(1, vector=b"")),
        ("vector", row(1, vector=vector(1)[:-4])),
        ("vector", row(1, vector=vector(1) + b"\0")),
        ("vector", row(1, vector=np.full(DIMENSION, np.nan, "<f4").tobytes())),
        ("vector", row(1, vector=np.full(DIMENSION, np.inf, "<f4").tobytes())),
        ("vector", row(1, vector=np.full(DIMENSION, 3e38, "<f4").tobytes())),
        ("vector", row(1, vector=bytes(4 * DIMENSION))),
        ("uri", row(1, uri="u" * 2_049)),
        ("uri", row(1, uri="a\nb")),
        ("width", row(1, width=2**31)),
        ("format", row(1, format="F" * 17)),
        ("content_sha256", row(1, content_sha256="0" * 65)),
        ("indexed_at_ms", row(1, indexed_at_ms=-1)),
        ("metadata_json", row(1, metadata_json="[]")),
        ("metadata_json", row(1, metadata_json="{")),
        ("metadata_json", row(1, metadata_json="[" * 16_000)),
        ("metadata_json", row(1, metadata_json='{"n": NaN}')),
        ("metadata_json", row(1, metadata_json=json.dumps({"n": "x" * 17_000}))),
    ],
)
async def test_a_row_beyond_a_bound_is_rejected_alone_naming_the_field(service, field, bad):
    (ack,), totals = await imported(service, batch(1, row(0), bad, row(2)))
    (rejected,) = ack.rejected
    error = from_status(rejected.error)
    assert isinstance(error, errors.InvalidInput)
    assert error.field == f"images[1].{field}"
    assert (rejected.index, ack.written, totals.rejected) == (1, 2, 1)
    assert [image.id for image in await listed(service)] == ["r0000", "r0002"]


async def test_vectors_of_any_length_are_normalised_if_asked(service):
    long = (7 * np.frombuffer(vector(1), "<f4")).tobytes()
    tiny = (1e-30 * np.frombuffer(vector(1), "<f4")).tobytes()
    zero, nan = bytes(4 * DIMENSION), np.full(DIMENSION, np.nan, "<f4").tobytes()
    rows = [row(n, vector=each) for n, each in enumerate((long, tiny, zero, nan))]
    (ack,), _ = await imported(service, batch(1, *rows), given=options(normalise=True))
    assert [rejected.index for rejected in ack.rejected] == [2, 3]
    for image in await listed(service, output_fields=["vector"]):
        assert np.frombuffer(image.packed_vector, "<f4") == pytest.approx(
            np.frombuffer(vector(1), "<f4"), abs=1e-6
        )


async def test_of_one_id_the_later_row_stays_in_a_batch_and_in_the_next(service):
    first = batch(1, row(1, uri="a"), row(1, uri="b"), row(2, uri="c"))
    await imported(service, first, batch(2, row(2, uri="d")))
    assert [image.uri for image in await listed(service, output_fields=["uri"])] == ["b", "d"]


@pytest.mark.parametrize(
    ("messages", "field"),
    [
        ([], "options"),
        ([pb.ImportImagesRequest()], "options"),
        ([pb.ImportImagesRequest(batch=batch(1, row(1)))], "options"),
        ([pb.ImportImagesRequest(options=options(collection="no name"))], "collection"),
        ([pb.ImportImagesRequest(options=options(model_name=""))], "options.model_name"),
        ([pb.ImportImagesRequest(options=options(model_name="a" * 248))], "options.model_name"),
        ([pb.ImportImagesRequest(options=options(dimension=0))], "options.dimension"),
        ([pb.ImportImagesRequest(options=options(dimension=32_769))], "options.dimension"),
        (
            [pb.ImportImagesRequest(options=options(model_fingerprint="a" * 257))],
            "options.model_fingerprint",
        ),
        ([pb.ImportImagesRequest(options=OPTIONS)] * 2, "batch"),
        (
            [
                pb.ImportImagesRequest(options=OPTIONS),
                pb.ImportImagesRequest(batch=pb.ImportBatch()),
            ],
            "batch.images",
        ),
        (
            [
                pb.ImportImagesRequest(options=OPTIONS),
                pb.ImportImagesRequest(batch=batch(1, *[pb.ImportedImage()] * 1_001)),
            ],
            "batch.images",
        ),
        (
            [
                pb.ImportImagesRequest(options=OPTIONS),
                pb.ImportImagesRequest(batch=batch(1, row(1, uri="u" * 2**22))),
            ],
            "batch",
        ),
    ],
)
async def test_a_stream_beyond_a_bound_is_refused_naming_the_field(service, messages, field):
    error = await refusal(service, messages)
    assert isinstance(error, errors.InvalidInput)
    assert error.field == field


async def test_vectors_of_another_model_are_refused_naming_both_and_nothing_is_written(service):
    await imported(service, batch(1, row(1)))
    other = options(model_name="other", model_fingerprint="0" * 64)
    messages = [
        pb.ImportImagesRequest(options=other),
        pb.ImportImagesRequest(batch=batch(1, row(2))),
    ]
    error = await refusal(service, messages)
    assert isinstance(error, errors.ModelMismatch)
    assert all(text in str(error) for text in ("elsewhere", "e" * 64, "other", "0" * 64))
    assert [image.id for image in await listed(service)] == ["r0001"]

    error = await refusal(service, [pb.ImportImagesRequest(options=options(dimension=9))])
    assert (error.field, "8" in str(error)) == ("options.dimension", True)


async def test_a_collection_is_made_only_if_asked_and_for_the_model_that_was_told(service):
    missing = options(create_collection=False)
    error = await refusal(service, [pb.ImportImagesRequest(options=missing)])
    assert error.reason == "COLLECTION_NOT_FOUND"

    cosine = options(metric=pb.METRIC_COSINE, model_fingerprint="")
    await imported(service, batch(1, row(1)), given=cosine)
    spec = await service.store.get_spec(NAME, deadline=Deadline(T))
    assert spec == CollectionSpec(
        NAME, DIMENSION, "elsewhere", "declared:elsewhere", metric="COSINE"
    )
    assert isinstance(
        await refusal(service, [pb.ImportImagesRequest(options=OPTIONS)]), errors.ModelMismatch
    )


class Gate(MemoryStore):
    """Lets upserts through as long as it is open; fails as often as it is told."""

    def __init__(self):
        super().__init__()
        self.open, self.waiting, self.failures = asyncio.Event(), 0, 0
        self.open.set()

    async def upsert(self, name, rows, *, deadline):
        self.waiting += 1
        await self.open.wait()
        self.waiting -= 1
        if self.failures:
            self.failures -= 1
            raise errors.Unavailable("the store is away", retry_after_s=0.01)
        await super().upsert(name, rows, deadline=deadline)


async def test_a_batch_is_acknowledged_before_the_next_one_is_sent(service):
    acknowledged = asyncio.Event()

    async def one_by_one():
        yield pb.ImportImagesRequest(options=OPTIONS)
        for number in range(3):
            acknowledged.clear()
            yield pb.ImportImagesRequest(batch=batch(number, row(number)))
            await acknowledged.wait()

    last = None
    async for answer in service.stub.ImportImages(one_by_one(), timeout=T):
        last = answer
        acknowledged.set()
    assert last.totals.written == 3


async def test_a_store_that_is_away_for_a_while_is_waited_for_and_for_too_long_is_unavailable():
    store = Gate()
    async with opened(store) as service:
        store.failures = 3
        assert (await imported(service, batch(1, row(1))))[1].written == 1
    async with opened(store, retry_budget_s=0.05) as service:
        store.failures = 10**6
        messages = [
            pb.ImportImagesRequest(options=OPTIONS),
            pb.ImportImagesRequest(batch=batch(1, row(2))),
        ]
        assert isinstance(await refusal(service, messages), errors.Unavailable)


async def test_nothing_is_imported_where_too_little_is_free_for_milvus_lite(tmp_path):
    full = {"milvus_lite_dir": tmp_path, "min_free_bytes": 2**62, "retry_budget_s": 0}
    async with opened(**full) as service:
        messages = [
            pb.ImportImagesRequest(options=OPTIONS),
            pb.ImportImagesRequest(batch=batch(1, row(1))),
        ]
        assert f"the disk of {tmp_path} has " in str(await refusal(service, messages))


async def test_draining_writes_what_was_taken_then_asks_to_resume():
    store = Gate()
    async with opened(store) as service:
        store.open.clear()

        async def endless():
            yield pb.ImportImagesRequest(options=OPTIONS)
            yield pb.ImportImagesRequest(batch=batch(1, row(1)))
            await asyncio.sleep(T)

        call = service.stub.ImportImages(endless(), timeout=T)
        await until(lambda: store.waiting == 1)
        service.imports.drain()
        store.open.set()
        assert (await call.read()).acknowledgement.sequence == 1
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await call.read()
        assert from_rpc_error(raised.value, "").reason == "RESUME"
        assert (await refusal(service, [pb.ImportImagesRequest(options=OPTIONS)])).reason == (
            "RESUME"
        )


async def test_imports_share_the_places_of_streams_and_give_them_back():
    store = Gate()
    async with opened(store, max_streams=1) as service:
        store.open.clear()
        call = service.stub.ImportImages(requests([batch(1, row(1))]), timeout=T)
        await until(lambda: store.waiting == 1)
        assert service.sample("glimpse_indexer_streams") == 1
        error = await refusal(service, [pb.ImportImagesRequest(options=OPTIONS)])
        assert isinstance(error, errors.Overloaded)
        call.cancel()
        await until(lambda: service.sample("glimpse_indexer_streams") == 0)
        store.open.set()
        assert (await imported(service, batch(1, row(1))))[1].written == 1


@pytest.mark.parametrize("packed", [True, False])
async def test_no_page_has_more_bytes_than_a_message_may_have(monkeypatch, packed):
    monkeypatch.setattr(bounds, "MAX_LISTED_BYTES", 20_000)
    async with opened() as service:
        text = json.dumps({"n": "x" * 2_000})
        sizes = [row(n, metadata_json=text if n % 3 else "") for n in range(300)]
        await imported(service, batch(1, *sizes))
        ids, after_id = [], None
        while after_id != "":
            request = pb.ListImagesRequest(
                collection=NAME, after_id=after_id or "", packed=packed,
                output_fields=["vector", "metadata"],
            )  # fmt: skip
            page = await service.stub.ListImages(request, timeout=T)
            assert page.ByteSize() <= 20_000
            ids += [image.id for image in page.images]
            after_id = page.next_after_id
    assert ids == [image.id for image in sizes]


async def test_a_list_reads_no_more_than_it_needs_and_waits_for_writes_once():
    reads = []

    class Store(MemoryStore):
        async def list_rows(self, name, limit, *args, consistency="strong", **options):
            reads.append((limit, consistency))
            return await super().list_rows(name, limit, *args, consistency=consistency, **options)

    store = Store()
    async with opened(store) as service:
        for number in range(3):
            rows = [row(1_000 * number + n) for n in range(1_000)]
            await imported(service, batch(number, *rows))
        assert len(await listed(service, output_fields=["vector"])) == 3_000
    first, *others = reads
    assert first == (128, "strong")
    assert {consistency for _, consistency in others} == {"bounded"}
    assert {limit for limit, _ in others} == {2_048}


async def test_a_short_read_of_the_store_is_not_taken_for_the_end_of_a_list():
    class Store(MemoryStore):
        async def list_rows(self, name, limit, *args, **options):
            return await super().list_rows(name, min(limit, 7), *args, **options)

    async with opened(Store()) as service:
        await imported(service, batch(1, *(row(n) for n in range(30))))
        assert len(await listed(service, output_fields=["uri"])) == 30
        assert len(await listed(service, page_size=10)) == 30


async def test_only_the_first_page_of_a_list_begins_with_a_small_read(monkeypatch):
    """How large rows are is known from the page before."""
    monkeypatch.setattr(bounds, "MAX_LISTED_BYTES", 28_000)
    reads = []

    class Store(MemoryStore):
        async def list_rows(self, name, limit, *args, **options):
            reads.append(limit)
            return await super().list_rows(name, limit, *args, **options)

    async with opened(Store()) as service:
        text = json.dumps({"n": "x" * 2_000})
        await imported(service, batch(1, *(row(n, metadata_json=text) for n in range(300))))
        sizes, after_id = [], None
        while after_id != "":
            request = pb.ListImagesRequest(
                collection=NAME, after_id=after_id or "", packed=True, output_fields=["metadata"]
            )
            page = await service.stub.ListImages(request, timeout=T)
            sizes.append(len(page.images))
            after_id = page.next_after_id
    assert sum(sizes) == 300
    assert reads[0] == 128
    assert reads[1:] == [*sizes[1:-2], 13, 13]  # the last read finds one, or none


async def test_two_batches_are_written_at_once_unless_they_share_an_id():
    store = Gate()
    async with opened(store) as service:
        store.open.clear()
        batches = [batch(1, row(1, uri="a")), batch(2, row(1, uri="b")), batch(3, row(3))]
        whole = asyncio.create_task(imported(service, *batches))
        await until(lambda: store.waiting == 1)
        store.open.set()
        acks, _ = await whole
        assert [ack.sequence for ack in acks] == [1, 2, 3]
        assert [image.uri for image in await listed(service, output_fields=["uri"])] == ["b", ""]

        store.open.clear()
        whole = asyncio.create_task(imported(service, *(batch(n, row(n)) for n in range(4))))
        await until(lambda: store.waiting == 2)
        store.open.set()
        assert [ack.sequence for ack in (await whole)[0]] == [0, 1, 2, 3]


async def test_batches_are_written_while_those_before_wait_to_be_confirmed():
    class Asked(Gate):
        """Does not say what serves, once rows are written, until it is let."""

        said = asyncio.Event()
        written = 0

        async def upsert(self, *args, **options):
            await super().upsert(*args, **options)
            self.written += 1

        async def get_spec(self, *args, **options):
            if self.written:
                await self.said.wait()
            return await super().get_spec(*args, **options)

    store = Asked()
    async with opened(store) as service:
        whole = asyncio.create_task(imported(service, *(batch(n, row(n)) for n in range(5))))
        await until(lambda: store.written == 3)
        assert not whole.done()
        store.said.set()
        assert [ack.sequence for ack in (await whole)[0]] == [0, 1, 2, 3, 4]


async def ids_in(service, name):
    return {row[0] for row in await service.store.list_rows(name, 100, deadline=Deadline(T))}


@pytest.fixture
async def switching():
    """An indexer whose collection has another generation, of the same model, which does not serve
    until `store.switch_to` is its number: just before the next write."""
    async with opened(SwitchingStore()) as service:
        await imported(service, batch(1, row(1)))
        spec = await service.store.get_spec(NAME, deadline=Deadline(T))
        await service.store.create_generation(spec, deadline=Deadline(T))
        yield service


async def test_rows_written_to_a_generation_that_serves_no_more_are_not_acknowledged(switching):
    switching.store.switch_to = 1
    call = switching.stub.ImportImages(requests([batch(2, row(2))]), timeout=T)
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await call.read()
    error = from_rpc_error(raised.value, "the indexer")
    assert (type(error), error.reason) == (errors.Unavailable, "RESUME")
    assert await ids_in(switching, f"{NAME}@0") == {"r0001", "r0002"}
    assert await ids_in(switching, NAME) == set()

    assert (await imported(switching, batch(2, row(2))))[1].written == 1
    assert await ids_in(switching, NAME) == {"r0002"}


async def test_a_client_that_imports_on_has_every_row_in_what_serves_by_the_end(switching):
    def run():
        with Client(indexer=switching.target) as client:
            upload = client.import_images(OPTIONS)
            acks = list(upload.run(batch(number, row(number)) for number in range(2, 12)))
            return [ack.sequence for ack in acks], upload.interruptions

    switching.store.switch_to = 1
    assert await asyncio.to_thread(run) == ([*range(2, 12)], 1)
    assert await ids_in(switching, NAME) == {f"r{number:04}" for number in range(2, 12)}


async def test_vectors_for_a_generation_of_another_model_are_refused_once_it_serves(switching):
    other = CollectionSpec(NAME, DIMENSION, "other", "0" * 64)
    await switching.store.create_generation(other, deadline=Deadline(T))

    def run():
        with Client(indexer=switching.target) as client:
            list(client.import_images(OPTIONS).run([batch(2, row(2))]))

    switching.store.switch_to = 2
    with pytest.raises(errors.ModelMismatch):
        await asyncio.to_thread(run)
    assert await ids_in(switching, NAME) == set()
