"""Query over real gRPC servers: its contract, its bad input, and an encoder in trouble."""

from __future__ import annotations

import asyncio
import io
import math

import grpc
import pytest
from google.protobuf import struct_pb2
from PIL import Image
from prometheus_client import CollectorRegistry

from glimpse import errors
from glimpse.pictures.preprocess import decode
from glimpse.pictures.preprocessing import Preprocessing
from glimpse.query.v1 import query_pb2 as pb
from glimpse.transport.status import from_status
from services.common.deadline import Deadline
from services.query.metrics import QueryMetrics
from services.vectors.filters import Comparison
from services.vectors.metadata import Metadata
from services.vectors.records import Row
from tests.fakes import vector_of
from tests.memory_store import MemoryStore
from tests.query_service import (
    COLLECTION,
    DIMENSION,
    WORDS,
    failure,
    fake_encoder,
    fill,
    ids,
    query_service,
    query_target,
    row,
    rows,
    vector_message,
)
from tests.waiting import until

TIMEOUT_S = 20.0


MEANINGS = {f"width > {n}": Comparison("width", ">", n) for n in (0, 650)}


@pytest.fixture
async def store():
    memory = MemoryStore(MEANINGS)
    await fill(memory, rows())
    return memory


@pytest.fixture
async def encoder():
    return fake_encoder()


@pytest.fixture
async def query(store, encoder):
    async with encoder.serve() as target, query_service(store, target) as stub:
        yield stub


def search(stub, options=None, timeout=TIMEOUT_S, **fields):
    request = pb.SearchRequest(
        collection=fields.pop("collection", COLLECTION),
        options=pb.SearchOptions(**(options or {})),
        **fields,
    )
    return stub.Search(request, timeout=timeout)


def png(colour):
    file = io.BytesIO()
    Image.new("RGB", (20, 30), colour).save(file, "PNG")
    return file.getvalue()


def comparison(field, operator, value, path=()):
    message = pb.Comparison(field=field, operator=operator, path=path)
    if isinstance(value, list):
        message.value.list_value.extend(value)
    elif isinstance(value, str):
        message.value.string_value = value
    elif isinstance(value, bool):
        message.value.bool_value = value
    else:
        message.value.number_value = value
    return pb.Condition(comparison=message)


async def test_text_finds_its_image_and_says_where_the_time_went(query):
    response = await search(query, text="bird")
    hit = response.hits[0]
    assert (hit.id, hit.score) == ("bird", pytest.approx(1, abs=1e-5))
    attributes = hit.attributes
    assert (attributes.uri, attributes.width, attributes.height, attributes.format) == (
        "file:///bird.jpg",
        300,
        50,
        "PNG",
    )
    assert attributes.metadata["number"] == 2
    assert attributes.metadata["owner"]["name"] == "o'bird"
    assert list(attributes.metadata["tags"]) == ["a", "b"]
    assert not attributes.HasField("vector")
    assert attributes.content_sha256 == ""
    assert response.model == pb.Model(name="fake", fingerprint="f" * 64)
    assert response.timing.queue_us >= 10
    assert response.timing.encode_us == 20
    assert 0 < response.timing.search_us <= response.timing.total_us
    assert not response.text_truncated


async def test_hits_carry_only_the_fields_that_were_asked_for(query):
    options = {"output_fields": ["vector", "indexed_at_ms", "content_sha256"], "limit": 1}
    attributes = (await search(query, options, text="dog")).hits[0].attributes
    assert list(attributes.vector.values) == pytest.approx(list(vector_of(b"dog", DIMENSION)))
    assert (attributes.indexed_at_ms, attributes.content_sha256) == (1_000, "0" * 64)
    assert (attributes.uri, attributes.width) == ("", 0)
    assert not attributes.HasField("metadata")


async def test_picture_finds_the_image_that_was_made_of_it(query, store, encoder):
    picture = png((255, 0, 0))
    pixels = decode(picture, Preprocessing(encoder.image_size), 10**6).pixels.tobytes()
    vector = vector_of(pixels, DIMENSION)
    await store.upsert(COLLECTION, [Row(id="red", vector=vector)], deadline=Deadline(5))
    assert ids(await search(query, image=picture))[0] == "red"


async def test_image_id_vector_and_weighted_sum_find_images(query):
    assert "dog" not in ids(await search(query, image_id="dog"))
    assert ids(await search(query, vector=vector_message("cup")))[0] == "cup"
    terms = [
        pb.Term(text="cat"),
        pb.Term(image_id="dog", weight=-50),
        pb.Term(vector=vector_message("star"), weight=100),
    ]
    assert ids(await search(query, weighted_sum=pb.WeightedSum(terms=terms)))[0] == "star"


async def test_text_longer_than_the_models_context_is_reported(query):
    assert (await search(query, text="dog " * 100)).text_truncated
    assert (await search(query, text="dog " * 100)).text_truncated  # from the cache as well


async def test_pages_follow_each_other_until_the_end(query):
    token, seen = "", []
    for limit in (3, 2, 3):
        response = await search(query, {"limit": limit}, text="dog", page_token=token)
        seen += ids(response)
        token = response.next_page_token
        assert bool(token) == (len(seen) < len(WORDS))
    assert seen == ids(await search(query, text="dog"))


async def test_limit_and_offset_are_taken_up_to_their_bounds(query):
    assert len(ids(await search(query, {"limit": 1_000}, text="dog"))) == len(WORDS)
    assert ids(await search(query, {"limit": 1_000, "offset": 15_384}, text="dog")) == []


async def test_pages_may_start_at_an_offset(query):
    everything = ids(await search(query, text="dog"))
    response = await search(query, {"limit": 2, "offset": 3}, text="dog")
    assert ids(response) == everything[3:5]
    following = await search(query, {"limit": 2}, text="dog", page_token=response.next_page_token)
    assert ids(following) == everything[5:7]


@pytest.mark.parametrize(
    "changed",
    [
        {"text": "cat"},
        {"image_id": "dog"},
        {"collection": "others", "text": "dog"},
        {"text": "dog", "options": {"min_score": -1}},
        {"text": "dog", "options": {"filter": "width > 0"}},
    ],
)
async def test_page_token_is_refused_with_another_query(query, changed):
    token = (await search(query, {"limit": 2}, text="dog")).next_page_token
    error = await failure(search(query, page_token=token, **changed))
    assert (error.field, error.reason) == ("page_token", "PAGE_TOKEN_MISMATCH")


async def test_page_token_and_offset_do_not_mix(query):
    token = (await search(query, {"limit": 2}, text="dog")).next_page_token
    error = await failure(search(query, {"offset": 1}, text="dog", page_token=token))
    assert error.field == "options.offset"


async def test_replicas_with_one_key_read_each_others_page_tokens(store, encoder):
    async with encoder.serve() as target:
        async with query_service(store, target, page_token_key="k") as one:
            token = (await search(one, {"limit": 2}, text="dog")).next_page_token
        async with query_service(store, target, page_token_key="k") as another:
            assert len(ids(await search(another, text="dog", page_token=token))) == len(WORDS) - 2
        async with query_service(store, target) as stranger:
            error = await failure(search(stranger, text="dog", page_token=token))
            assert error.reason == "PAGE_TOKEN_INVALID"


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        (comparison("width", pb.OPERATOR_GREATER_OR_EQUAL, 700), {"star", "cup"}),
        (comparison("id", pb.OPERATOR_IN, ["dog", "cat", "' or true"]), {"dog", "cat"}),
        (comparison("uri", pb.OPERATOR_PREFIX, "file:///b"), {"bird", "boat"}),
        (comparison("metadata", pb.OPERATOR_EQUAL, "o'cup", ["owner", "name"]), {"cup"}),
        (comparison("metadata", pb.OPERATOR_LESS, 1.5, ["number"]), {"dog", "cat"}),
        (comparison("uri", pb.OPERATOR_EQUAL, '" or id != "'), set()),
    ],
)
async def test_typed_condition_chooses_images(query, condition, expected):
    response = await search(query, {"condition": condition, "limit": 8}, text="dog")
    assert set(ids(response)) == expected


async def test_conditions_combine(query):
    wide = comparison("width", pb.OPERATOR_GREATER, 300)
    png = comparison("format", pb.OPERATOR_EQUAL, "PNG")
    both = pb.Condition(all_of=pb.Conditions(conditions=[wide, png]))
    either = pb.Condition(any_of=pb.Conditions(conditions=[wide, png]))
    neither = pb.Condition(negation=either)
    for condition, expected in (
        (both, {"boat", "star"}),
        (either, {"dog", "bird", "fish", "boat", "tree", "star", "cup"}),
        (neither, {"cat"}),
    ):
        assert set(ids(await search(query, {"condition": condition}, text="dog"))) == expected


async def test_filter_text_chooses_images(query):
    response = await search(query, {"filter": "width > 650"}, text="a")
    assert set(ids(response)) == {"star", "cup"}


async def test_batch_answers_each_query_with_its_own_status(query, encoder):
    queries = [
        pb.BatchQuery(text="dog"),
        pb.BatchQuery(text="  "),
        pb.BatchQuery(image_id="nobody"),
        pb.BatchQuery(),
        pb.BatchQuery(image=b"no picture"),
        pb.BatchQuery(text="cat " * 100),
        pb.BatchQuery(image_id="cup"),
    ]
    request = pb.BatchSearchRequest(
        collection=COLLECTION, queries=queries, options=pb.SearchOptions(limit=2)
    )
    response = await query.BatchSearch(request, timeout=TIMEOUT_S)
    codes = [result.error.code for result in response.results]
    invalid, missing = grpc.StatusCode.INVALID_ARGUMENT.value[0], grpc.StatusCode.NOT_FOUND.value[0]
    assert codes == [0, invalid, missing, invalid, invalid, 0, 0]
    assert ids(response.results[0].hits)[0] == "dog"
    assert [result.text_truncated for result in response.results[-2:]] == [True, False]
    assert "cup" not in ids(response.results[-1].hits)
    fields = [from_status(response.results[i].error).field for i in (1, 3, 4)]
    assert fields == ["queries[1].text", "queries[3].query", "queries[4].image"]
    assert response.model.name == "fake"
    assert encoder.items["texts"] == 2


async def test_large_pictures_of_a_batch_go_to_the_encoder_a_few_at_a_time(query, encoder):
    files = [png(colour) + bytes(5 * 2**20) for colour in ("red", "green", "blue")]
    queries = [pb.BatchQuery(image=each) for each in (*files, png("white"), png("black"))]
    request = pb.BatchSearchRequest(collection=COLLECTION, queries=queries)
    response = await query.BatchSearch(request, timeout=TIMEOUT_S)
    assert [result.error.code for result in response.results] == [0] * 5
    assert (encoder.items["files"], encoder.items["calls"]) == (5, 3)


async def test_batch_is_taken_up_to_its_bounds(query):
    queries = [pb.BatchQuery(text=WORDS[number % len(WORDS)]) for number in range(256)]
    request = pb.BatchSearchRequest(
        collection=COLLECTION, queries=queries, options=pb.SearchOptions(limit=256)
    )
    results = (await query.BatchSearch(request, timeout=TIMEOUT_S)).results
    assert [ids(result.hits)[0] for result in results] == [WORDS[n % 8] for n in range(256)]


@pytest.mark.parametrize("number", [0, 257])
async def test_batch_of_a_wrong_size_is_refused(query, number):
    request = pb.BatchSearchRequest(
        collection=COLLECTION, queries=[pb.BatchQuery(text="dog")] * number
    )
    error = await failure(query.BatchSearch(request))
    assert (type(error), error.field) == (errors.InvalidInput, "queries")


async def test_batch_that_asks_for_too_many_hits_is_refused(query):
    request = pb.BatchSearchRequest(
        collection=COLLECTION,
        queries=[pb.BatchQuery(text="dog")] * 256,
        options=pb.SearchOptions(limit=257),
    )
    error = await failure(query.BatchSearch(request))
    assert error.field == "options.limit"


async def test_images_come_in_the_order_asked_and_missing_ones_are_named(query):
    request = pb.GetImagesRequest(collection=COLLECTION, ids=["cup", "x", "dog", "cup", "y"])
    response = await query.GetImages(request, timeout=TIMEOUT_S)
    assert [image.id for image in response.images] == ["cup", "dog", "cup"]
    assert list(response.missing_ids) == ["x", "y"]
    assert response.images[0].attributes.uri == "file:///cup.jpg"


@pytest.mark.parametrize("names", [[], [""], ["a'b"], ["x"] * 1_001])
async def test_wrong_ids_are_refused(query, names):
    request = pb.GetImagesRequest(collection=COLLECTION, ids=names)
    error = await failure(query.GetImages(request))
    assert isinstance(error, errors.InvalidInput)
    assert (error.field or "").startswith("ids")


DEEP = comparison("width", pb.OPERATOR_EQUAL, 1)
for _ in range(8):
    DEEP = pb.Condition(negation=DEEP)
MANY = pb.Condition(
    any_of=pb.Conditions(conditions=[comparison("width", pb.OPERATOR_EQUAL, 1)] * 256)
)
NULL = pb.Condition(
    comparison=pb.Comparison(
        field="uri",
        operator=pb.OPERATOR_EQUAL,
        value=struct_pb2.Value(null_value=struct_pb2.NULL_VALUE),
    )
)


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({}, "query"),
        ({"text": ""}, "text"),
        ({"text": " \t"}, "text"),
        ({"text": "a\0"}, "text"),
        ({"text": "x" * 8_193}, "text"),
        ({"text": "x" * 8_192, "options": {"prompt_template": "a {}"}}, "text"),
        ({"image": b""}, "image"),
        ({"image": b"GIF89a"}, "image"),
        ({"image": b"x" * 1_001}, "image"),
        ({"image_id": ""}, "image_id"),
        ({"image_id": 'a" or id != "'}, "image_id"),
        ({"vector": pb.Vector()}, "vector.values"),
        ({"vector": pb.Vector(values=[math.nan] * DIMENSION)}, "vector.values"),
        ({"vector": pb.Vector(values=[math.inf] * DIMENSION)}, "vector.values"),
        ({"vector": pb.Vector(values=[0.0] * DIMENSION)}, "vector.values"),
        ({"vector": pb.Vector(values=[1.0])}, "vector.values"),
        ({"weighted_sum": pb.WeightedSum()}, "weighted_sum.terms"),
        ({"weighted_sum": pb.WeightedSum(terms=[pb.Term(text="a")] * 17)}, "weighted_sum.terms"),
        ({"weighted_sum": pb.WeightedSum(terms=[pb.Term()])}, "weighted_sum.terms[0]"),
        (
            {"weighted_sum": pb.WeightedSum(terms=[pb.Term(text="a", weight=1e30)])},
            "weighted_sum.terms[0].weight",
        ),
        (
            {"weighted_sum": pb.WeightedSum(terms=[pb.Term(text="a", weight=0)])},
            "weighted_sum.terms[0].weight",
        ),
        (
            {"weighted_sum": pb.WeightedSum(terms=[pb.Term(text="a"), pb.Term(image=b"x")])},
            "weighted_sum.terms[1].image",
        ),
        ({"text": "a", "collection": ""}, "collection"),
        ({"text": "a", "collection": "a-b"}, "collection"),
        ({"text": "a", "collection": "a" * 256}, "collection"),
        ({"text": "a", "options": {"limit": 0}}, "options.limit"),
        ({"text": "a", "options": {"limit": -5}}, "options.limit"),
        ({"text": "a", "options": {"limit": 1_001}}, "options.limit"),
        ({"text": "a", "options": {"limit": 1_000, "offset": 15_385}}, "options.offset"),
        ({"text": "a", "options": {"limit": 2**31 - 1}}, "options.limit"),
        ({"text": "a", "options": {"offset": -1}}, "options.offset"),
        ({"text": "a", "options": {"offset": 2**31 - 1}}, "options.offset"),
        ({"text": "a", "options": {"min_score": math.nan}}, "options.min_score"),
        ({"text": "a", "options": {"output_fields": ["secret"]}}, "options.output_fields[0]"),
        ({"text": "a", "options": {"consistency": 9}}, "options.consistency"),
        ({"text": "a", "options": {"prompt_template": "a photo"}}, "options.prompt_template"),
        ({"text": "a", "options": {"filter": "width >"}}, "options.filter"),
        ({"text": "a", "options": {"filter": "colour == 1"}}, "options.filter"),
        ({"text": "a", "options": {"filter": "x" * 16_385}}, "options.filter"),
        ({"text": "a", "options": {"filter": "(" * 16_384}}, "options.filter"),
        ({"text": "a", "options": {"condition": pb.Condition()}}, "options.condition"),
        (
            {"text": "a", "options": {"condition": pb.Condition(all_of=pb.Conditions())}},
            "options.condition.all_of.conditions",
        ),
        ({"text": "a", "options": {"condition": DEEP}}, "options.condition" + ".negation" * 8),
        (
            {"text": "a", "options": {"condition": MANY}},
            "options.condition.any_of.conditions[255]",
        ),
        ({"text": "a", "options": {"condition": NULL}}, "options.condition.comparison.value"),
        (
            {"text": "a", "options": {"condition": comparison("uri", 0, "x")}},
            "options.condition.comparison.operator",
        ),
        (
            {"text": "a", "options": {"condition": comparison("width", pb.OPERATOR_LESS, "x")}},
            "options.condition.comparison",
        ),
        (
            {"text": "a", "options": {"condition": comparison("width", pb.OPERATOR_IN, 3)}},
            "options.condition.comparison.value",
        ),
        ({"text": "a", "page_token": "nonsense"}, "page_token"),
    ],
)
async def test_bad_input_is_refused_and_named(store, encoder, fields, field):
    async with (
        encoder.serve() as target,
        query_service(store, target, max_image_bytes=1_000) as query,
    ):
        error = await failure(search(query, **fields))
        assert isinstance(error, errors.InvalidInput)
        assert error.field == field
        assert ids(await search(query, text="dog"))[0] == "dog"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "TEXT_EMPTY"),
        ("bad\x1b[0m", "TEXT_CONTROL_CHARACTER"),
        ("x" * 8_193, "TEXT_TOO_LONG"),
        ("x" * 8_190, "TEXT_TOO_LONG"),  # with the template around it
    ],
)
async def test_bad_text_is_refused_for_the_reason_that_the_encoder_gives(query, text, reason):
    error = await failure(search(query, {"prompt_template": "a {}!"}, text=text))
    assert (error.field, error.reason) == ("text", reason)


async def test_bytes_that_are_no_message_are_invalid_not_unknown(store, encoder):
    async with (
        encoder.serve() as encoder_target,
        query_target(store, encoder_target) as target,
        grpc.aio.insecure_channel(target) as channel,
    ):
        raw_search = channel.unary_unary("/glimpse.query.v1.Query/Search")
        deep = pb.SearchRequest()
        condition = deep.options.condition
        for _ in range(200):
            condition = condition.negation
        condition.comparison.field = "width"
        surrogate = b"\x12\x03\xed\xa0\x80"  # text = "\ud800"
        for content in (surrogate, b"\xff\xff", deep.SerializeToString()):
            error = await failure(raw_search(content))
            assert isinstance(error, errors.InvalidInput)


async def test_unknown_collection_and_unknown_image_are_not_found(query):
    error = await failure(search(query, collection="nowhere", text="dog"))
    assert (type(error), error.reason) == (errors.NotFound, "COLLECTION_NOT_FOUND")
    error = await failure(search(query, image_id="nobody"))
    assert (type(error), error.reason) == (errors.NotFound, "IMAGE_NOT_FOUND")


async def test_collection_of_another_model_is_refused_naming_both(query, store):
    await fill(store, [row("old")], "older", fingerprint="0" * 64)
    error = await failure(search(query, collection="older", text="dog"))
    assert (type(error), error.reason) == (errors.ModelMismatch, "MODEL_MISMATCH")
    assert error.metadata["collection_fingerprint"] == "0" * 64
    assert error.metadata["encoder_fingerprint"] == "f" * 64
    # What needs no encoder needs no agreement with it.
    assert ids(await search(query, collection="older", vector=vector_message("old"))) == ["old"]


async def test_imported_vectors_of_a_declared_model_are_found_by_vector_and_not_by_text(
    query, store
):
    await fill(store, [row("there")], "art", fingerprint="declared:ViT-X")
    error = await failure(search(query, collection="art", text="dog"))
    assert (type(error), error.reason) == (errors.ModelMismatch, "MODEL_MISMATCH")
    assert "imported vectors" in str(error)
    assert "image_id or vector" in str(error)
    assert ids(await search(query, collection="art", vector=vector_message("there"))) == ["there"]


async def test_calls_beyond_the_places_are_refused_at_once_where_none_may_wait(store, encoder):
    async with (
        encoder.serve() as target,
        query_service(store, target, max_in_flight=2, max_waiting_bytes=0) as query,
    ):
        encoder.open.clear()
        waiting = []
        for number, word in enumerate(("dog", "cat"), start=1):
            waiting.append(asyncio.ensure_future(search(query, text=word)))
            # One after the other: together they would share a call to the encoder.
            await until(lambda n=number: encoder.in_flight == n)
        error = await failure(search(query, image_id="dog"))
        assert (type(error), error.reason) == (errors.Overloaded, "OVERLOADED")
        assert error.retry_after_s
        encoder.open.set()
        assert [ids(response)[0] for response in await asyncio.gather(*waiting)] == ["dog", "cat"]
        assert ids(await search(query, text="cup"))[0] == "cup"


async def test_a_thousand_calls_at_once_are_answered_a_few_at_a_time(store, encoder):
    async with (
        encoder.serve() as target,
        query_service(store, target, max_in_flight=4) as query,
    ):
        calls = [search(query, {"limit": 1}, text=f"{n}") for n in range(1_000)]
        answers = await asyncio.gather(*calls)
        assert all(len(answer.hits) == 1 for answer in answers)
        assert encoder.max_in_flight <= 4


async def test_answer_larger_than_a_message_is_refused_by_name(store, encoder):
    metadata = Metadata.of({"text": "x" * 16_000})
    big = [row(f"big{i}", metadata=metadata) for i in range(80)]
    await store.upsert(COLLECTION, big, deadline=Deadline(5))
    async with (
        encoder.serve() as target,
        query_service(store, target, max_message_bytes=2**20) as query,
    ):
        error = await failure(search(query, {"limit": 88}, text="dog"))
        assert (error.field, error.reason) == ("options.limit", "ANSWER_TOO_LARGE")


async def test_cache_and_stages_are_counted(store, encoder):
    registry = CollectorRegistry()
    async with (
        encoder.serve() as target,
        query_service(store, target, QueryMetrics(registry)) as query,
    ):
        for _ in range(4):
            await search(query, text="dog")
    value = registry.get_sample_value
    assert value("glimpse_query_texts_total", {"source": "cache"}) == 3
    assert value("glimpse_query_texts_total", {"source": "encoder"}) == 1
    assert value("glimpse_query_stage_seconds_count", {"stage": "search"}) == 4
    assert value("glimpse_query_stage_seconds_count", {"stage": "encode"}) == 1
