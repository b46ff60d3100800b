"""Which passes a change of generations makes, and what it goes on from after it was killed."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest

from glimpse.cli import takeover
from glimpse.cli.carrying import Pass
from glimpse.cli.takeover import Change

BEGUN_MS = 10_000_000
EVERYTHING = "everything"


class Killed(BaseException):
    """What no command can clean up after."""


class ScriptedCarrier:
    """Makes the passes that it is given, and is killed behind them; `asked` has since when each was
    to look, and at which ids besides."""

    def __init__(self, *passes):
        self.asked = []
        self._passes = iter(passes)

    def run(self, label, total):
        return self._next(EVERYTHING)

    def run_since(self, since_ms, again=(), *, callers_wait=False):
        return self._next((since_ms + takeover._MARGIN_MS, sorted(again)))

    def _next(self, asked):
        found = next(self._passes, None)
        if found is None:
            raise Killed
        self.asked.append(asked)
        return found


class Client:
    def __init__(self):
        self.now_ms = BEGUN_MS

    def get_collection(self, address, *, exact):
        return SimpleNamespace(described_at_ms=self.now_ms, rows=1, indexed_rows=1, pending_rows=0)

    def search(self, *_, **__):
        pass


def generation(number, created_at_ms=1):
    return SimpleNamespace(number=number, collection=SimpleNamespace(created_at_ms=created_at_ms))


def a_pass(begun_ms, carried=0, seconds=60.0, unreadable=(), is_whole=True):
    left = dict.fromkeys(unreadable, "gone")
    return Pass(begun_ms, carried, 0, seconds, is_whole, unreadable=left)


@pytest.fixture
def change(monkeypatch):
    """Makes a change whose passes are scripted."""
    monkeypatch.setattr(takeover, "compare", lambda *_: {})

    def make(carrier, client=None, after=None):
        monkeypatch.setattr(takeover, "Carrier", lambda *_: carrier)
        return Change(client or Client(), "c", generation(0), after or generation(1), 1.0, 1)

    return make


def compare(made):
    """All that a change does up to the switch."""
    made.run(without_missing=True, texts=[], sheets=None, check_only=True)


def test_passes_behind_a_whole_one_look_at_what_is_new_until_that_is_little(change):
    passes = a_pass(1, 9_000), a_pass(2, 500), a_pass(3, 400, seconds=1.0)
    carrier = ScriptedCarrier(*passes)
    compare(change(carrier))
    assert carrier.asked == [EVERYTHING, (1, []), (2, [])]


def test_what_cannot_be_read_is_tried_once_more(change):
    carrier = ScriptedCarrier(a_pass(1, unreadable=["a", "b"]), a_pass(2, unreadable=["b"]))
    compare(change(carrier))
    assert carrier.asked == [EVERYTHING, (1, ["a", "b"])]


def test_behind_a_pass_that_leaves_something_comes_a_whole_one(change):
    carrier = ScriptedCarrier(a_pass(1, 9_000), a_pass(2, is_whole=False), a_pass(3))
    compare(change(carrier))
    assert carrier.asked == [EVERYTHING, (1, []), EVERYTHING]


def test_a_whole_pass_that_was_killed_is_not_gone_on_from(change, tmp_path):
    """What it has copied is old, and may lack its second look."""
    path = tmp_path / "report.json"
    killed = change(ScriptedCarrier(a_pass(BEGUN_MS, 9_000), a_pass(BEGUN_MS + 1, is_whole=False)))
    with pytest.raises(Killed), killed.reported(path):
        compare(killed)
    carrier = ScriptedCarrier(a_pass(BEGUN_MS + 2))
    again = change(carrier)
    with again.reported(path):
        compare(again)
    assert carrier.asked == [EVERYTHING]


def test_what_was_compared_long_ago_is_compared_again(change):
    carrier = ScriptedCarrier(*(a_pass(BEGUN_MS + number) for number in range(3)))
    client = Client()
    made = change(carrier, client)
    compare(made)
    compare(made)
    client.now_ms += takeover._TRUSTED_MS + 1
    compare(made)
    assert carrier.asked == [EVERYTHING, (BEGUN_MS, []), EVERYTHING]


@pytest.mark.parametrize("is_same", [True, False])
def test_a_run_that_was_killed_is_gone_on_with_from_its_report(change, tmp_path, is_same):
    path = tmp_path / "report.json"
    passes = a_pass(BEGUN_MS, 9_000), a_pass(BEGUN_MS + 5, 9_000, unreadable=["a"])
    killed = change(ScriptedCarrier(*passes))
    with pytest.raises(Killed), killed.reported(path):
        compare(killed)
    carrier = ScriptedCarrier(a_pass(BEGUN_MS + 9, unreadable=["a"]), a_pass(BEGUN_MS + 20))
    again = change(carrier, after=generation(1) if is_same else generation(1, created_at_ms=2))
    with again.reported(path):
        compare(again)
    assert carrier.asked[0] == ((BEGUN_MS + 5, ["a"]) if is_same else EVERYTHING)


def test_a_report_of_a_run_that_came_to_its_end_is_not_gone_on_from(change, tmp_path):
    path = tmp_path / "report.json"
    with change(ScriptedCarrier(a_pass(BEGUN_MS))).reported(path):
        pass
    times = {"compared_at_ms": BEGUN_MS, "in_step_at_ms": BEGUN_MS}
    ended = json.loads(path.read_text()) | {"switched": True, **times}
    path.write_text(json.dumps(ended))
    carrier = ScriptedCarrier(a_pass(BEGUN_MS))
    again = change(carrier)
    with again.reported(path):
        compare(again)
    assert carrier.asked == [EVERYTHING]


@pytest.mark.parametrize("content", ["", "[]", '{"from": 0}'])
def test_a_file_that_tells_of_no_such_run_is_written_anew(change, tmp_path, content):
    path = tmp_path / "report.json"
    path.write_text(content)
    carrier = ScriptedCarrier(a_pass(BEGUN_MS))
    made = change(carrier)
    with made.reported(path):
        compare(made)
    assert carrier.asked == [EVERYTHING]
    assert json.loads(path.read_text())["in_step_at_ms"] == BEGUN_MS
