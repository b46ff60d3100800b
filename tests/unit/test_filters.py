"""Typed filters: how they are written as expressions, and their bounds."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glimpse.errors import InvalidInput
from services.vectors import expressions, filters
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

WORDS = {"and", "or", "not", "in", "exists", "true", "false", *filters.OPERATORS}
WORDS |= {*filters.FILTER_FIELDS}


def _nested(inner):
    terms = st.lists(inner, min_size=1, max_size=3).map(tuple)
    return st.builds(Not, inner) | st.builds(And, terms) | st.builds(Or, terms)


FILTER = st.recursive(LEAF, _nested, max_leaves=6)


@given(FILTER)
def test_an_expression_has_its_values_as_texts_of_json_and_nothing_else(filter):
    """Whatever a value holds: without the texts, an expression has words and signs of ours only."""
    expression = filters.render(filter)
    bare = re.sub(r'"(?:[^"\\]|\\["\\])*"', "", expression)
    bare = re.sub(r"\d+(?:\.\d+)?(?:e[+-]?\d+)?", "", bare)
    assert set(re.findall(r"[^\s()\[\],-]+", bare)) <= WORDS
    assert bare.count("(") == bare.count(")")


@given(st.lists(TEXT, min_size=1, max_size=4))
def test_an_ids_filter_holds_exactly_its_ids(ids):
    assert json.loads(filters.ids_filter(ids).removeprefix("id in ")) == ids


def test_a_filter_that_is_too_deep_or_too_wide_is_refused():
    deep = Comparison("width", "==", 1)
    for _ in range(filters.MAX_DEPTH):
        deep = Not(deep)
    wide = AnyOf("width", tuple(range(filters.MAX_VALUES + 1)))
    long = Or((Comparison("uri", "==", "x" * expressions.MAX_EXPRESSION_CHARACTERS),))
    for filter in (deep, wide, long):
        with pytest.raises(InvalidInput) as raised:
            filters.render(filter)
        assert raised.value.field == "filter"
