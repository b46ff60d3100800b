"""Requests of every kind, mostly wrong, as Hypothesis draws them, and a service to take them."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from typing import Any

import grpc
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from glimpse.errors import AlreadyExists
from glimpse.query.v1 import query_pb2 as pb
from services.common.deadline import Deadline
from services.vectors.store import VectorStore
from tests.query_service import COLLECTION, DIMENSION, fake_encoder, fill, query_service, rows

ALLOWED = {
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.NOT_FOUND,
}
PROPERTY = settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)

anything = st.text(max_size=60)
identity = st.one_of(st.sampled_from(["dog", "cat", "nobody", 'x"', "' or 1", ""]), anything)
numbers = st.floats(width=32, allow_nan=True, allow_infinity=True)
vectors = st.builds(
    lambda values: pb.Vector(values=values),
    st.one_of(
        st.lists(numbers, max_size=4),
        st.lists(numbers, min_size=DIMENSION, max_size=DIMENSION),
    ),
)
int32 = st.one_of(st.integers(-3, 30), st.integers(-(2**31), 2**31 - 1))
fields = st.one_of(
    st.sampled_from(["id", "uri", "width", "height", "format", "indexed_at_ms", "metadata"]),
    anything,
)
WORDS = [
    "width",
    "uri",
    "metadata",
    "and",
    "or",
    "not",
    "in",
    "like",
    "true",
    "id",
    "1",
    "-1",
    "1e400",
]
SIGNS = [
    "1",
    "-1",
    "1e400",
    "(",
    ")",
    "[",
    "]",
    "==",
    ">",
    "<=",
    '"x"',
    "'x'",
    '"',
    ",",
    'metadata["a"]',
]
expressions = st.one_of(
    anything, st.lists(st.sampled_from([*WORDS, *SIGNS]), max_size=12).map(" ".join)
)


@st.composite
def comparisons(draw):
    message = pb.Comparison(
        field=draw(fields),
        path=draw(st.lists(anything, max_size=3)),
        operator=draw(st.sampled_from([*range(-1, 13)])),
    )
    value = draw(
        st.one_of(
            st.none(),
            st.booleans(),
            anything,
            st.floats(),
            st.lists(st.one_of(anything, st.floats())),
        )
    )
    if isinstance(value, bool):
        message.value.bool_value = value
    elif isinstance(value, str):
        message.value.string_value = value
    elif isinstance(value, float):
        message.value.number_value = value
    elif value is not None:
        message.value.list_value.extend(value)
    return pb.Condition(comparison=message)


def combined(children):
    several = st.lists(children, max_size=3).map(lambda c: pb.Conditions(conditions=c))
    return st.one_of(
        several.map(lambda c: pb.Condition(all_of=c)),
        several.map(lambda c: pb.Condition(any_of=c)),
        children.map(lambda c: pb.Condition(negation=c)),
    )


conditions = st.recursive(st.one_of(comparisons(), st.just(pb.Condition())), combined, max_leaves=8)


@st.composite
def queries(draw, kind: Any = pb.SearchRequest, simple=False):
    """Sets one member of `kind`'s oneof, or none."""
    choices = {
        "text": st.one_of(anything, st.sampled_from(["dog", " ", "x" * 9_000])),
        "image": st.binary(max_size=40),
        "image_id": identity,
        "vector": vectors,
    }
    name = draw(
        st.sampled_from([*choices, "none"] if simple else [*choices, "weighted_sum", "none"])
    )
    if name == "none":
        return kind()
    if name == "weighted_sum":
        terms = draw(st.lists(queries(pb.Term, simple=True), max_size=4))
        for term in terms:
            if draw(st.booleans()):
                term.weight = draw(numbers)
        return kind(weighted_sum=pb.WeightedSum(terms=terms))
    return kind(**{name: draw(choices[name])})


@st.composite
def options(draw):
    message = pb.SearchOptions()
    if draw(st.booleans()):
        message.limit = draw(int32)
    if draw(st.booleans()):
        message.offset = draw(int32)
    where = draw(st.sampled_from(["", "", "filter", "condition"]))
    if where == "filter":
        message.filter = draw(expressions)
    elif where == "condition":
        message.condition.CopyFrom(draw(conditions))
    if draw(st.booleans()):
        message.min_score = draw(numbers)
    message.output_fields.extend(draw(st.lists(st.one_of(fields, st.just("vector")), max_size=2)))
    message.consistency = draw(st.integers(-1, 3))
    message.prompt_template = draw(st.one_of(st.just(""), st.just("a {}"), anything))
    message.include_query_images = draw(st.booleans())
    return message


@st.composite
def requests(draw):
    request = draw(queries())
    request.collection = draw(st.one_of(st.just(COLLECTION), st.just(COLLECTION), anything))
    if draw(st.booleans()):
        request.options.CopyFrom(draw(options()))
    request.page_token = draw(st.one_of(st.just(""), st.just(""), anything))
    return request


class Service:
    """The query service over a store, in a thread of its own: Hypothesis calls tests synchronously.

    The store gets a collection COLLECTION with one image for each of WORDS, unless it has it.
    """

    def __init__(self, open_store: Callable[[], VectorStore]) -> None:
        self._open_store = open_store
        self._loop = asyncio.new_event_loop()
        # A daemon, so that a start that fails ends the tests and does not hold them.
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._stop = asyncio.Event()
        started = asyncio.run_coroutine_threadsafe(self._start(), self._loop)
        self._query, self._serving = started.result(90)

    async def _start(self):
        started = self._loop.create_future()
        serving = asyncio.ensure_future(self._serve(started))
        await asyncio.wait([started, serving], return_when=asyncio.FIRST_COMPLETED)
        return started.result(), serving

    async def _serve(self, started):
        store = self._open_store()
        encoder = fake_encoder()
        await store.ready(deadline=Deadline(60))
        with contextlib.suppress(AlreadyExists):
            await fill(store, rows())
        async with encoder.serve() as target, query_service(store, target) as query:
            started.set_result(query)
            await self._stop.wait()
        await store.close()

    def code(self, method, request):
        """The status code of a call, None when it succeeds."""

        async def call():
            try:
                await getattr(self._query, method)(request, timeout=30)
            except grpc.aio.AioRpcError as error:
                return error.code(), error.details()
            return None, ""

        return asyncio.run_coroutine_threadsafe(call(), self._loop).result(60)

    def close(self):
        async def stop():
            self._stop.set()
            await self._serving

        asyncio.run_coroutine_threadsafe(stop(), self._loop).result(30)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


def assert_named(outcome) -> None:
    """Asserts that a call was answered, or refused with a status that names what is wrong."""
    code, details = outcome
    assert code is None or code in ALLOWED, (code, details)
    assert code is None or details
