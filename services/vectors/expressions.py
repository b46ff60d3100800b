"""Reads the plain part of Milvus' boolean expressions into typed filters; the rest it refuses.

    filter     = term { ("or" | "||") term }
    term       = factor { ("and" | "&&") factor }
    factor     = ("not" | "!") factor | "(" filter ")" | "exists" metadata | comparison
    comparison = field ("==" | "!=" | "<" | "<=" | ">" | ">=") value | value (the same) field
               | field ["not"] "in" "[" value { "," value } "]" | field "like" "prefix%"
    field      = name | metadata
    name       = one of filters.FILTER_FIELDS but metadata
    metadata   = "metadata" ( "[" "key" "]" | "[" index "]" ) { the same }
    value      = "text" | 'text' | integer | decimal | true | false

Milvus has more, such as arithmetic and json_contains.
"""

from __future__ import annotations

import re
from typing import NoReturn

from glimpse.errors import InvalidInput
from services.vectors.filters import (
    MAX_DEPTH,
    OPERATORS,
    And,
    AnyOf,
    Comparison,
    Exists,
    Filter,
    Not,
    Or,
    Path,
    Prefix,
    Scalar,
    check,
)

_TOKEN = re.compile(
    r"""\s*(?:
        (?P<text>"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*')
      | (?P<number>[+-]?(?:\d+\.\d*|\.\d+|\d+)(?:[eE][+-]?\d+)?)
      | (?P<word>[A-Za-z_][A-Za-z0-9_]*)
      | (?P<mark>==|!=|<=|>=|&&|\|\||[<>!()\[\],])
    )""",
    re.VERBOSE,
)
_MIRRORED = {"==": "==", "!=": "!=", "<": ">", "<=": ">=", ">": "<", ">=": "<="}
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", '"': '"', "'": "'", "\\": "\\"}
_KEYWORDS = ("and", "or", "not", "in", "like", "exists", "true", "false")


def parse(expression: str) -> Filter:
    """The filter that the expression stands for; raises InvalidInput("filter") with the column."""
    parser = _Parser(expression)
    filter = parser.filter()
    parser.expect_end()
    check(filter)
    return filter


class _Parser:
    """Recursive descent over the tokens of one expression."""

    def __init__(self, expression: str) -> None:
        self._tokens: list[tuple[str, str, int]] = []  # kind, text, column
        self._depth = 0
        position, end = 0, len(expression.rstrip())
        while position < end:
            match = _TOKEN.match(expression, position)
            if match is None or match.lastgroup is None:
                column = position + len(expression[position:]) - len(expression[position:].lstrip())
                _fail(f"unexpected character {expression[column]!r}", column)
            kind = match.lastgroup
            self._tokens.append((kind, match[kind], match.start(kind)))
            position = match.end()
        self._tokens.append(("end", "", end))
        self._next = 0

    def filter(self) -> Filter:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            self._fail(f"more than {MAX_DEPTH} levels")
        terms = [self._term()]
        while self._take("or", "||"):
            terms.append(self._term())
        self._depth -= 1
        return terms[0] if len(terms) == 1 else Or(tuple(terms))

    def expect_end(self) -> None:
        if self._tokens[self._next][0] != "end":
            self._fail("unexpected")

    def _term(self) -> Filter:
        factors = [self._factor()]
        while self._take("and", "&&"):
            factors.append(self._factor())
        return factors[0] if len(factors) == 1 else And(tuple(factors))

    def _factor(self) -> Filter:
        negations = 0
        while self._take("not", "!"):
            negations += 1
        if self._take("("):
            factor = self.filter()
            self._expect(")")
        elif self._take("exists"):
            self._expect("metadata")
            factor = Exists(self._path())
        else:
            factor = self._comparison()
        return Not(factor) if negations % 2 else factor

    def _comparison(self) -> Filter:
        if self._is_value():
            value = self._value()
            operator = _MIRRORED[self._operator()]
            field, path = self._field()
            return Comparison(field, operator, value, path)  # type: ignore[arg-type]
        field, path = self._field()
        if self._take("like"):
            return self._like(field, path)
        negated = self._take("not")
        if negated or self._tokens[self._next][1] == "in":
            self._expect("in")
            member = self._membership(field, path)
            return Not(member) if negated else member
        return Comparison(field, self._operator(), self._value(), path)  # type: ignore[arg-type]

    def _membership(self, field: str, path: Path) -> Filter:
        self._expect("[")
        values: list[Scalar] = []
        while not self._take("]"):
            if values:
                self._expect(",")
            values.append(self._value())
        if not values:
            self._fail("an empty list takes no row", before=True)
        return AnyOf(field, tuple(values), path)

    def _like(self, field: str, path: Path) -> Filter:
        pattern = self._value()
        if not isinstance(pattern, str):
            self._fail("like needs text", before=True)
        prefix = pattern.removesuffix("%")
        if "%" in prefix or "_" in prefix or "\\" in prefix:
            self._fail('this store knows only patterns such as "prefix%"', before=True)
        return (
            Comparison(field, "==", prefix, path)
            if prefix == pattern
            else Prefix(field, prefix, path)
        )

    def _field(self) -> tuple[str, Path]:
        kind, text, _ = self._tokens[self._next]
        if kind != "word" or text in _KEYWORDS:
            self._fail("expected a field instead of")
        self._next += 1
        return text, self._path() if text == "metadata" else ()

    def _path(self) -> Path:
        path: list[str | int] = []
        while self._take("["):
            step = self._value()
            if isinstance(step, (bool, float)):
                self._fail("expected a key or an index", before=True)
            path.append(step)
            self._expect("]")
        return tuple(path)

    def _operator(self) -> str:
        _, text, _ = self._tokens[self._next]
        if text not in OPERATORS:
            self._fail(f"expected one of {' '.join(OPERATORS)} instead of")
        self._next += 1
        return text

    def _is_value(self) -> bool:
        kind, text, _ = self._tokens[self._next]
        return kind in ("text", "number") or text in ("true", "false")

    def _value(self) -> Scalar:
        if not self._is_value():
            self._fail("expected a value instead of")
        kind, text, column = self._tokens[self._next]
        self._next += 1
        if kind == "text":
            return _unescaped(text[1:-1], column)
        if kind == "number":
            return int(text) if text.lstrip("+-").isdigit() else float(text)
        return text == "true"

    def _take(self, *texts: str) -> bool:
        kind, text, _ = self._tokens[self._next]
        taken = kind in ("word", "mark") and text in texts
        self._next += taken
        return taken

    def _expect(self, text: str) -> None:
        if not self._take(text):
            self._fail(f"expected {text} instead of")

    def _fail(self, message: str, *, before: bool = False) -> NoReturn:
        kind, text, column = self._tokens[self._next - before]
        found = "the end" if kind == "end" else text
        _fail(f"{message}: {found}" if before else f"{message} {found}", column)


def _unescaped(text: str, column: int) -> str:
    def replace(match: re.Match[str]) -> str:
        if match[1] not in _ESCAPES:
            _fail(f"unknown escape {match[0]}", column + match.start())
        return _ESCAPES[match[1]]

    return re.sub(r"\\(.)", replace, text)


def _fail(message: str, column: int) -> NoReturn:
    raise InvalidInput("filter", f"{message}, at column {column + 1}", reason="INVALID_FILTER")
