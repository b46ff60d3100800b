"""How much a filter may make Milvus read and compute, and the check of one that is text."""

from __future__ import annotations

import re
from itertools import accumulate

from glimpse.errors import InvalidInput

MAX_FILTER_CHARACTERS = 16_384  # of a filter that is text, as its caller wrote it
MAX_EXPRESSION_CHARACTERS = 65_536
MAX_NESTING = 64
MAX_COMPARISONS = 256
"""Comparisons and calculations, which Milvus makes for each row, and cannot be stopped from once
its caller is gone. Milvus Lite reads a row's metadata anew for each of them."""
MAX_LISTED_VALUES = 4_096

# A text in quotes, as Milvus reads it; the group is empty where it is not closed. Neither a pattern
# here nor what follows one in it can fail once it has begun, so none reads a character twice.
_ESCAPE = r"""\\(?:['"?abfnrtv\\]|[0-7]{1,3}|x[0-9a-fA-F]+|u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8})"""
_QUOTED = re.compile(
    rf""" "(?:[^"\\\r\n]|{_ESCAPE})*("?) | '(?:[^'\\\r\n]|{_ESCAPE})*('?) """, re.VERBOSE
)
_BRACKET = re.compile(r"[()\[\]]")
_LEVELS = {"(": 1, "[": 1, ")": -1, "]": -1}
_NOT = re.compile(r"\bnot\b", re.IGNORECASE)
_SIGNS = re.compile(r"[!~+-]+")
_COMPARING_SIGNS = ("==", "!=", "<", ">", "*", "/", "%")
_COMPARING_WORDS = re.compile(r"\b(?:in|is|like|exists)\b|contains|match", re.IGNORECASE)
# Where there are no spaces; other ones are signs, of numbers and of exponents.
_SUM = re.compile(r"(?<=[\w\"')\]])(?<![0-9.][eE])[+-]")


def check_length(expression: str) -> None:
    """Raises InvalidInput("filter")."""
    if len(expression) > MAX_EXPRESSION_CHARACTERS:
        raise invalid(f"must have at most {MAX_EXPRESSION_CHARACTERS} characters as an expression")


def check(expression: str) -> None:
    """Raises InvalidInput("filter"), in time that grows with the length only.

    Milvus' parser takes minutes, and all of a core, for a thousand brackets that nobody closes.
    What is no text to Milvus is refused, lest brackets be counted as text that Milvus reads.
    """
    check_length(expression)
    parts = _QUOTED.split(expression)  # what is not quoted, and two groups between each two
    if "" in parts[1::3] or "" in parts[2::3]:
        raise invalid("a text in quotes is not closed, or has an escape that Milvus does not know")
    bare = '""'.join(parts[::3])
    values, signs = bare.count(",") + 1, sum(map(bare.count, _COMPARING_SIGNS))
    if values > MAX_LISTED_VALUES:
        raise invalid(f"must list at most {MAX_LISTED_VALUES} values; it lists {values}")
    check_comparisons(signs)  # what is left takes longer to count
    _check_nesting(bare)
    check_comparisons(signs + _other_comparisons(bare))


def check_comparisons(count: int) -> None:
    """Raises InvalidInput("filter") for more comparisons and calculations than may be."""
    if count > MAX_COMPARISONS:
        raise invalid(
            f"must make at most {MAX_COMPARISONS} comparisons and calculations; it makes {count}"
        )


def invalid(problem: str) -> InvalidInput:
    """What is wrong with a filter."""
    return InvalidInput("filter", problem, reason="INVALID_FILTER")


def _other_comparisons(bare: str) -> int:
    """Those by words, and sums."""
    sums = len(_SUM.findall("".join(bare.split()))) if "+" in bare or "-" in bare else 0
    return sums + len(_COMPARING_WORDS.findall(bare))


def _check_nesting(bare: str) -> None:
    depths = accumulate(map(_LEVELS.__getitem__, _BRACKET.findall(bare)))
    signs = _SIGNS.findall("".join(_NOT.sub("!", bare).split()))
    if max(depths, default=0) > MAX_NESTING or max(map(len, signs), default=0) > MAX_NESTING:
        raise invalid(f"must be nested at most {MAX_NESTING} levels deep")
