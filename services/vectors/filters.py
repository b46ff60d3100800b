"""Typed filters: their check and their Milvus expression.

    Comparison("width", ">=", 640)
    Comparison("metadata", "==", "Leica", path=("camera", "make"))
    And((Prefix("uri", "s3://photos/"), Not(AnyOf("format", ("GIF", "WEBP")))))

Values are escaped in one place (`_literal`), so no value can become part of an expression.

A comparison with a metadata value that is missing or of another type does not hold, `!=` included.
Whether its negation by Not holds is the store's: Milvus says yes, Milvus Lite says no. Milvus up to
2.4 takes null for a value that exists; newer ones and Milvus Lite do not, and from 2.6 on neither
does an object or an array of nothing.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from glimpse.errors import InvalidInput
from services.common.text_bounds import CONTROL_CHARACTER
from services.vectors import expressions
from services.vectors.expressions import invalid as _invalid

Operator = Literal["==", "!=", "<", "<=", ">", ">="]
Scalar = str | bool | int | float
Path = tuple[str | int, ...]

_TEXT_FIELDS = ("id", "uri", "content_sha256", "format")
_INTEGER_FIELDS = ("width", "height", "indexed_at_ms")
FILTER_FIELDS = (*_TEXT_FIELDS, *_INTEGER_FIELDS, "metadata")
OPERATORS = ("==", "!=", "<", "<=", ">", ">=")
MAX_DEPTH = 16
MAX_VALUES = 1_024

_SURROGATE = re.compile(r"[\ud800-\udfff]")


@dataclass(frozen=True)
class Comparison:
    """One field against one value. `path` leads into metadata: keys, and indices of arrays."""

    field: str
    operator: Operator
    value: Scalar
    path: Path = ()


@dataclass(frozen=True)
class AnyOf:
    """The field is one of the values."""

    field: str
    values: tuple[Scalar, ...]
    path: Path = ()


@dataclass(frozen=True)
class Prefix:
    """The field is text that begins with `prefix`."""

    field: str
    prefix: str
    path: Path = ()


@dataclass(frozen=True)
class Exists:
    """Metadata has something at `path`."""

    path: Path


@dataclass(frozen=True)
class And:
    """All terms hold; there is at least one."""

    terms: tuple[Filter, ...]


@dataclass(frozen=True)
class Or:
    """At least one term holds."""

    terms: tuple[Filter, ...]


@dataclass(frozen=True)
class Not:
    """The term does not hold."""

    term: Filter


Filter = Comparison | AnyOf | Prefix | Exists | And | Or | Not
AnyFilter = str | Filter  # a Milvus boolean expression, or a typed filter


def render(filter: str | Filter) -> str:
    """The Milvus expression; "" takes every row. Raises InvalidInput("filter")."""
    if isinstance(filter, str):
        expressions.check(filter)
        return filter.strip()
    check(filter)
    expressions.check_comparisons(_comparisons(filter))
    expression = _render(filter)
    expressions.check_length(expression)
    return expression


def behind_id(after_id: str) -> str:
    """The Milvus expression for the rows whose ids come after one, by bytes; "" for all."""
    return f"id > {_literal(after_id)}"


def check_given(filter: str | Filter) -> None:
    """Raises InvalidInput("filter") if it is empty, for calls that must not take every row."""
    if isinstance(filter, str) and not filter.strip():
        raise InvalidInput("filter", "must be given", reason="EMPTY_FILTER")


def ids_filter(ids: Iterable[str]) -> str:
    """The Milvus expression that takes the rows of these ids, whatever characters they have."""
    return f"id in {_list(ids)}"


def check(filter: Filter, depth: int = 1) -> None:
    """Raises InvalidInput("filter") unless fields, paths, operators and values fit together."""
    if depth > MAX_DEPTH:
        raise _invalid(f"must be at most {MAX_DEPTH} levels deep")
    if isinstance(filter, (And, Or)):
        if not filter.terms:
            raise _invalid("and, or: need at least one term")
        for term in filter.terms:
            check(term, depth + 1)
    elif isinstance(filter, Not):
        check(filter.term, depth + 1)
    elif isinstance(filter, Exists):
        _check_field("metadata", filter.path)
    elif isinstance(filter, AnyOf):
        _check_field(filter.field, filter.path)
        if not 1 <= len(filter.values) <= MAX_VALUES:
            raise _invalid(f"{filter.field}: must be compared with 1 to {MAX_VALUES} values")
        for value in filter.values:
            _check_value(filter.field, value)
    elif isinstance(filter, Prefix):
        _check_field(filter.field, filter.path)
        if filter.field in _INTEGER_FIELDS or not isinstance(filter.prefix, str):
            raise _invalid(f"{filter.field}: only text has a prefix")
        _check_value(filter.field, filter.prefix)
    elif isinstance(filter, Comparison):
        _check_field(filter.field, filter.path)
        if filter.operator not in OPERATORS:
            raise _invalid(f"{filter.operator!r} is not one of {', '.join(OPERATORS)}")
        if isinstance(filter.value, bool) and filter.operator not in ("==", "!="):
            raise _invalid(f"{filter.field}: true and false have no order")
        _check_value(filter.field, filter.value)
    else:
        raise _invalid(f"{filter!r} is not a filter")


def _comparisons(filter: Filter) -> int:
    """How many Milvus makes for each row. It has no lists of values for metadata."""
    if isinstance(filter, (And, Or)):
        return sum(map(_comparisons, filter.terms))
    if isinstance(filter, Not):
        return _comparisons(filter.term)
    return len(filter.values) if isinstance(filter, AnyOf) and filter.path else 1


def _check_field(field: str, path: Path) -> None:
    if field not in FILTER_FIELDS:
        raise _invalid(f"{field!r} is not one of {', '.join(FILTER_FIELDS)}")
    if field != "metadata":
        if path:
            raise _invalid(f"{field}: only metadata has a path")
        return
    if not 1 <= len(path) <= MAX_DEPTH:
        raise _invalid(f"metadata: needs a path of 1 to {MAX_DEPTH} keys")
    for step in path:
        if isinstance(step, str):
            _check_text(field, step)
        elif isinstance(step, bool) or not isinstance(step, int) or not 0 <= step < 2**31:
            raise _invalid(f"metadata: a path has keys and indices, not {step!r}")


def _check_value(field: str, value: Any) -> None:
    if field in _TEXT_FIELDS and not isinstance(value, str):
        raise _invalid(f"{field}: is text, and cannot be compared with {value!r}")
    if field in _INTEGER_FIELDS and (isinstance(value, bool) or not isinstance(value, int)):
        raise _invalid(f"{field}: is an integer, and cannot be compared with {value!r}")
    if isinstance(value, str):
        _check_text(field, value)
    elif isinstance(value, int) and not -(2**63) <= value < 2**63:
        raise _invalid(f"{field}: {value} does not fit into 64 bits")
    elif isinstance(value, float) and not math.isfinite(value):
        raise _invalid(f"{field}: {value} is not finite")
    elif not isinstance(value, (str, bool, int, float)):
        raise _invalid(f"{field}: a value is text, a number, true or false, not {value!r}")


def _check_text(field: str, text: str) -> None:
    expressions.check_length(text)
    # Milvus Lite has no \u escapes, so what only they can write is refused everywhere.
    if CONTROL_CHARACTER.search(text) or _SURROGATE.search(text):
        raise _invalid(f"{field}: text must have no control characters and no lone surrogates")


def _render(filter: Filter) -> str:
    if isinstance(filter, (And, Or)):
        word = "and" if isinstance(filter, And) else "or"
        return _joined(word, [_render(term) for term in filter.terms])
    if isinstance(filter, Not):
        return f"not ({_render(filter.term)})"
    if isinstance(filter, Exists):
        return f"exists {_reference('metadata', filter.path)}"
    field = _reference(filter.field, filter.path)
    if isinstance(filter, AnyOf):
        if not filter.path:
            return f"{field} in {_list(filter.values)}"
        # Milvus Lite has no `in` for metadata.
        return _joined("or", [f"{field} == {_literal(value)}" for value in filter.values])
    if isinstance(filter, Prefix):
        return _render_prefix(field, filter.prefix)
    comparison = f"{field} {filter.operator} {_literal(filter.value)}"
    if filter.operator == "!=" and filter.path:
        return f"(exists {field}) and ({comparison})"
    return comparison


def _joined(word: str, terms: Sequence[str]) -> str:
    """The terms as a tree of pairs: a Milvus server refuses chains of about 50."""
    if len(terms) == 1:
        return terms[0]
    middle = len(terms) // 2
    return f"({_joined(word, terms[:middle])}) {word} ({_joined(word, terms[middle:])})"


def _render_prefix(field: str, prefix: str) -> str:
    """As a range, because wildcards in a `like` pattern cannot be escaped on every server."""
    after = prefix.rstrip("\U0010ffff")
    lower = f"{field} >= {_literal(prefix)}"
    if not after:
        return lower
    following = 0xE000 if after[-1] == "\ud7ff" else ord(after[-1]) + 1
    return f"({lower}) and ({field} < {_literal(after[:-1] + chr(following))})"


def _reference(field: str, path: Path) -> str:
    return field + "".join(f"[{_literal(step)}]" for step in path)


def _list(values: Iterable[Scalar]) -> str:
    return f"[{', '.join(_literal(value) for value in values)}]"


def _literal(value: Scalar) -> str:
    return json.dumps(value, ensure_ascii=False)
