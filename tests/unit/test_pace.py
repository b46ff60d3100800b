"""Searches that would be late are refused at once, and only those."""

import contextlib

import pytest

from services.common.errors import Overloaded, Unavailable
from services.query.pace import Pace


class Clock:
    def __init__(self):
        self.now_s = 0.0

    def __call__(self):
        return self.now_s


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def pace(clock):
    return Pace(clock)


def learn(pace, clock, seconds, calls=1):
    for _ in range(calls):
        with pace.place(left_s=100):
            clock.now_s += seconds


@contextlib.contextmanager
def hold(pace, count, left_s=100.0):
    places = [pace.place(left_s) for _ in range(count)]
    for place in places:
        place.__enter__()
    yield
    for place in places:  # who came first, goes first
        place.__exit__(None, None, None)


def test_nothing_is_refused_before_anything_is_known(pace):
    with hold(pace, 100, left_s=0.001):
        pass


def test_a_search_is_refused_when_those_before_it_leave_too_little_time(pace, clock):
    learn(pace, clock, 0.1)
    with hold(pace, 9):
        # Ten of 0.1 s each, and twice that for slow ones.
        with pytest.raises(Overloaded) as refused, pace.place(left_s=1.99):
            pass
        with pace.place(left_s=2.01):
            pass
    assert refused.value.retry_after_ms == 1000


def test_those_with_more_time_are_still_let_in(pace, clock):
    learn(pace, clock, 0.1)
    with hold(pace, 20):
        with pytest.raises(Overloaded), pace.place(left_s=1):
            pass
        with pace.place(left_s=30):
            pass


def test_a_batch_counts_as_its_searches(pace, clock):
    learn(pace, clock, 0.1)
    with hold(pace, 4), pytest.raises(Overloaded), pace.place(left_s=4, searches=64):
        pass


def test_many_at_once_that_take_no_longer_than_one_raise_what_is_let_in(pace, clock):
    learn(pace, clock, 0.1)
    with hold(pace, 8):
        clock.now_s += 0.1  # all eight together
    with hold(pace, 19), pace.place(left_s=1):
        pass


def test_after_one_slow_answer_a_few_are_let_in_and_all_recovers(pace, clock):
    learn(pace, clock, 10.0)
    learn(pace, clock, 0.01, calls=100)
    with hold(pace, 20), pace.place(left_s=1):
        pass


def test_searches_that_failed_teach_nothing(pace, clock):
    def fail():
        with pace.place(left_s=100):
            clock.now_s += 30
            raise Unavailable("Milvus is frozen")

    learn(pace, clock, 0.01)
    for _ in range(100):
        with pytest.raises(Unavailable):
            fail()
    with hold(pace, 20), pace.place(left_s=1):
        pass


def test_a_refused_search_holds_no_place(pace, clock):
    learn(pace, clock, 0.1)
    with hold(pace, 9):
        for _ in range(100):
            with pytest.raises(Overloaded), pace.place(left_s=1.99):
                pass
        with pace.place(left_s=2.01):
            pass
