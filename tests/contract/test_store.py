"""What every store does with rows: write, fetch, search, count, delete."""

from __future__ import annotations

import asyncio
import json

import numpy as np
import pytest

from glimpse.errors import DeadlineExceeded, InvalidInput, NotFound
from services.common.deadline import Deadline
from services.vectors.filters import Comparison, Prefix
from services.vectors.metadata import Metadata
from services.vectors.records import ALL_FIELDS, Place, Row
from tests.contract.conftest import DIMENSION, T, axis, between, picture

HOSTILE_IDS = ['a"', 'a" or id != "', "a'b", "a\\", "", "a b", "ü", "x" * 129, "a\n"]


async def ids_found(store, collection, query=None, limit=10, **options) -> list[str]:
    query = axis(0) if query is None else query
    options.setdefault("consistency", "strong")
    (hits,) = await store.search(collection, query[None], limit, deadline=Deadline(T), **options)
    return [hit.id for hit in hits]


async def test_a_row_comes_back_with_every_field(store, collection):
    metadata = {
        "camera": {"make": "Leica", "lenses": [50, 90.5, None, {"f": 1.4}]},
        'quote"d': 'it\'s "so"\n\\ ü 犬 🐕',
        "flag": True,
        "big": 2**53 + 1,
        "empty": {},
    }
    row = Row(
        id="photos/2024:a.b_c-1",
        vector=between(0.3),
        uri="file:///bilder/schöne hündin 犬.jpg",
        content_sha256="ab" * 32,
        width=4000,
        height=3000,
        format="JPEG",
        indexed_at_ms=1_732_000_000_123,
        metadata=Metadata.of(metadata),
    )
    await store.upsert(collection, [row], deadline=Deadline(T))

    fetched = await store.fetch(collection, [row.id], ALL_FIELDS, deadline=Deadline(T))
    (hits,) = await store.search(
        collection, axis(0)[None], 1, fields=ALL_FIELDS, consistency="strong", deadline=Deadline(T)
    )

    ((_, listed),) = await store.list_rows(collection, 2, ALL_FIELDS, deadline=Deadline(T))
    listed["metadata"] = json.loads(listed["metadata"])

    for fields in (fetched[row.id], hits[0].fields, listed):
        assert fields.pop("vector") == pytest.approx(row.vector)
        assert fields.pop("metadata") == metadata
        assert fields == {name: getattr(row, name) for name in fields}
        assert set(fields) == set(ALL_FIELDS) - {"vector", "metadata"}
    assert hits[0].score == pytest.approx(0.3, abs=1e-5)


async def test_only_the_asked_fields_come(store, collection):
    await store.upsert(collection, [picture("a", uri="u", width=3)], deadline=Deadline(T))

    assert await store.fetch(collection, ["a"], ["width"], deadline=Deadline(T)) == {
        "a": {"width": 3}
    }
    (hits,) = await store.search(
        collection, axis(0)[None], 1, fields=["uri"], consistency="strong", deadline=Deadline(T)
    )
    assert hits[0].fields == {"uri": "u"}
    with pytest.raises(InvalidInput, match="fields: 'colour'"):
        await store.fetch(collection, ["a"], ["colour"], deadline=Deadline(T))


async def test_upsert_replaces_the_row_of_the_same_id(store, collection):
    await store.upsert(collection, [picture("a", axis(0), uri="old")], deadline=Deadline(T))
    await store.upsert(collection, [picture("a", axis(1), uri="new")], deadline=Deadline(T))

    fetched = await store.fetch(collection, ["a"], ["uri", "vector"], deadline=Deadline(T))
    assert fetched["a"]["uri"] == "new"
    assert fetched["a"]["vector"] == pytest.approx(axis(1))
    assert await store.count(collection, deadline=Deadline(T)) == 1


async def test_of_one_id_twice_in_one_call_the_last_stays(store, collection):
    rows = [picture("a", uri="first"), picture("b"), picture("a", uri="last")]
    await store.upsert(collection, rows, deadline=Deadline(T))

    assert await store.count(collection, deadline=Deadline(T)) == 2
    assert await store.fetch(collection, ["a"], ["uri"], deadline=Deadline(T)) == {
        "a": {"uri": "last"}
    }


async def test_concurrent_upserts_of_the_same_ids_end_as_one_row_each(store, collection):
    rows = [[picture(f"{i}", uri=f"{writer}") for i in range(50)] for writer in range(4)]
    await asyncio.gather(*(store.upsert(collection, some, deadline=Deadline(T)) for some in rows))

    assert await store.count(collection, deadline=Deadline(T)) == 50
    assert len(await ids_found(store, collection, limit=100)) == 50


async def test_more_rows_than_fit_in_one_request_are_all_written(store, collection):
    rows = [picture(f"{i}", width=i) for i in range(2_500)]
    await store.upsert(collection, rows, deadline=Deadline(T))

    assert await store.count(collection, deadline=Deadline(T)) == 2_500
    fetched = await store.fetch(
        collection, [row.id for row in rows], ["width"], deadline=Deadline(T)
    )
    assert fetched == {row.id: {"width": row.width} for row in rows}


@pytest.mark.parametrize(
    ("field", "bad"),
    [
        ("vector", picture("x", np.full(DIMENSION, np.nan, np.float32))),
        ("vector", picture("x", np.full(DIMENSION, np.inf, np.float32))),
        ("vector", picture("x", 2 * axis(0))),
        ("vector", picture("x", 0 * axis(0))),
        ("vector", picture("x", np.ones(1, np.float32))),
        ("id", picture('x" or id != "')),
        ("uri", picture("x", uri="u" * 2_049)),
        ("width", picture("x", width=-1)),
        ("height", picture("x", height=2**31)),
    ],
)  # fmt: skip
async def test_a_row_beyond_a_bound_is_named_and_nothing_is_written(store, collection, field, bad):
    with pytest.raises(InvalidInput) as raised:
        await store.upsert(collection, [picture("good"), bad], deadline=Deadline(T))

    assert raised.value.field == f"rows[1].{field}"
    assert await store.count(collection, deadline=Deadline(T)) == 0


async def test_the_largest_row_is_taken(store, collection):
    metadata = {"k": "ü" * 8_187}
    row = picture("i" * 128, uri="犬" * 2_048, width=2**31 - 1, format="F" * 16, metadata=metadata)
    await store.upsert(collection, [row], deadline=Deadline(T))

    fetched = await store.fetch(
        collection, [row.id], ["uri", "metadata", "width"], deadline=Deadline(T)
    )
    assert fetched[row.id] == {"uri": row.uri, "metadata": metadata, "width": row.width}


@pytest.mark.parametrize("id", HOSTILE_IDS)
async def test_a_hostile_id_is_refused_and_touches_nothing(store, collection, id):
    await store.upsert(collection, [picture("a"), picture("b")], deadline=Deadline(T))

    for call in (
        store.delete_ids(collection, ["zz", id], deadline=Deadline(T)),
        store.fetch(collection, ["zz", id], ["uri"], deadline=Deadline(T)),
    ):
        with pytest.raises(InvalidInput) as raised:
            await call
        assert raised.value.field == "ids[1]"
    assert await store.count(collection, deadline=Deadline(T)) == 2


async def test_fetch_leaves_out_what_is_not_there(store, collection):
    await store.upsert(collection, [picture("a"), picture("b")], deadline=Deadline(T))

    fetched = await store.fetch(collection, ["b", "none", "a", "b"], [], deadline=Deadline(T))
    assert fetched == {"a": {}, "b": {}}
    assert await store.fetch(collection, [], ["uri"], deadline=Deadline(T)) == {}


async def all_behind(store, collection, after_id, **options):
    rows = []
    while page := await store.list_rows(
        collection, 1_000, deadline=Deadline(T), after_id=after_id, **options
    ):
        rows += page
        after_id = page[-1][0]
    return rows


async def test_rows_are_listed_in_the_order_of_their_ids_page_by_page(store, collection):
    """Also where they lie in several segments, some of them replaced or deleted since."""
    ids = [f"{number:03}" for number in range(300)]
    shuffled = ids[::7] + [id for id in ids if int(id) % 7]
    for start in (0, 100, 200):
        rows = [picture(id, uri=f"old/{id}") for id in shuffled[start : start + 100]]
        await store.upsert(collection, rows, deadline=Deadline(T))
        await store.settle(collection, deadline=Deadline(T))
    await store.upsert(
        collection, [picture(id, uri=f"new/{id}") for id in ids[::10]], deadline=Deadline(T)
    )
    await store.delete_ids(collection, ids[:3], deadline=Deadline(T))

    listed, after_id = [], ""
    while page := await store.list_rows(
        collection, 64, ["uri"], deadline=Deadline(T), after_id=after_id
    ):
        listed += page
        after_id = page[-1][0]
    assert [id for id, _ in listed] == ids[3:]
    assert all((row["uri"] == f"new/{id}") == (int(id) % 10 == 0) for id, row in listed)

    new = Prefix("uri", "new/")
    rest = await all_behind(store, collection, "250", filter=new)
    assert rest == [(id, {}) for id in ids[260::10]]

    some = ["290", "never", "012", "001", "290", "111"]
    listed = await store.list_rows(collection, 2, ["uri"], deadline=Deadline(T), ids=some)
    assert listed == [("012", {"uri": "old/012"}), ("111", {"uri": "old/111"})]
    rest = await all_behind(store, collection, "111", ids=some, fields=["uri", "metadata"])
    assert rest == [("290", {"uri": "new/290", "metadata": "{}"})]


async def test_a_bounded_list_has_what_was_written_before_the_last_strong_one(store, collection):
    rows = [picture(f"{number:03}", between(number / 300)) for number in range(300)]
    await store.upsert(collection, rows, deadline=Deadline(T))

    first = await store.list_rows(collection, 1, deadline=Deadline(T))
    behind = await all_behind(store, collection, "000", fields=["vector"], consistency="bounded")
    assert [id for id, _ in (*first, *behind)] == [row.id for row in rows]
    for (_, fields), row in zip(behind, rows[1:], strict=True):
        assert fields["vector"].tobytes() == row.vector.tobytes()


async def test_delete_by_ids_says_how_many_were_there(store, collection):
    await store.upsert(collection, [picture(id) for id in "abc"], deadline=Deadline(T))

    assert await store.delete_ids(collection, ["a", "none", "b", "a"], deadline=Deadline(T)) == 2
    assert await store.delete_ids(collection, ["a"], deadline=Deadline(T)) == 0
    assert await ids_found(store, collection) == ["c"]
    assert await store.count(collection, deadline=Deadline(T)) == 1


async def test_a_deleted_row_can_be_written_again(store, collection):
    await store.upsert(collection, [picture("a", uri="old")], deadline=Deadline(T))
    await store.delete_ids(collection, ["a"], deadline=Deadline(T))
    await store.upsert(collection, [picture("a", uri="new")], deadline=Deadline(T))

    assert await store.fetch(collection, ["a"], ["uri"], deadline=Deadline(T)) == {
        "a": {"uri": "new"}
    }


async def test_hits_of_several_queries_are_ordered_by_score(store, collection):
    cosines = {"far": -0.5, "best": 0.9, "good": 0.6, "poor": 0.1}
    rows = [picture(id, between(cosine)) for id, cosine in cosines.items()]
    await store.upsert(collection, rows, deadline=Deadline(T))

    both = await store.search(
        collection, np.stack([axis(0), -axis(0)]), 3, consistency="strong", deadline=Deadline(T)
    )

    assert [hit.id for hit in both[0]] == ["best", "good", "poor"]
    assert [hit.id for hit in both[1]] == ["far", "poor", "good"]
    assert [hit.score for hit in both[0]] == pytest.approx([0.9, 0.6, 0.1], abs=1e-5)


async def test_pages_over_equal_scores_neither_repeat_nor_lose_a_row(store, collection):
    equal = [picture(f"{i:02}", axis(0)) for i in range(30)]
    other = [picture("near", between(0.9)), picture("far", between(0.5))]
    await store.upsert(collection, [*other, *equal[::-1]], deadline=Deadline(T))

    pages = [
        await ids_found(store, collection, limit=7, offset=offset) for offset in range(0, 49, 7)
    ]

    assert [id for page in pages for id in page] == [row.id for row in equal] + ["near", "far"]


async def test_equal_scores_within_a_page_come_by_id_with_their_attributes(store, collection):
    equal = [picture(f"{i:02}", axis(0), width=i) for i in range(9)]
    await store.upsert(
        collection, [*equal[::-1], picture("far", between(0.5))], deadline=Deadline(T)
    )

    (hits,) = await store.search(
        collection, axis(0)[None], 5, offset=2, fields=["width"], consistency="strong",
        exclude_ids=["00"], deadline=Deadline(T),
    )  # fmt: skip

    assert [(hit.id, hit.fields) for hit in hits] == [
        (f"{i:02}", {"width": i}) for i in range(3, 8)
    ]


async def test_queries_that_meet_equal_scores_do_not_change_the_others(store, collection):
    equal = [picture(f"{i:03}", axis(0), width=i) for i in range(100)]
    other = [picture(f"near{i}", between(i / 10), width=i) for i in range(3)]
    await store.upsert(collection, equal + other, deadline=Deadline(T))

    queries = np.stack([axis(0), axis(1), axis(0)])
    answers = await store.search(
        collection, queries, 2, fields=["width"], consistency="strong", deadline=Deadline(T)
    )

    assert [[(hit.id, hit.fields["width"]) for hit in hits] for hits in answers] == [
        [("000", 0), ("001", 1)],
        [("near0", 0), ("near1", 1)],
        [("000", 0), ("001", 1)],
    ]


async def test_pages_over_more_equal_scores_than_are_ordered_at_once_lose_no_row(store, collection):
    """The pages end before, at and after the first two windows, and within a page."""
    equal = [picture(f"{i:04}", axis(0)) for i in range(500)]
    near = [picture(f"near{i}", between(0.99)) for i in range(7)]
    await store.upsert(collection, [*equal[::-1], *near], deadline=Deadline(T))

    limits = [10, 110, 8, 100, 28, 100, 200]
    pages, offset = [], 0
    for limit in limits:
        pages.append(await ids_found(store, collection, limit=limit, offset=offset))
        offset += limit
    found = [id for page in pages for id in page]

    assert [len(page) for page in pages] == [*limits[:-1], 507 - sum(limits[:-1])]
    assert sorted(found[:500]) == [row.id for row in equal]
    assert sorted(found[500:]) == [row.id for row in near]
    assert pages[0] == sorted(pages[0])


async def test_what_lies_behind_a_place_is_found_whether_its_row_is_there_or_not(store, collection):
    equal = [picture(f"{i:02}", axis(0)) for i in range(9)]
    far = [picture(f"far{i}", between(0.5 - i / 10)) for i in range(3)]
    await store.upsert(collection, [*equal, *far], deadline=Deadline(T))

    there, gone = Place(5, 1.0, "04"), Place(5, 1.0, "04a")
    for place in (there, gone):
        assert await ids_found(store, collection, limit=5, after=place) == [
            "05", "06", "07", "08", "far0",
        ]  # fmt: skip
    assert await ids_found(store, collection, limit=2, after=Place(1, 0.45, "a")) == [
        "far1",
        "far2",
    ]
    assert await ids_found(store, collection, limit=2, after=Place(99, 0.3, "far2")) == []
    assert await ids_found(
        store, collection, limit=2, after=Place(2, 0.5, "far0"), exclude_ids=["far1"]
    ) == ["far2"]


async def test_excluded_ids_leave_their_place_to_others(store, collection):
    rows = [picture("abcd"[i], between(cosine)) for i, cosine in enumerate((0.9, 0.8, 0.7, 0.6))]
    await store.upsert(collection, rows, deadline=Deadline(T))

    assert await ids_found(store, collection, limit=2, exclude_ids=["a", "zz"]) == ["b", "c"]
    assert await ids_found(store, collection, limit=2, offset=1, exclude_ids=["b"]) == ["c", "d"]


async def test_a_strong_search_sees_each_row_just_written(store, collection):
    for number in range(5):
        await store.upsert(collection, [picture(f"{number}", axis(number))], deadline=Deadline(T))
        assert await ids_found(store, collection, axis(number), limit=1) == [f"{number}"]


async def test_an_empty_collection_has_no_hits(store, collection):
    assert await ids_found(store, collection) == []
    assert await store.count(collection, deadline=Deadline(T)) == 0


@pytest.mark.parametrize(
    ("field", "vectors", "limit", "offset"),
    [
        ("limit", axis(0)[None], 0, 0),
        ("offset", axis(0)[None], 1, -1),
        ("offset", axis(0)[None], 1_000, 15_385),
        ("vectors", axis(0), 1, 0),
        ("vectors", np.ones((1, 3), np.float32), 1, 0),
        ("vectors", np.full((1, DIMENSION), np.nan, np.float32), 1, 0),
    ],
)
async def test_a_search_beyond_a_bound_is_refused(store, collection, field, vectors, limit, offset):
    with pytest.raises(InvalidInput) as raised:
        await store.search(collection, vectors, limit, offset=offset, deadline=Deadline(T))
    assert raised.value.field == field


async def test_the_largest_window_is_answered(store, collection):
    await store.upsert(collection, [picture("a"), picture("b", between(0.5))], deadline=Deadline(T))

    assert await ids_found(store, collection, limit=1_000, offset=0) == ["a", "b"]
    assert await ids_found(store, collection, limit=1_000, offset=15_384) == []


async def test_a_call_without_time_left_ends_at_once(store, collection):
    with pytest.raises(DeadlineExceeded):
        await store.count(collection, deadline=Deadline(0))


async def test_every_call_on_an_unknown_collection_says_so(store):
    calls = [
        store.describe_collection("nowhere", deadline=Deadline(T)),
        store.drop_collection("nowhere", deadline=Deadline(T)),
        store.upsert("nowhere", [picture("a")], deadline=Deadline(T)),
        store.fetch("nowhere", ["a"], [], deadline=Deadline(T)),
        store.list_rows("nowhere", 1, deadline=Deadline(T)),
        store.delete_ids("nowhere", ["a"], deadline=Deadline(T)),
        store.delete_where("nowhere", Comparison("width", ">", 1), deadline=Deadline(T)),
        store.search("nowhere", axis(0)[None], 1, deadline=Deadline(T)),
        store.count("nowhere", deadline=Deadline(T)),
        store.settle("nowhere", deadline=Deadline(T)),
    ]
    for call in calls:
        with pytest.raises(NotFound) as raised:
            await call
        assert raised.value.reason == "COLLECTION_NOT_FOUND"
