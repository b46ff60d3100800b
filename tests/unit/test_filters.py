"""Typed filters: what they mean survives being written as an expression and read back."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glimpse.errors import InvalidInput
from services.vectors import filters
from services.vectors.expressions import parse
from services.vectors.filters import And, AnyOf, Comparison, Exists, Not, Or, Prefix

TEXT = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=6) | st.sampled_from(
    ['"', "\\", '" or 1 == 1', "%", "a", "ab", "\ud7ff", "\U0010ffff", "~"]
)
NUMBER = st.integers(-3, 3) | st.floats(-3, 3)
OPERATOR = st.sampled_from(filters.OPERATORS)
PATH = st.lists(TEXT | st.integers(0, 2), min_size=1, max_size=2).map(tuple)
LEAF = st.one_of(
    st.builds(Comparison, st.sampled_from(["width", "height"]), OPERATOR, st.integers(-3, 3)),
    st.builds(Comparison, st.sampled_from(["uri", "format", "id"]), OPERATOR, TEXT),
    st.builds(Comparison, st.just("metadata"), OPERATOR, TEXT | NUMBER, PATH),
    st.builds(Comparison, st.just("metadata"), st.sampled_from(["==", "!="]), st.booleans(), PATH),
    st.builds(AnyOf, st.just("uri"), st.lists(TEXT, min_size=1, max_size=3).map(tuple)),
    st.builds(
        AnyOf, st.just("metadata"), st.lists(TEXT | NUMBER, min_size=1, max_size=3).map(tuple), PATH
    ),
    st.builds(Prefix, st.just("uri"), TEXT),
    st.builds(Exists, PATH),
)


def _nested(inner):
    terms = st.lists(inner, min_size=1, max_size=3).map(tuple)
    return st.builds(Not, inner) | st.builds(And, terms) | st.builds(Or, terms)


FILTER = st.recursive(LEAF, _nested, max_leaves=6)
VALUE = st.recursive(
    TEXT | NUMBER | st.booleans() | st.none(),
    lambda v: st.lists(v, max_size=3) | st.dictionaries(TEXT, v, max_size=3),
    max_leaves=5,
)
ROW = st.fixed_dictionaries(
    {
        "id": TEXT,
        "uri": TEXT,
        "format": TEXT,
        "width": st.integers(-3, 3),
        "height": st.integers(-3, 3),
        "metadata": st.dictionaries(TEXT, VALUE, max_size=3),
    }
)


@given(FILTER, st.lists(ROW, max_size=4))
def test_an_expression_means_what_its_filter_means(filter, rows):
    read_back = parse(filters.render(filter))
    for row in rows:
        assert filters.matches(read_back, row) == filters.matches(filter, row)


@given(st.text(max_size=40) | st.lists(st.sampled_from(
    ["width", "metadata", "and", "or", "not", "in", "like", "exists", "(", ")", "[", "]", ",", "==",
     "<", "1", '"a"', "true", "%", "'"]), max_size=12).map(" ".join))  # fmt: skip
def test_any_text_is_a_filter_or_invalid_input(expression):
    try:
        filters.check(parse(expression))
    except InvalidInput as error:
        reason = error.reason
    else:
        reason = "INVALID_FILTER"
    assert reason == "INVALID_FILTER"


@given(st.lists(TEXT, min_size=1, max_size=4))
def test_an_ids_filter_holds_exactly_its_ids(ids):
    assert json.loads(filters.ids_filter(ids).removeprefix("id in ")) == ids


def test_a_filter_that_is_too_deep_or_too_wide_is_refused():
    deep = Comparison("width", "==", 1)
    for _ in range(filters.MAX_DEPTH):
        deep = Not(deep)
    wide = AnyOf("width", tuple(range(filters.MAX_VALUES + 1)))
    long = Or((Comparison("uri", "==", "x" * filters.MAX_EXPRESSION_CHARACTERS),))
    for filter in (deep, wide, long, "(" * 40 + "width == 1" + ")" * 40):
        with pytest.raises(InvalidInput) as raised:
            parse(filter) if isinstance(filter, str) else filters.render(filter)
        assert raised.value.field == "filter"


def test_the_column_of_a_mistake_is_named():
    with pytest.raises(InvalidInput, match="at column 10"):
        parse("width == == 1")
