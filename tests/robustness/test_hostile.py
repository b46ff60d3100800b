"""The short form of `make hostile`: each kind of attack once, on the real services; and that the
harness sees what it is there to see.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool
from grpc_health.v1 import health_pb2_grpc

from glimpse.cli.local.stack import Stack, StackOptions
from glimpse.cli.ports import Ports
from glimpse.indexer.v1 import indexer_pb2
from glimpse.query.v1 import query_pb2
from services.common.health import HealthServicer
from tests.hostile.__main__ import all_attacks, figures
from tests.hostile.attacks import chosen, field_attacks, one_of_each
from tests.hostile.contracts import delimited, places, short_name
from tests.hostile.known import KNOWN
from tests.hostile.neighbours import CHECK, Neighbours
from tests.hostile.run import ENVIRONMENT, Outcome, Run
from tests.robustness.messages import METHODS, Method
from tests.waiting import wait_until

pytestmark = pytest.mark.timeout(600)

NOTICEABLE_MS = 250.0

ROOT = Path(__file__).parents[2]  # where the services are

# The nesting check as it was once: quadratic, where quotes are opened and never closed.
QUADRATIC = r"""
import os, re
from services.vectors import expressions
pattern = re.compile(r'"(?:[^"\\]|\\.)*"|[(\[]')
check = expressions.check
def slowly(expression):
    if os.path.exists({switch!r}):
        sum(1 for _ in pattern.finditer(expression))
    check(expression)
expressions.check = slowly
"""


class Server:
    """A server that answers health checks, on an event loop that can be held up."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self.address = ""

    def __enter__(self) -> Server:
        self._thread.start()
        port = asyncio.run_coroutine_threadsafe(self._start(), self._loop).result()
        self.address = f"127.0.0.1:{port}"
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._server.stop(None), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    @contextlib.contextmanager
    def held_up(self) -> Iterator[None]:
        """Within the block, nothing moves on the loop."""
        go_on = threading.Event()
        self._loop.call_soon_threadsafe(go_on.wait)
        try:
            yield
        finally:
            go_on.set()

    async def _start(self) -> int:
        self._server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
        health = HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(health, self._server)
        port = self._server.add_insecure_port("127.0.0.1:0")
        await self._server.start()
        return port


@pytest.fixture(scope="module")
def slow_switch(tmp_path_factory):
    """Where there is a file, the services check filters as they did once."""
    return tmp_path_factory.mktemp("switch") / "slow"


@pytest.fixture(scope="module")
def stack(tmp_path_factory, slow_switch):
    folder = tmp_path_factory.mktemp("hostile")
    (folder / "sitecustomize.py").write_text(QUADRATIC.format(switch=str(slow_switch)))
    environment = {**ENVIRONMENT, "PYTHONPATH": f"{folder}{os.pathsep}{ROOT}"}
    options = StackOptions(folder / "stack", ports=Ports.free(), environment=environment)
    with Stack(options) as stack:
        yield stack


# What takes seconds to make or to answer is for the long form, and so is what is past a bound: it
# is refused for its length.
LONG = (
    "@message",
    "@past",
    "@max-pixels",
    ":64-",
    ":16-",
    ":256-",
    ":2,000-",
    ":65,536-",
)
ATTACKS = one_of_each(a for a in all_attacks() if not any(part in a.name for part in LONG))


@pytest.fixture(scope="module")
def outcome(stack) -> Outcome:
    return Run(stack, seed=1, seconds=0).run(ATTACKS)


def test_no_attack_makes_a_service_fail(outcome):
    assert {result.name: result.outcomes for result in outcome.results if result.bugs} == {}
    assert outcome.faults == []


def test_all_services_are_serving_after_all_attacks(outcome):
    assert outcome.restarts == {}


def test_the_report_says_what_the_others_saw(outcome):
    assert {figure.key for figure in figures(outcome)} >= {
        "worst_neighbour_ms",
        "share_within_100_ms",
        "attacks",
        "memory_ratio",
        "internal_errors",
        "ties_ratio",
    }
    assert len(outcome.results) == len(ATTACKS)


def test_what_was_measured_before_is_still_among_the_attacks():
    assert {name for known in KNOWN for name in known.attacks} <= {a.name for a in all_attacks()}


def test_a_run_that_is_not_full_leaves_out_no_field():
    attacked = {attack.name.partition(":")[0] for attack in all_attacks(full=False)}
    assert {place.name for place in places()} <= attacked
    assert len(all_attacks(full=False)) < 0.8 * len(all_attacks())


def test_the_quadratic_check_of_filters_is_noticed(stack, outcome, slow_switch):
    slow_switch.touch()
    try:
        attacks = chosen(all_attacks(), ["query.Search.options.filter:unclosed-quotes@max"])
        (result,) = Run(stack, seed=1, seconds=0.01).attack(attacks)
    finally:
        slow_switch.unlink()
    assert result.waits_ms[f"query.{CHECK}"] > NOTICEABLE_MS


def test_neighbours_notice_an_event_loop_that_stands_still():
    with Server() as server, Neighbours({"query": server.address}) as neighbours:
        assert neighbours.await_calm(time.monotonic(), 60)
        since_s = time.monotonic()
        with server.held_up():
            # The call that waits has not been answered yet.
            wait_until(lambda: neighbours.worst_ms(since_s)["query.Check"] > NOTICEABLE_MS, "seen")
        assert neighbours.await_calm(time.monotonic(), 60)
        assert neighbours.worst_ms(since_s)["query.Check"] > NOTICEABLE_MS
        assert neighbours.worst_ms(time.monotonic())["query.Check"] < NOTICEABLE_MS


def test_a_field_that_nobody_has_named_is_attacked_by_its_type():
    kinds = descriptor_pb2.FieldDescriptorProto
    request = descriptor_pb2.DescriptorProto(name="Request")
    types = {"word": kinds.TYPE_STRING, "blob": kinds.TYPE_BYTES, "share": kinds.TYPE_FLOAT}
    for number, (name, kind) in enumerate(types.items(), 1):
        request.field.add(name=name, number=number, type=kind, label=kinds.LABEL_OPTIONAL)
    request.field.add(
        name="again",
        number=9,
        type=kinds.TYPE_MESSAGE,
        type_name=".hostile.Request",
        label=kinds.LABEL_REPEATED,
    )
    pool = descriptor_pool.DescriptorPool()
    pool.Add(
        descriptor_pb2.FileDescriptorProto(
            name="hostile.proto", package="hostile", syntax="proto3", message_type=[request]
        )
    )
    descriptor = pool.FindMessageTypeByName("hostile.Request")
    method = Method("query", "/hostile.Service/New", descriptor, descriptor, False)
    names = {attack.name for attack in field_attacks([method])}
    assert {
        "query.New.word:letters@1Mi",
        "query.New.word:no-utf8",
        "query.New.blob:zeros@message",
        "query.New.share:nan",
        "query.New.again:nested-1,000",
        "query.New.again:empty-entries@message",
    } <= names


def test_what_is_put_into_a_field_is_there_and_all_else_is_well_formed():
    place = next(place for place in places() if place.name == "query.Search.options.filter")
    (content,) = place.messages('\\"')
    request = query_pb2.SearchRequest.FromString(content)
    assert request.options.filter == '\\"'
    assert request.collection
    assert request.text


def test_a_stream_begins_as_it_should_before_it_is_attacked():
    place = next(place for place in places() if place.name == "indexer.IndexImages.image.uri")
    first, second = map(indexer_pb2.IndexImagesRequest.FromString, place.messages("a/b"))
    assert first.options.collection
    assert second.image.uri == "a/b"
    assert second.image.content


def test_every_method_is_attacked_and_names_of_attacks_are_unique():
    attacked = {attack.name.replace(":", ".").split(".")[1] for attack in ATTACKS}
    assert attacked >= {short_name(method).partition(".")[2] for method in METHODS}
    names = [attack.name for attack in all_attacks()]
    assert len(set(names)) == len(names) >= 200


def test_delimited_fields_are_as_protobuf_writes_them():
    long = "a" * 300
    assert delimited(2, long.encode()) == query_pb2.SearchRequest(text=long).SerializeToString()
