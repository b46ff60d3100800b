"""The bounds of query's requests: each field has one, and it is checked before anything else."""

from __future__ import annotations

import asyncio
import itertools
import math
import time
from collections.abc import Iterator
from typing import Any

import pytest
from google.protobuf import message_factory, struct_pb2
from google.protobuf.descriptor import FieldDescriptor
from prometheus_client import CollectorRegistry

from glimpse.errors import GlimpseError, InvalidInput
from glimpse.query.v1 import query_pb2 as pb
from glimpse.transport.status import from_status
from services.common.deadline import Deadline
from services.common.encoder_client import EncoderClient
from services.common.encoders import Encoders
from services.common.event_loop import paced
from services.query import bounds
from services.query.main import build
from services.query.metrics import QueryMetrics
from services.query.settings import QuerySettings
from services.vectors.records import CollectionSpec
from tests.memory_store import MemoryStore

MANY = 40_000  # entries, and
LONG = 300_000  # characters or bytes: more than any field takes
METHODS = {
    "Search": pb.SearchRequest,
    "BatchSearch": pb.BatchSearchRequest,
    "GetImages": pb.GetImagesRequest,
}
TEXT, BYTES = FieldDescriptor.TYPE_STRING, FieldDescriptor.TYPE_BYTES

Path = tuple[FieldDescriptor, ...]


def growing(kind: Any, before: Path = ()) -> Iterator[Path]:
    """The path to each of our fields that can be of any length, through each message once."""
    seen = {kind, *(field.containing_type for field in before)}
    for field in kind.fields:
        path, inner = (*before, field), field.message_type
        if field.is_repeated or field.type in (TEXT, BYTES):
            yield path
        if inner is not None and inner not in seen and inner.file is kind.file:
            yield from growing(inner, path)


def grow(message: Any, path: Path) -> None:
    """Makes the field at the path far too long, and of what conversion would refuse as well."""
    field, rest = path[0], path[1:]
    value = getattr(message, field.name)
    if rest:
        inner = value.add() if field.is_repeated else value
        inner.SetInParent()
        grow(inner, rest)
    elif field.message_type is not None:
        value.extend([message_factory.GetMessageClass(field.message_type)()] * MANY)
    elif field.is_repeated:
        value.extend(["\0" if field.type == TEXT else math.nan] * MANY)
    else:
        setattr(message, field.name, b"\0" * LONG if field.type == BYTES else "\0" * LONG)


def named(path: Path) -> str:
    """The path as errors write it."""
    names = [f"{field.name}[0]" if field.is_repeated else field.name for field in path]
    return ".".join(names).removesuffix("[0]")


class Unhurried:
    """The context of a call without a deadline."""

    def time_remaining(self) -> None:
        return None


async def failure(method: str, request: Any) -> GlimpseError | None:
    """The error of a call, or of a batch's first query; "c" is a collection, the encoder is out."""
    store = MemoryStore()
    await store.create_collection(CollectionSpec("c", 4, "m", "f" * 64), deadline=Deadline(5))
    encoder = Encoders([EncoderClient("127.0.0.1:1", 2**20)])
    settings = QuerySettings(max_image_bytes=1_000)
    servicer = build(settings, store, encoder, QueryMetrics(CollectorRegistry()))
    try:
        response = await getattr(servicer, method)(request, Unhurried())
    except GlimpseError as error:
        return error
    finally:
        await encoder.close()
    if method != "BatchSearch":
        return None
    return from_status(pb.BatchSearchResponse.FromString(response).results[0].error)


def poison(method: str, request: Any) -> None:
    """Sets what conversion would refuse, if it came first; what a batch shares comes before."""
    if method == "Search":
        request.options.consistency = 9
        request.options.min_score = math.nan
    elif method == "GetImages" and not request.output_fields:
        request.output_fields.append("no such field")


@pytest.mark.parametrize(
    ("method", "path"),
    [
        pytest.param(method, path, id=f"{method}.{'.'.join(field.name for field in path)}")
        for method, kind in METHODS.items()
        for path in growing(kind.DESCRIPTOR)
    ],
)
async def test_each_field_has_a_bound_that_is_checked_before_anything_is_converted(method, path):
    first = path[0].name
    request: Any = METHODS[method]()
    if first != "collection":
        request.collection = "c"
    if method == "BatchSearch" and first != "queries":
        request.queries.add(text="dog")
    elif method == "GetImages" and first != "ids":
        request.ids.append("dog")
    grow(request, path)
    poison(method, request)
    error = await failure(method, request)
    assert isinstance(error, InvalidInput)
    # A condition is measured as a whole, every other field on its own.
    assert error.field.startswith(named(path)) or error.field == "options.condition"


def compared_with(value: Any) -> pb.SearchOptions:
    leaf = pb.Comparison(field="width", operator=pb.OPERATOR_IN, value=value)
    return pb.SearchOptions(condition=pb.Condition(comparison=leaf))


@pytest.mark.parametrize(
    "value",
    [
        struct_pb2.Value(string_value="\0" * LONG),
        struct_pb2.Value(list_value={"values": [struct_pb2.Value()] * 1_025}),
        struct_pb2.Value(struct_value={"fields": {"a": struct_pb2.Value(string_value="x" * LONG)}}),
    ],
    ids=["text", "list", "object"],
)
async def test_a_compared_value_has_a_bound_that_is_checked_before_it_is_converted(value):
    request = pb.SearchRequest(collection="c", text="\0", options=compared_with(value))
    error = await failure("Search", request)
    assert isinstance(error, InvalidInput)
    assert (error.field.partition(".comparison")[0], error.reason) == (
        "options.condition",
        "INVALID_FILTER",
    )


async def test_the_values_of_all_comparisons_are_counted_together():
    one = compared_with(struct_pb2.Value(list_value={"values": [struct_pb2.Value()] * 1_024}))
    conditions = pb.Conditions(conditions=[one.condition] * 5)
    options = pb.SearchOptions(condition=pb.Condition(any_of=conditions))
    error = await failure("Search", pb.SearchRequest(collection="c", text="a", options=options))
    assert (error.field, error.reason) == ("options.condition", "INVALID_FILTER")


async def test_each_value_that_metadata_is_compared_with_is_a_condition():
    leaf = pb.Comparison(field="metadata", path=["a"], operator=pb.OPERATOR_IN)
    leaf.value.list_value.extend(["x"] * 257)
    options = pb.SearchOptions(condition=pb.Condition(comparison=leaf))
    error = await failure("Search", pb.SearchRequest(collection="c", text="a", options=options))
    assert (error.field, error.reason) == ("options.condition.comparison", "INVALID_FILTER")
    assert "256 conditions" in str(error)


async def test_a_filter_is_counted_before_its_text_is_encoded():
    options = pb.SearchOptions(filter=" or ".join(['metadata["a"] == 1'] * 257))
    error = await failure("Search", pb.SearchRequest(collection="c", text="a", options=options))
    assert (error.field, error.reason) == ("options.filter", "INVALID_FILTER")
    assert "256 comparisons" in str(error)


async def test_a_request_at_its_bounds_is_no_matter_of_size():
    uris = pb.Comparison(field="uri", operator=pb.OPERATOR_IN)
    uris.value.list_value.extend(["x"] * 1_024)
    leaf = pb.Comparison(field="metadata", path=["a"] * 16, operator=pb.OPERATOR_IN)
    leaf.value.list_value.extend(["x"] * (256 - 3 - 1 - 6))
    leaves = [pb.Condition(comparison=each) for each in (uris, uris, uris, leaf)]
    tree = pb.Condition(any_of=pb.Conditions(conditions=leaves))
    for _ in range(6):
        tree = pb.Condition(negation=tree)
    options = pb.SearchOptions(
        condition=tree, output_fields=["uri"] * 64, prompt_template="{}" + "x" * 1_022
    )
    terms = [
        pb.Term(text="x" * (8_192 - 1_022)),
        pb.Term(image=b"x" * 1_000),
        pb.Term(image_id="x" * 128),
        pb.Term(vector=pb.Vector(values=[1.0] * 32_768)),
    ]
    request = pb.SearchRequest(
        collection="c" * 255,
        weighted_sum=pb.WeightedSum(terms=terms * 4),
        options=options,
        page_token="x" * 256,
    )
    bounds.check_search(request)
    bounds.check_batch(pb.BatchSearchRequest(collection="c", queries=[pb.BatchQuery()] * 256))
    bounds.check_get(
        pb.GetImagesRequest(collection="c", ids=["x" * 128] * 1_000, output_fields=["uri"] * 64)
    )


async def test_others_have_their_turn_between_the_items_of_long_work():
    turns = 0

    async def neighbour():
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    running = asyncio.create_task(neighbour())
    seen = []
    async for _ in paced(range(5)):
        seen.append(turns)
        ends_s = time.perf_counter() + 0.01  # longer than a turn may be
        while time.perf_counter() < ends_s:
            pass
    running.cancel()
    steps = [later - earlier for earlier, later in itertools.pairwise(seen)]
    assert min(steps) > 1  # or a call that takes a hundred would wait for a hundred such turns
