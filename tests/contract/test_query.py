"""Query over gRPC gives the same answers on every store, a Milvus server among them."""

from __future__ import annotations

import asyncio
import contextlib

import grpc
import pytest

from glimpse import errors
from glimpse.query.v1 import query_pb2 as pb
from glimpse.transport.status import from_status
from services.common.deadline import Deadline
from tests.contract.conftest import ON_MILVUS
from tests.paging import Walk
from tests.query_service import (
    COLLECTION,
    DIMENSION,
    WORDS,
    failure,
    fake_encoder,
    fill,
    ids,
    query_service,
    row,
    rows,
    vector_message,
)

TWINS, OLDER, CHANGING = "twins", "older", "changing"
TIMEOUT_S = 30.0


@pytest.fixture
async def query(store):
    async with fake_encoder().serve() as target, query_service(store, target) as stub:
        await made(store, COLLECTION, rows())
        yield stub


async def made(store, name, images, **changes):
    """Makes and fills a collection, once for each store."""
    with contextlib.suppress(errors.AlreadyExists):
        await fill(store, images, name, **changes)
        # What was seen once by a strong search is seen by every later one.
        await store.search(
            name, images[0].vector[None], 1, consistency="strong", deadline=Deadline(TIMEOUT_S)
        )


def search(stub, options=None, collection=COLLECTION, **fields):
    request = pb.SearchRequest(
        collection=collection, options=pb.SearchOptions(**(options or {})), **fields
    )
    return stub.Search(request, timeout=TIMEOUT_S)


def equal(field, value, path=()):
    message = pb.Comparison(field=field, operator=pb.OPERATOR_EQUAL, path=path)
    message.value.string_value = value
    return pb.Condition(comparison=message)


async def test_text_vector_id_and_sum_find_what_they_should(query):
    options = {"output_fields": ["metadata", "vector"]}
    hit = (await search(query, options, text="bird")).hits[0]
    assert (hit.id, hit.score) == ("bird", pytest.approx(1, abs=1e-4))
    assert hit.attributes.metadata["owner"]["name"] == "o'bird"
    assert len(hit.attributes.vector.values) == DIMENSION
    assert ids(await search(query, vector=vector_message("cup")))[0] == "cup"
    terms = [pb.Term(text="cat"), pb.Term(image_id="dog", weight=-0.5)]
    assert ids(await search(query, weighted_sum=pb.WeightedSum(terms=terms)))[0] == "cat"


async def test_an_image_is_not_among_those_like_it_unless_asked_for(query):
    assert set(ids(await search(query, image_id="dog"))) == set(WORDS) - {"dog"}
    with_itself = await search(query, {"include_query_images": True}, image_id="dog")
    assert ids(with_itself)[0] == "dog"
    assert set(ids(with_itself)) == set(WORDS)
    error = await failure(search(query, image_id="nobody"))
    assert (type(error), error.reason) == (errors.NotFound, "IMAGE_NOT_FOUND")


async def test_min_score_leaves_out_what_is_less_like(query):
    hits = (await search(query, text="dog")).hits
    assert len(hits) == len(WORDS)
    bound = hits[2].score
    kept = await search(query, {"min_score": bound}, text="dog")
    assert ids(kept) == [hit.id for hit in hits[:3]]
    assert ids(await search(query, {"min_score": 1, "limit": 2}, text="nothing")) == []


async def test_conditions_choose_images(query):
    for condition, expected in (
        (equal("id", "cat"), ["cat"]),
        (equal("metadata", "o'cup", ["owner", "name"]), ["cup"]),
        (equal("uri", 'x" or id != "'), []),
    ):
        assert ids(await search(query, {"condition": condition}, text="a")) == expected


@ON_MILVUS
async def test_filters_in_milvus_language_choose_images(query):
    chosen = await search(query, {"filter": 'metadata["number"] == 3'}, text="a")
    assert ids(chosen) == ["fish"]
    wide = await search(query, {"filter": 'width >= 700 and format == "PNG"'}, text="a")
    assert ids(wide) == ["star"]


@ON_MILVUS
@pytest.mark.parametrize(
    "expression",
    [
        "width >",
        "colour == 1",
        "((",
        "width == 'x",
        "uri like",
        "id in",
        "1 +",
        "\0",
        "真 == 1",
        "a" * 16_000,
    ],
)
async def test_a_wrong_filter_is_refused_with_what_is_wrong(query, expression):
    error = await failure(search(query, {"filter": expression}, text="a"))
    assert (type(error), error.field) == (errors.InvalidInput, "options.filter")
    assert error.reason == "INVALID_FILTER"
    assert len(str(error)) > len("options.filter: ")


async def test_pages_over_equal_scores_neither_repeat_nor_lose_an_image(query, store):
    twins = [row(f"twin{n:02}", "same") for n in range(30)]
    await made(store, TWINS, [*twins, *rows()])
    token, seen = "", []
    while True:
        page = await search(query, {"limit": 7}, TWINS, text="same", page_token=token)
        seen += ids(page)
        token = page.next_page_token
        if not token:
            break
    assert ids(await search(query, collection=TWINS, text="same")) == seen[:10]  # by default
    assert seen[:30] == [f"twin{n:02}" for n in range(30)]
    assert sorted(seen[30:]) == sorted(WORDS)


WALKS = {
    "text": {"text": "same"},
    "sum": {
        "weighted_sum": pb.WeightedSum(
            terms=[pb.Term(text="same"), pb.Term(image_id="kept", weight=-0.5)]
        )
    },
    "condition": {"text": "star", "options": {"condition": equal("format", "JPEG")}},
    "min_score": {"vector": vector_message("cup"), "options": {"min_score": -0.05}},
}


@pytest.mark.parametrize("kind", WALKS)
async def test_pages_go_on_behind_their_last_hit_whatever_came_or_went_before_it(
    query, store, kind
):
    name = f"{CHANGING}_{kind}"
    twins = [row(f"twin{n:02}", f"group{n // 6}", format="JPEG") for n in range(30)]
    others = [row(f"other{n}", format="JPEG" if n % 2 else "PNG") for n in range(20)]
    await made(store, name, [*twins[::-1], *others, row("kept", format="PNG")])
    asked = dict(WALKS[kind])
    options = pb.SearchOptions(limit=8, **asked.pop("options", {}))
    request = pb.SearchRequest(collection=name, options=options, **asked)
    assert await Walk(query, store, request).errors() == []


async def test_images_come_in_the_order_asked_and_missing_ones_are_named(query):
    request = pb.GetImagesRequest(collection=COLLECTION, ids=["cup", "x", "dog", "cup", "y"])
    response = await query.GetImages(request, timeout=TIMEOUT_S)
    assert [image.id for image in response.images] == ["cup", "dog", "cup"]
    assert response.images[0].attributes.uri == "file:///cup.jpg"
    assert list(response.missing_ids) == ["x", "y"]


async def test_each_query_of_a_batch_has_its_own_answer(query):
    queries = [pb.BatchQuery(text=word) for word in WORDS]
    queries += [pb.BatchQuery(image_id="dog"), pb.BatchQuery(image_id="nobody")]
    request = pb.BatchSearchRequest(
        collection=COLLECTION, queries=queries, options=pb.SearchOptions(limit=1)
    )
    results = (await query.BatchSearch(request, timeout=TIMEOUT_S)).results
    assert [result.hits.hits[0].id for result in results[: len(WORDS)]] == list(WORDS)
    assert results[-2].hits.hits[0].id != "dog"
    assert from_status(results[-1].error).reason == "IMAGE_NOT_FOUND"


async def test_a_collection_of_another_model_is_refused_naming_both(query, store):
    await made(store, OLDER, [row("old")], fingerprint="0" * 64)
    error = await failure(search(query, collection=OLDER, text="dog"))
    assert (type(error), error.reason) == (errors.ModelMismatch, "MODEL_MISMATCH")
    assert error.metadata["collection_fingerprint"] == "0" * 64
    assert error.metadata["encoder_fingerprint"] == "f" * 64


async def test_an_unknown_collection_is_not_found(query):
    error = await failure(search(query, collection="nowhere", text="dog"))
    assert (type(error), error.reason) == (errors.NotFound, "COLLECTION_NOT_FOUND")


@ON_MILVUS
async def test_a_filter_does_not_reach_into_another_collection(query, store):
    await made(store, OLDER, [row("old")], fingerprint="0" * 64)
    for expression in ('id == "old"', 'id == "old" or id != ""'):
        assert "old" not in ids(await search(query, {"filter": expression}, text="a"))


async def test_a_frozen_milvus_takes_no_more_than_the_callers_time_and_may_thaw(query, backend):
    if backend.process is None:
        pytest.skip("the store is in memory, or on a server that is not ours to freeze")
    calls = {
        "Search": pb.SearchRequest(collection=COLLECTION, image_id="dog"),
        "BatchSearch": pb.BatchSearchRequest(
            collection=COLLECTION, queries=[pb.BatchQuery(text="dog")]
        ),
        "GetImages": pb.GetImagesRequest(collection=COLLECTION, ids=["dog"]),
    }
    loop = asyncio.get_running_loop()
    backend.process.freeze()
    try:
        for method, request in calls.items():
            started_s = loop.time()
            error = await failure(getattr(query, method)(request, timeout=0.5))
            assert isinstance(error, (errors.Unavailable, errors.DeadlineExceeded))
            assert loop.time() - started_s < 15
    finally:
        backend.process.thaw()
    ends_s = loop.time() + 30
    for method, request in calls.items():
        while True:
            try:
                await getattr(query, method)(request, timeout=5)
                break
            except grpc.aio.AioRpcError as error:
                expected = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)
                assert error.code() in expected  # noqa: PT017
                assert loop.time() < ends_s, "Milvus thawed, the query service did not notice"
