"""What a pass between two generations does, by a client that says what each of them has."""

from __future__ import annotations

import contextlib
import queue
import threading
from types import SimpleNamespace

import pytest

from glimpse import Acknowledgement, Outcome, StoredImage, errors
from glimpse.cli.carrying import Carrier, differences

SOURCE, TARGET = "c@0", "c@1"
NOW_MS = 1_000
T = 20.0
MOMENT_S = 0.1


class ScriptedClient:
    """Holds rows; acknowledges whatever is sent to the target with one outcome."""

    def __init__(self, outcome, source=(), target=(), error=None):
        self.deleted: list[str] = []
        self.sent: list[str] = []
        self.filters: list[str] = []
        self.gone_meanwhile: set[str] = set()
        self.rows = {
            SOURCE: {each.id: each for each in source},
            TARGET: {each.id: each for each in target},
        }
        self._outcome, self._error = outcome, error

    def get_collection(self, address, *, exact):
        assert (address, exact) == (SOURCE, False)
        return SimpleNamespace(described_at_ms=NOW_MS)

    def list_images(self, address, filter="", ids=None, **_):
        self.filters.append(filter)
        since_ms = int(filter.removeprefix("indexed_at_ms >= ") or 0)
        listed = [
            row
            for _, row in sorted(self.rows[address].items())
            if row.indexed_at_ms >= since_ms and (ids is None or row.id in ids)
        ]
        if self.sent and ids is not None:
            listed = [row for row in listed if row.id not in self.gone_meanwhile]
        return listed

    @contextlib.contextmanager
    def index(self, address, images, **_):
        assert address == TARGET
        yield map(self._acknowledge, images)

    def _acknowledge(self, image):
        self.sent.append(image.id)
        if not self._error:
            self.rows[TARGET][image.id] = self.rows[SOURCE][image.id]
        return Acknowledgement(image, image.id, self._outcome, self._error)

    def delete(self, address, ids):
        assert address == TARGET
        self.deleted += ids
        return sum(self.rows[TARGET].pop(each, None) is not None for each in ids)

    def list_generations(self, *_, **__):
        return []


class StreamingClient(ScriptedClient):
    """Takes images in a thread, as streams do, and notices whether they have ended by the time that
    acknowledgements are wanted no more."""

    @contextlib.contextmanager
    def index(self, address, images, **_):
        answers = queue.SimpleQueue()

        def send():
            for image in images:
                answers.put(self._acknowledge(image))
            answers.put(None)

        self.sender = threading.Thread(target=send, daemon=True)
        self.sender.start()
        yield iter(answers.get, None)
        self.sender.join(MOMENT_S)
        self.has_ended = not self.sender.is_alive()


def row(identity, indexed_at_ms=1, uri=None):
    return StoredImage(
        identity, uri=f"/{identity}.png" if uri is None else uri, indexed_at_ms=indexed_at_ms
    )


def carrier(client):
    return Carrier(client, SOURCE, TARGET, patience_s=1.0, max_reads=1)


@pytest.mark.parametrize("outcome", [Outcome.INDEXED, Outcome.UNCHANGED])
def test_what_the_source_lost_while_it_was_carried_goes_again(outcome):
    """Also what is there unchanged: an indexer may have written it and died before it said so."""
    client = ScriptedClient(outcome, [row("a"), row("b")])
    client.gone_meanwhile = {"a"}
    done = carrier(client).run("", None)
    assert client.deleted == ["a"]
    assert (done.carried, done.deleted) == (2 * (outcome is Outcome.INDEXED), 1)
    assert done.begun_ms == NOW_MS


def test_what_the_target_has_newer_or_alone_is_replaced_or_goes():
    there = [row("a", 7), row("b", 8), row("c", 1)]
    client = ScriptedClient(Outcome.INDEXED, [row("a", 3), row("c", 1)], there)
    done = carrier(client).run("", None)
    assert client.rows[TARGET] == client.rows[SOURCE]
    assert (done.carried, done.deleted, client.deleted) == (1, 2, ["b", "a"])


def test_what_the_target_has_alone_from_before_a_time_stays():
    there = [row("a", 7), row("b", 8), row("c", 1)]
    client = ScriptedClient(Outcome.INDEXED, [row("c", 1)], there)
    done = Carrier(client, SOURCE, TARGET, 1.0, 1, kept_before_ms=8).run("", None)
    assert client.deleted == ["b"]
    assert (done.deleted, done.kept) == (1, 1)


@pytest.mark.parametrize("since_ms", [2, 5])
def test_what_the_target_has_newer_asks_for_a_whole_pass(since_ms):
    """Also where the source's row is older than what a pass looks at. It would be missing if the
    pass was killed between its deletion and its copy, and the next looked at what is new alone."""
    there = [row("a", 7), row("b", 8)]
    client = ScriptedClient(Outcome.INDEXED, [row("a", 3)], there)
    done = carrier(client).run_since(since_ms)
    assert (done.is_whole, client.deleted, client.sent) == (False, ["b"], [])


def test_a_pass_of_what_is_new_looks_at_nothing_else():
    source = [row("a", 1), row("b", 7), row("c", 8)]
    client = ScriptedClient(Outcome.INDEXED, source, [row("b", 7), row("c", 2)])
    done = carrier(client).run_since(5)
    assert client.filters[:2] == ["indexed_at_ms >= 5"] * 2
    assert (done.carried, done.is_whole, client.sent) == (1, True, ["c"])


@pytest.mark.parametrize("since_ms", [0, 5])
def test_a_stream_of_what_came_last_does_not_end_before_its_deletions_are_made(since_ms):
    """At its end, Milvus closes what was written; a pass that waits for the index wants that."""
    client = StreamingClient(Outcome.INDEXED, [row("a", 7)])
    passes = carrier(client)
    done = passes.run_since(since_ms) if since_ms else passes.run("", None)
    assert (done.carried, client.has_ended) == (1, not since_ms)
    client.sender.join(T)
    assert not client.sender.is_alive()


def test_what_could_not_be_read_is_tried_again_though_it_is_not_new():
    source = [row("a", 1), row("b", 1, uri=""), row("d", 9)]
    client = ScriptedClient(Outcome.INDEXED, source)
    client.rows[TARGET]["c"] = row("c", 1)  # by a pass that was killed before its second look
    done = carrier(client).run_since(5, ["a", "b", "c", "d"])
    assert sorted(client.sent) == ["a", "d"]
    assert (list(done.unreadable), client.deleted) == (["b"], ["c"])


def test_too_many_images_are_not_carried_while_callers_wait():
    client = ScriptedClient(Outcome.INDEXED, [row(f"{number:05}") for number in range(2_000)])
    done = carrier(client).run_since(1, callers_wait=True)
    assert (done.carried, done.is_whole) == (0, False)
    done = carrier(client).run_since(1)
    assert (done.carried, done.is_whole) == (2_000, True)


@pytest.mark.parametrize("error", [errors.Unavailable("away"), errors.FailedPrecondition("serves")])
def test_what_concerns_no_single_image_ends_the_pass(error):
    with pytest.raises(type(error)):
        carrier(ScriptedClient(Outcome.FAILED, [row("a")], error=error)).run("", None)


def test_an_image_that_fails_is_told_by_its_id():
    error = errors.InvalidInput("image.content", "is no picture")
    done = carrier(ScriptedClient(Outcome.FAILED, [row("a")], error=error)).run("", None)
    assert list(done.unreadable) == ["a"]


def test_differences_of_two_lists_are_what_one_has_or_has_of_another_time():
    one = [row("a"), row("b", 1), row("c"), row("e")]
    other = [row("b", 2), row("c"), row("d")]
    found = [(a and a.id, b and b.id) for a, b in differences(one, other)]
    assert found == [("a", None), ("b", "b"), (None, "d"), ("e", None)]
