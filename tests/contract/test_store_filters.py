"""What every store takes for a filter, and what it means."""

from __future__ import annotations

import asyncio
import contextlib
import random

import pytest

from glimpse.errors import AlreadyExists, InvalidInput
from services.common.deadline import Deadline
from services.vectors.filters import (
    And,
    AnyOf,
    Comparison,
    Exists,
    Filter,
    Not,
    Or,
    Prefix,
)
from tests.contract.conftest import ON_MILVUS, T, axis, picture, spec
from tests.memory_store import matches, values_of

ROWS = [
    picture("a", uri="s3://x/1.jpg", width=640, height=480, format="JPEG",
            indexed_at_ms=1_700_000_000_000,
            metadata={"n": 1, "tag": "dog", "deep": {"list": [1, {"y": "z"}]}, "ok": True}),
    picture("b", uri="s3://x/2.png", width=800, height=600, format="PNG",
            indexed_at_ms=1_700_000_000_500,
            metadata={"n": 2.5, "tag": "a\"b'c\\d%_e", "ü": 5, 'k"q\\': 1}),
    picture("c", uri="file:///bild/ü%_.png", width=1200, height=900, format="PNG",
            metadata={"n": "5", "tag": "犬", "ok": False}),
    picture("d", metadata={}),
]  # fmt: skip


@pytest.fixture
async def filled(store) -> str:
    """The name of a collection of ROWS, which the tests leave as it is."""
    name = "filled"
    with contextlib.suppress(AlreadyExists):
        await store.create_collection(spec(name), deadline=Deadline(T))
        await store.upsert(name, ROWS, deadline=Deadline(T))
    return name


async def taken(store, collection, filter) -> str:
    """The ids of the rows that the filter takes, by search and by count."""
    (hits,), count = await asyncio.gather(
        store.search(
            collection, axis(0)[None], 10, filter=filter, consistency="strong", deadline=Deadline(T)
        ),
        store.count(collection, filter, deadline=Deadline(T)),
    )
    assert count == len(hits)
    return "".join(hit.id for hit in hits)


@ON_MILVUS
@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ('uri == "s3://x/1.jpg"', "a"),
        ('uri like "s3://x/%"', "ab"),
        ("width >= 800", "bc"),
        ("width > 0 and height < 900", "ab"),
        ("800 <= width", "bc"),
        ("(width == 640 || width == 800) && !(height == 600)", "a"),
        ('format in ["PNG", "GIF"]', "bc"),
        ("format not in ['PNG']", "ad"),
        ("indexed_at_ms > 1700000000000", "b"),
        ('metadata["n"] == 1', "a"),
        ('metadata["n"] > 1', "b"),
        ('metadata["n"] == 2.5', "b"),
        ('metadata["n"] == "5"', "c"),
        ('metadata["tag"] == "a\\"b\'c\\\\d%_e"', "b"),
        ('metadata["tag"] == "犬"', "c"),
        ('metadata["ok"] == true', "a"),
        ('metadata["deep"]["list"][1]["y"] == "z"', "a"),
        ('exists metadata["tag"]', "abc"),
        ('metadata["missing"] == 1', ""),
        ('id in ["a", "d"]', "ad"),
    ],
)
async def test_a_milvus_expression_takes_what_it_says(store, filled, expression, expected):
    assert await taken(store, filled, expression) == expected


@pytest.mark.parametrize(
    ("filter", "expected"),
    [
        ("", "abcd"),
        ("  ", "abcd"),
        (Comparison("width", ">=", 800), "bc"),
        (Comparison("width", "!=", 800), "acd"),
        (Comparison("format", "<", "K"), "ad"),
        (AnyOf("width", (640, 1200, 7)), "ac"),
        (AnyOf("metadata", (1, "5", True), ("n",)), "ac"),
        (Prefix("uri", "s3://"), "ab"),
        (Prefix("uri", "file:///bild/ü%"), "c"),
        (Prefix("metadata", "do", ("tag",)), "a"),
        (Exists(("deep", "list", 0)), "a"),
        (Comparison("metadata", "!=", 1, ("n",)), "bc"),
        (Comparison("metadata", "==", 5, ("ü",)), "b"),
        (Comparison("metadata", "==", 1, ('k"q\\',)), "b"),
        (Comparison("metadata", "<=", 2.5, ("n",)), "ab"),
        (Not(Prefix("uri", "s3://")), "cd"),
        (And((Comparison("width", ">", 1), Not(AnyOf("format", ("PNG",))))), "a"),
        (Or((Comparison("id", "==", "d"), Comparison("metadata", "==", False, ("ok",)))), "cd"),
        (Comparison("width", "<", 1_000), "abd"),
        (Comparison("metadata", "<", 1e30, ("n",)), "ab"),
        (Comparison("indexed_at_ms", "<=", 2**63 - 1), "abcd"),
        (Or(tuple(Comparison("width", "==", n) for n in range(640, 640 + 256))), "ab"),
        (And(tuple(Comparison("width", "!=", n) for n in range(640, 640 + 256))), "cd"),
        (AnyOf("metadata", tuple(range(256)), ("n",)), "a"),
    ],
)
async def test_a_typed_filter_takes_what_it_says(store, filled, filter, expected):
    assert await taken(store, filled, filter) == expected


@pytest.mark.parametrize(
    "value",
    [
        'x" or id != "',
        "x' or id != '",
        "\\",
        '\\" or 1 == 1 or "',
        "%",
        "{id}",
        "犬🐕",
        '"]',
    ],
)
async def test_no_value_becomes_part_of_an_expression(store, collection, value):
    rows = [picture("g", uri=value, metadata={value: value}), picture("o", uri="other")]
    await store.upsert(collection, rows, deadline=Deadline(T))

    for filter in (
        Comparison("uri", "==", value),
        Comparison("metadata", "==", value, (value,)),
        AnyOf("uri", (value, "none")),
        Prefix("uri", value),
    ):
        assert await taken(store, collection, filter) == "g"
    assert (
        await store.delete_where(collection, Comparison("uri", "==", value), deadline=Deadline(T))
        == 1
    )
    assert await store.count(collection, deadline=Deadline(T)) == 1


@ON_MILVUS
@pytest.mark.parametrize(
    "wrong",
    [
        "width >",
        "(width > 1",
        "width > 1)",
        "colour == 1",
        'width == "a"',
        "uri == 3",
        "width",
        "metadata",
        'uri == "open',
        "width == 1; drop",
        "width > {limit}",
        "no_such_function(width)",
        "vector == 1",
        "width = 1",
        "and",
        "(" * 65 + "width > 1" + ")" * 65,
        "!" * 65 + "(width > 1)",
    ],
)
async def test_a_wrong_expression_is_named_and_deletes_nothing(store, filled, wrong):
    await assert_refused(store, filled, wrong)


@pytest.mark.parametrize(
    "wrong",
    [
        Comparison("width", "==", "a"),
        Comparison("width", "==", 1.5),
        Comparison("width", "==", True),
        Comparison("uri", "==", 3),
        Comparison("uri", "~", "a"),
        Comparison("uri", "==", "line\nbreak"),
        Comparison("uri", "==", "\x7f"),
        Comparison("metadata", "==", 1),
        Comparison("metadata", "==", float("inf"), ("n",)),
        Comparison("metadata", "<", True, ("n",)),
        Comparison("width", "==", 1, ("n",)),
        Comparison("vector", "==", 1),
        Comparison("width", "<", 2**63),
        Prefix("width", "6"),
        AnyOf("width", ()),
        AnyOf("metadata", tuple(range(257)), ("n",)),
        And(()),
    ],
    ids=str,
)
async def test_a_wrong_filter_is_named_and_deletes_nothing(store, filled, wrong):
    await assert_refused(store, filled, wrong)


async def assert_refused(store, filled, wrong):
    for call in (
        store.search(filled, axis(0)[None], 10, filter=wrong, deadline=Deadline(T)),
        store.count(filled, wrong, deadline=Deadline(T)),
        store.delete_where(filled, wrong, deadline=Deadline(T)),
    ):
        with pytest.raises(InvalidInput) as raised:
            await call
        assert (raised.value.field, raised.value.reason) == ("filter", "INVALID_FILTER")
        assert len(str(raised.value)) > len("filter: ")
    assert await store.count(filled, deadline=Deadline(T)) == len(ROWS)


@pytest.mark.parametrize("empty", ["", "   "])
async def test_delete_by_filter_needs_a_filter(store, filled, empty):
    with pytest.raises(InvalidInput) as raised:
        await store.delete_where(filled, empty, deadline=Deadline(T))
    assert (raised.value.field, raised.value.reason) == ("filter", "EMPTY_FILTER")
    assert await store.count(filled, deadline=Deadline(T)) == len(ROWS)


async def test_delete_by_filter_takes_only_what_it_says(store, collection):
    await store.upsert(collection, ROWS, deadline=Deadline(T))

    png = Comparison("format", "==", "PNG")
    assert await store.delete_where(collection, png, deadline=Deadline(T)) == 2
    assert (
        await store.delete_where(collection, Comparison("width", ">", 9_000), deadline=Deadline(T))
        == 0
    )
    assert await taken(store, collection, "") == "ad"


async def test_typed_filters_mean_the_same_in_every_store(store, filled):
    choice = random.Random(20_240_607)
    filters = [_any_filter(choice, depth=3) for _ in range(60)]

    counts = await asyncio.gather(*(store.count(filled, f, deadline=Deadline(T)) for f in filters))

    expected = [sum(matches(f, values_of(row)) for row in ROWS) for f in filters]
    assert list(zip(filters, counts, strict=True)) == list(zip(filters, expected, strict=True))
    assert set(expected) == set(range(len(ROWS) + 1)), "the filters should take all sorts of rows"


def _any_filter(choice: random.Random, depth: int, negated: bool = False) -> Filter:
    kind = choice.randrange(7 if depth else 4)
    if kind == 4:
        return Not(_any_filter(choice, depth - 1, negated=True))
    if kind > 4:
        terms = tuple(_any_filter(choice, depth - 1, negated) for _ in range(choice.randint(1, 3)))
        return And(terms) if kind == 5 else Or(terms)
    # Stores differ in what the negation of a comparison with missing metadata takes.
    if kind == 0 and not negated:
        path, values = choice.choice(
            [
                (("n",), (1, 2, 2.5, "5")),
                (("tag",), ("dog", "犬", "a", 3)),
                (("ok",), (True, False)),
            ]
        )
        value = choice.choice(values)
        operators = ("==", "!=") if isinstance(value, bool) else ("==", "!=", "<", "<=", ">", ">=")
        return Comparison("metadata", choice.choice(operators), value, path)
    if kind == 1:
        return Prefix("uri", choice.choice(["", "s3://x/", "s3://x/1", "file", "ü"]))
    if kind == 2:
        return AnyOf("format", tuple(choice.sample(["JPEG", "PNG", "", "GIF"], 2)))
    operator = choice.choice(("==", "!=", "<", "<=", ">", ">="))
    return Comparison("width", operator, choice.choice([0, 640, 700, 800, 1200]))
