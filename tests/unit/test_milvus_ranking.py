"""What a search asks of Milvus where scores are equal, and in which order it gives them."""

from __future__ import annotations

import zlib

import numpy as np
import pytest

from services.vectors.bounds import MAX_WINDOW
from services.vectors.milvus.connection import Backend
from services.vectors.milvus.ranking import Search, Span
from services.vectors.records import Place

TIES = {f"t{i:05}": 0.9 for i in range(5_000)}


class Call:
    """A Milvus that has, for each query, rows with their scores; of equal ones it gives any."""

    collection = "pictures"
    expression = ""

    def __init__(self, *scores, kind="server"):
        self.scores = scores
        self.kind = kind
        self.asked = []

    async def backend(self):
        return Backend(self.kind, "1")

    async def __call__(self, method, collection, vectors=None, **options):
        fields = tuple(options["output_fields"][1:])
        if method == "query":
            ids = options["filter"].removeprefix("id in ")
            ids = [id.strip('"') for id in ids.strip("[]").split(", ")]
            self.asked.append(("query", len(ids), fields))
            return [{"id": id, **dict.fromkeys(fields, f"of {id}")} for id in ids]
        window = options["limit"]
        self.asked.append(("search", len(vectors), window, fields))
        return [self._best(self.scores[int(vector[0])], window, fields) for vector in vectors]

    def _best(self, scores, window, fields):
        # By no order that a caller could guess, but the same one each time.
        ranked = sorted(scores, key=lambda id: (-scores[id], zlib.crc32(f"{id} {window}".encode())))
        return [
            {"id": id, "distance": scores[id], "entity": dict.fromkeys(fields, f"of {id}")}
            for id in ranked[:window]
        ]


async def search(call, *queries, offset=0, limit=10, after=None, fields=("uri",), excluded=()):
    span = Span(offset, limit, frozenset(excluded), after)
    vectors = np.array([[query] for query in queries], dtype=np.float32)
    return await Search(call, span, fields, "bounded").run(vectors)


async def test_without_equal_scores_at_the_end_there_is_one_request():
    call = Call({"b": 0.9, "a": 0.9, "c": 0.5, "d": 0.4})
    (hits,) = await search(call, 0, limit=2)
    assert [hit.id for hit in hits] == ["a", "b"]
    assert call.asked == [("search", 1, 3, ("uri",))]


async def test_five_thousand_equal_scores_cost_one_window_more():
    call = Call(TIES)
    (hits,) = await search(call, 0)
    assert [hit.id for hit in hits] == sorted(hit.id for hit in hits)
    assert [hit.fields for hit in hits] == [{"uri": f"of {hit.id}"} for hit in hits]
    assert call.asked == [("search", 1, 11, ("uri",)), ("search", 1, 64, ("uri",))]


@pytest.mark.parametrize("fields", [("metadata",), ("uri", "metadata")])
async def test_large_attributes_are_fetched_for_the_page_alone(fields):
    call = Call(TIES)
    (hits,) = await search(call, 0, fields=fields)
    assert [set(hit.fields) for hit in hits] == [set(fields)] * 10
    assert call.asked[:2] == [("search", 1, 11, fields), ("search", 1, 64, ())]
    assert [asked[:2] for asked in call.asked[2:]] in ([("query", n)] for n in range(11))


async def test_attributes_of_many_rows_are_fetched_for_the_pages_alone():
    call = Call(TIES)
    answers = await search(call, *[0] * 17)
    assert {tuple(hit.fields) for hits in answers for hit in hits} == {("uri",)}
    assert call.asked[:2] == [("search", 17, 11, ("uri",)), ("search", 17, 64, ())]


async def test_only_the_queries_that_are_tied_ask_again():
    call = Call(TIES, {f"n{i:02}": 1 - i / 100 for i in range(20)})
    answers = await search(call, 1, 0, 1, fields=())
    assert (
        [hit.id for hit in answers[0]]
        == [f"n{i:02}" for i in range(10)]
        == [hit.id for hit in answers[2]]
    )
    assert call.asked == [("search", 3, 11, ()), ("search", 1, 64, ())]


async def test_many_tied_queries_ask_again_in_parts():
    call = Call(TIES)
    answers = await search(call, *[0] * 100, fields=())
    assert len({tuple(hit.id for hit in hits) for hits in answers}) == 1
    assert sorted(call.asked[1:]) == [("search", n, 64, ()) for n in (4, 32, 32, 32)]


@pytest.mark.parametrize("limit", [10, 100, 127, 128, 129, 300])
@pytest.mark.parametrize("above", [0, 7, 126, 200])
async def test_pages_of_any_size_hold_each_row_once_in_one_order(limit, above):
    best = {f"a{i:05}": 0.99 for i in range(above)}
    call = Call({**best, **dict(list(TIES.items())[:400]), "last": 0.1})
    found = []
    for offset in range(0, 700, limit):
        (hits,) = await search(call, 0, offset=offset, limit=limit, fields=())
        found += hits
    assert len({hit.id for hit in found}) == len(found)
    scores = [hit.score for hit in found]
    assert scores == sorted(scores, reverse=True)
    assert len(found) == above + 401


async def test_a_group_that_one_window_holds_is_in_the_order_of_its_ids():
    call = Call(dict(list(TIES.items())[:30]))
    found = [
        hit.id
        for offset in range(0, 30, 7)
        for hit in (await search(call, 0, offset=offset, limit=7, fields=()))[0]
    ]
    assert found == list(TIES)[:30]


async def test_the_last_window_is_the_end():
    call = Call({f"t{i:05}": 0.9 for i in range(20_000)})
    (hits,) = await search(call, 0, offset=MAX_WINDOW - 10, limit=10, fields=())
    assert len(hits) == 10
    assert max(asked[2] for asked in call.asked) == MAX_WINDOW


def ranked(hits, before=0):
    """The place that a page ends with, of which `before` hits came on earlier pages."""
    return Place(before + len(hits), hits[-1].score, hits[-1].id)


@pytest.mark.parametrize("limit", [10, 128, 300])
async def test_pages_behind_each_other_hold_each_row_of_a_large_group_once(limit):
    call = Call({**{f"a{i:05}": 0.99 for i in range(100)}, **dict(list(TIES.items())[:400])})
    found, after = [], None
    while True:
        (hits,) = await search(call, 0, limit=limit, after=after, fields=())
        found += hits
        if len(hits) < limit:
            break
        after = ranked(hits, len(found) - len(hits))
    assert len({hit.id for hit in found}) == len(found) == 500


async def test_a_page_behind_a_place_costs_one_request_unless_many_rows_came_before_it():
    call = Call({f"n{i:05}": 1 - i / 10_000 for i in range(2_000)})
    (first,) = await search(call, 0, limit=100, fields=())
    call.scores[0].update({f"new{i}": 1.0 for i in range(1_000)})
    call.asked.clear()
    (second,) = await search(call, 0, limit=100, after=ranked(first), fields=())
    assert [hit.id for hit in second] == [f"n{i:05}" for i in range(100, 200)]
    assert [asked[2] for asked in call.asked if asked[2] not in (64, 256, 1_024, 4_096)] == [
        201,
        401,
        801,
        1601,
    ]
    (third,) = await search(call, 0, limit=100, after=ranked(second, 1_100), fields=())
    assert third[0].id == "n00200"


async def test_rows_left_out_are_no_part_of_the_place():
    call = Call({f"n{i:02}": 1 - i / 100 for i in range(40)})
    (first,) = await search(call, 0, excluded=("n03", "n12"), fields=())
    assert first[-1].id == "n10"
    (second,) = await search(call, 0, excluded=("n03", "n12"), after=ranked(first), fields=())
    assert [hit.id for hit in second] == [f"n{i:02}" for i in range(11, 22) if i != 12]


async def test_a_row_that_is_deleted_meanwhile_is_left_out():
    class Deleting(Call):
        async def __call__(self, method, *args, **options):
            rows = await super().__call__(method, *args, **options)
            return [] if method == "query" else rows

    (hits,) = await search(Deleting(TIES), 0, fields=("metadata",))
    assert len(hits) < 10


async def test_lite_is_asked_for_few_rows_at_once_and_gives_the_same():
    scores = [{f"{query}-{row}": 1 - row / 1_000 for row in range(300)} for query in range(20)]
    server, lite = Call(*scores), Call(*scores, kind="lite")
    assert await search(lite, *range(20), limit=100) == await search(server, *range(20), limit=100)
    assert server.asked == [("search", 20, 101, ("uri",))]
    assert lite.asked == [("search", 5, 101, ("uri",))] * 4
