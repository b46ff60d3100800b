"""What a pass between two generations does, by a client that says what each of them has."""

from __future__ import annotations

import contextlib

import pytest

from glimpse import Acknowledgement, Outcome, StoredImage, errors
from glimpse.cli.carrying import Carrier, differences

SOURCE, TARGET = "c@0", "c@1"


class ScriptedClient:
    """Lists rows; acknowledges whatever is sent to the target with one outcome."""

    def __init__(self, outcome, source=(), target=(), error=None):
        self.deleted: list[str] = []
        self.filters: list[str] = []
        self.gone_meanwhile: set[str] = set()
        self._rows = {SOURCE: source, TARGET: target}
        self._outcome, self._error = outcome, error

    def list_images(self, address, filter="", **_):
        self.filters.append(filter)
        return [
            row for row in self._rows[address] if not filter or row.id not in self.gone_meanwhile
        ]

    @contextlib.contextmanager
    def index(self, address, images, **_):
        assert address == TARGET
        outcome, error = self._outcome, self._error
        yield (Acknowledgement(image, image.id, outcome, error) for image in images)

    def delete(self, address, ids):
        assert address == TARGET
        self.deleted += ids
        return len(ids)

    def list_generations(self, *_, **__):
        return []


def row(identity, indexed_at_ms=1):
    return StoredImage(identity, uri=f"/{identity}.png", indexed_at_ms=indexed_at_ms)


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


def test_what_is_newer_in_the_target_is_taken_away_and_carried_by_the_next_pass():
    client = ScriptedClient(Outcome.INDEXED, [row("a", 1)], [row("a", 2), row("b")])
    client.gone_meanwhile = {"b"}
    done = carrier(client).run("", None)
    assert sorted(client.deleted) == ["a", "b"]
    assert not done.is_whole


def test_a_pass_of_the_last_minutes_looks_at_nothing_else():
    client = ScriptedClient(Outcome.INDEXED, [row("b", 7)], [row("c", 8)])
    done = carrier(client).run_since(5)
    assert client.filters[:2] == ["indexed_at_ms >= 5"] * 2
    assert (done.carried, done.is_whole, client.deleted) == (1, True, ["c"])


def test_a_row_that_came_late_and_is_newer_than_the_sources_asks_for_another_pass():
    client = ScriptedClient(Outcome.INDEXED, [row("a", 7)], [row("a", 8)])
    done = carrier(client).run_since(5)
    assert (done.is_whole, client.deleted) == (False, ["a"])


def test_too_many_images_are_not_carried_while_callers_wait():
    client = ScriptedClient(Outcome.INDEXED, [row(f"{number:05}") for number in range(2_000)])
    done = carrier(client).run_since(1)
    assert (done.carried, done.is_whole) == (0, False)


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
