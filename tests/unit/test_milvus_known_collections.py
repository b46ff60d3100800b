"""How long a collection's description is trusted, and how callers share the question for it."""

from __future__ import annotations

import asyncio
import gc
from collections import deque

import pytest

from glimpse.errors import DeadlineExceeded, FailedPrecondition, NotFound, Unavailable
from services.vectors.milvus import known_collections, schema
from services.vectors.milvus.known_collections import KnownCollections
from tests.waiting import until

LONG_S = 60.0


class Milvus:
    """Answers each look-up when the test says so; knows of no alias."""

    def __init__(self):
        self.questions = deque()
        self.cancelled = 0

    def call(self, collection="pictures"):
        return Call(self, collection)

    def answer(self, dimension=8):
        marks = schema.Marks("demo", "f1", "AUTO", "IP", 1)
        fields = [{"name": "vector", "params": {"dim": dimension}}]
        self.questions.popleft().set_result({"description": marks.to_json(), "fields": fields})

    def fail(self, error):
        self.questions.popleft().set_exception(error)


class Call:
    def __init__(self, milvus, name):
        self.milvus, self.name = milvus, name

    async def find(self, method, alias):
        assert (method, alias) == ("describe_collection", f"{self.name}__serving")

    async def __call__(self, method, collection):
        assert (method, collection) == ("describe_collection", self.name)
        question = asyncio.get_running_loop().create_future()
        self.milvus.questions.append(question)
        try:
            return await question
        except asyncio.CancelledError:
            self.milvus.cancelled += 1
            raise


@pytest.fixture
def milvus():
    return Milvus()


@pytest.fixture
def known():
    return KnownCollections()


async def asked(known, milvus, max_age_s=LONG_S, callers=1, questions=1, collection="pictures"):
    """Callers that wait by now, and `questions` of all callers that wait for Milvus."""
    waiting = [
        asyncio.create_task(known.get(milvus.call(collection), max_age_s)) for _ in range(callers)
    ]
    await until(lambda: len(milvus.questions) == questions)
    return waiting


async def test_callers_at_once_share_one_question(known, milvus):
    waiting = await asked(known, milvus, callers=5)
    milvus.answer()
    assert {found.dimension for found in await asyncio.gather(*waiting)} == {8}


async def test_what_is_known_is_not_asked_again_while_it_is_young_enough(known, milvus):
    (waiting,) = await asked(known, milvus)
    milvus.answer()
    first = await waiting
    assert await known.get(milvus.call(), LONG_S) is first

    (waiting,) = await asked(known, milvus, max_age_s=0.0)
    milvus.answer(dimension=9)
    assert (await waiting).dimension == 9
    assert (await known.get(milvus.call(), LONG_S)).dimension == 9


async def test_what_will_be_too_old_is_asked_for_ahead_and_nobody_waits(known, milvus, monkeypatch):
    (waiting,) = await asked(known, milvus)
    milvus.answer()
    await waiting
    monkeypatch.setattr(known_collections, "_AHEAD", 0.0)
    for _ in range(2):
        assert (await known.get(milvus.call(), LONG_S)).dimension == 8
    await until(lambda: milvus.questions)
    assert len(milvus.questions) == 1, "one question, whoever asks meanwhile"
    monkeypatch.undo()
    milvus.answer(dimension=9)
    while (await known.get(milvus.call(), LONG_S)).dimension == 8:  # noqa: ASYNC110
        await asyncio.sleep(0)


async def test_who_wants_it_as_of_now_does_not_share_a_question_asked_before(known, milvus):
    before = await asked(known, milvus)
    now = await asked(known, milvus, max_age_s=0.0, questions=2)
    milvus.answer(dimension=8)
    milvus.answer(dimension=9)
    assert [found.dimension for found in await asyncio.gather(*before, *now)] == [8, 9]
    assert (await known.get(milvus.call(), LONG_S)).dimension == 9


async def test_who_leaves_disturbs_nobody(known, milvus):
    first, second, third = await asked(known, milvus, callers=3)
    for leaving in (first, third):
        leaving.cancel()
    await asyncio.wait([first, third])
    milvus.answer()
    assert (await second).dimension == 8


async def test_a_question_for_which_nobody_waits_is_cancelled_and_shared_no_more(known, milvus):
    (leaving,) = await asked(known, milvus)
    leaving.cancel()
    await asyncio.wait([leaving])
    (staying,) = await asked(known, milvus, questions=2)
    assert milvus.cancelled == 1
    milvus.questions.popleft()
    milvus.answer()
    assert (await staying).dimension == 8


async def test_the_deadline_of_who_asked_first_is_not_that_of_the_others(known, milvus):
    first, second, third = await asked(known, milvus, callers=3)
    milvus.fail(DeadlineExceeded("late"))
    with pytest.raises(DeadlineExceeded):
        await first
    await until(lambda: milvus.questions)
    milvus.answer()
    assert (await second) is (await third), "the others share one question again"


async def test_a_failure_is_shared_and_not_remembered(known, milvus):
    waiting = await asked(known, milvus, callers=2)
    milvus.fail(Unavailable("gone"))
    for task in waiting:
        with pytest.raises(Unavailable):
            await task

    (again,) = await asked(known, milvus)
    milvus.answer()
    assert (await again).dimension == 8


async def test_a_collection_of_others_is_refused(known, milvus):
    (waiting,) = await asked(known, milvus)
    milvus.questions.popleft().set_result({"description": "theirs", "fields": []})
    with pytest.raises(FailedPrecondition, match="not created by glimpse"):
        await waiting


async def test_what_is_forgotten_under_way_is_not_remembered_by_its_answer(known, milvus):
    (before,) = await asked(known, milvus)
    known.forget("pictures")
    (after,) = await asked(known, milvus, questions=2)
    milvus.answer(dimension=8)
    milvus.answer(dimension=9)
    assert [(await before).dimension, (await after).dimension] == [8, 9]
    assert (await known.get(milvus.call(), LONG_S)).dimension == 9


async def test_a_failure_that_nobody_waits_for_is_not_reported_as_unseen(known, milvus):
    reports = []
    asyncio.get_running_loop().set_exception_handler(lambda _, report: reports.append(report))
    (waiting,) = await asked(known, milvus)
    milvus.fail(NotFound("gone"))
    waiting.cancel()
    await asyncio.wait([waiting])
    (later,) = await asked(known, milvus)
    milvus.answer()
    await later
    del waiting, later
    gc.collect()
    assert reports == []


async def test_the_least_recently_used_is_forgotten(known, milvus, monkeypatch):
    # Each is known by two names.
    monkeypatch.setattr(known_collections, "_MAX_COLLECTIONS", 3)
    for collection in ("a", "b"):
        (waiting,) = await asked(known, milvus, collection=collection)
        milvus.answer()
        await waiting
    await known.get(milvus.call("a"), LONG_S)
    (waiting,) = await asked(known, milvus, collection="c")
    milvus.answer()
    await waiting

    await known.get(milvus.call("a"), LONG_S)
    (waiting,) = await asked(known, milvus, collection="b")
    milvus.answer()
    await waiting
