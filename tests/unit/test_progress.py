"""What is said of progress where there is no terminal, and what a terminal sees besides the bar."""

from __future__ import annotations

import queue

import pytest

from glimpse.cli import progress
from glimpse.cli.progress import Counter


@pytest.fixture
def said(monkeypatch):
    """Waits for a line that begins in a certain way, and returns it."""
    lines: queue.SimpleQueue[str] = queue.SimpleQueue()
    monkeypatch.setattr(progress, "say", lines.put)
    monkeypatch.setattr(progress, "_PLAIN_FIRST_S", 0.01)
    monkeypatch.setattr(progress, "_PLAIN_EVERY_S", 0.01)

    def next_line(beginning):
        while not (line := lines.get(timeout=20)).startswith(beginning):
            pass
        return line

    return next_line


def test_how_far_a_search_is_is_said_before_the_first_step(said):
    looked_at = 7
    with Counter("indexing", None, "images", lambda: f"{looked_at} entries looked at") as counter:
        assert said("") == "indexing: 7 entries looked at"
        looked_at = 9
        counter.step("1 unchanged")
        assert said("indexing: 1, ").endswith(" images/s, 1 unchanged, 9 entries looked at")


def test_a_counter_that_stands_still_goes_on_saying_how_far_it_is(said):
    with Counter("indexing", 10, "images") as counter:
        counter.step()
        for _ in range(3):
            assert " s left" in said("indexing: 1 of 10, ")


def test_a_terminal_sees_how_far_the_search_is(monkeypatch, capsys):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "200")
    with Counter("indexing", None, "images", lambda: "7 entries looked at"):
        pass
    assert "7 entries looked at" in capsys.readouterr().err
