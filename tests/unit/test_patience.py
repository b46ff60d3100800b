"""Calls that are made again while the indexer is away."""

from __future__ import annotations

import pytest

from glimpse import Client, errors
from glimpse.cli import patience
from glimpse.cli.patience import PatientClient


@pytest.fixture
def answers(monkeypatch):
    """What tries come to, one after the other."""
    left: list[object] = []

    def answer(client, call):
        found = left.pop(0)
        if isinstance(found, Exception):
            raise found
        return found

    monkeypatch.setattr(Client, "_answer", answer)
    monkeypatch.setattr(patience, "backoff_s", lambda _: 0.0)
    return left


@pytest.fixture
def client():
    made = PatientClient()
    made.patience_s = 60.0
    return made


def test_an_indexer_that_goes_away_is_asked_again(client, answers):
    answers += [1, errors.Unavailable("away"), errors.DeadlineExceeded("late"), 2]
    assert (client.count_images("c"), client.count_images("c")) == (1, 2)


def test_an_indexer_that_never_was_there_is_told_of_at_once(client, answers):
    answers += [errors.Unavailable("away"), 2]
    with pytest.raises(errors.Unavailable):
        client.count_images("c")


@pytest.mark.parametrize("error", [errors.NotFound("none"), errors.FailedPrecondition("serves")])
def test_what_another_try_does_not_mend_is_raised(client, answers, error):
    answers += [1, error, 2]
    client.count_images("c")
    with pytest.raises(type(error)):
        client.count_images("c")


def test_searches_are_tried_as_often_as_any_clients(client, answers):
    answers += [1, errors.Unavailable("away"), 2]
    client.search("c", "dog")
    with pytest.raises(errors.Unavailable):
        client.search("c", "dog")


def test_patience_ends(client, answers):
    answers += [1, errors.Unavailable("away"), 2]
    client.count_images("c")
    client.patience_s = -1.0
    with pytest.raises(errors.Unavailable):
        client.count_images("c")
