"""What the check of an expression sees, and that its work grows with the length only."""

from __future__ import annotations

import contextlib
import re
import time

import pytest

from glimpse.errors import InvalidInput
from services.vectors import expressions, filters

LONGER = 16
# Four times what grows in proportion; what grows with the square takes 256 times as long.
MAX_GROWTH = 4 * LONGER
WORST = {
    "escaped quotes": '\\"',
    "quotes": '"',
    "single quotes": "'",
    "quotes of both kinds": "\"'",
    "quotes and backslashes": '"\\',
    "quotes before a line's end": '"\n',
    "texts that an escape ends": '"a\\',
    "octal escapes": '"\\101',
    "hexadecimal escapes": '"\\xaaaa',
    "nots": "not ",
    "nots, nearly too many": "not " * expressions.MAX_NESTING + "x ",
    "signs": "-",
    "signs, nearly too many": "-" * expressions.MAX_NESTING + "x",
    "signs far apart": ("-" + " " * 1_000) * expressions.MAX_NESTING + "x",
    "spaces": " ",
    "brackets": "()",
    "brackets nobody closes": "(",
    "brackets nobody opened": ")",
    "letters": "no",
    "comparisons": "a==1 ",
    "sums": "a+",
    "words that begin like operators": "inn",
    "words that end like operators": "contain",
}


def growth(check, unit: str, characters: int) -> float:
    """How much longer `check` takes, in processor time, for LONGER times the characters."""

    def shortest_s(length: int) -> float:
        text = unit * 2 * (length // (2 * len(unit)))  # an even number: as many closed as opened
        taken_s = []
        for _ in range(7):
            started_s = time.process_time()
            check(text)
            taken_s.append(time.process_time() - started_s)
        return min(taken_s)

    return shortest_s(LONGER * characters) / shortest_s(characters)


def check(expression: str) -> None:
    with contextlib.suppress(InvalidInput):
        filters.render(expression)


@pytest.mark.parametrize("unit", WORST.values(), ids=WORST.keys())
def test_the_check_grows_with_the_length_of_the_worst_there_is(unit):
    assert growth(check, unit, expressions.MAX_EXPRESSION_CHARACTERS // LONGER) < MAX_GROWTH


def test_a_pattern_that_may_fail_late_would_be_noticed():
    late = re.compile(r'"(?:[^"\\]|\\.)*" | [()]', re.VERBOSE)
    assert growth(late.split, WORST["escaped quotes"], 256) > MAX_GROWTH


def test_length_comes_before_anything_that_reads_the_expression():
    with pytest.raises(InvalidInput, match=f"at most {expressions.MAX_EXPRESSION_CHARACTERS}"):
        filters.render('\\"' * 10_000_000)


DEEPEST = expressions.MAX_NESTING


@pytest.mark.parametrize(
    "expression",
    [
        "(" * DEEPEST + "width > 1" + ")" * DEEPEST,
        "[(" * (DEEPEST // 2) + "width > 1",
        "!" * DEEPEST + "(width > 1)",
        "not " * DEEPEST + "(width > 1)",
        "(width > 1) and " * 100 + "(width > 1)",
        f'uri == "{"(" * 100}"',
        f"uri == '{'(' * 100}'",
        f"""uri == "it's {"(" * 100}" """,
        f'uri == "\\"{"(" * 100}"',
        f'uri == "\\\\" and uri != "{"(" * 100}"',
        "notable == not_at_all " * 100,
        " - - ".join("1" * 100),
    ],
)
def test_what_is_nested_as_deep_as_may_be_is_taken(expression):
    assert filters.render(expression) == expression.strip()


@pytest.mark.parametrize(
    "expression",
    [
        "(" * (DEEPEST + 1),
        "()" * 100 + "[(" * DEEPEST,
        "!" * (DEEPEST + 1) + "(width > 1)",
        "not " * DEEPEST + "! (width > 1)",
        "- \n" * (DEEPEST + 1) + "1 < width",
        "NOT" + "\t-" * DEEPEST + "1 < width",
        'uri == "a" ' + "(" * (DEEPEST + 1) + '"b"',
        'uri == "\\\\" ' + "(" * (DEEPEST + 1) + '"b"',
    ],
)
def test_what_is_nested_deeper_is_refused(expression):
    with pytest.raises(InvalidInput, match=f"nested at most {DEEPEST} levels"):
        filters.render(expression)


@pytest.mark.parametrize(
    "expression",
    ['uri == "', "uri == '", 'uri == "\\"', '"\n"', '"\\q"', '"a" "b', "\"'", '"\\u12"'],
)
def test_brackets_cannot_hide_in_what_milvus_does_not_read_as_text(expression):
    with pytest.raises(InvalidInput, match="not closed"):
        filters.render(expression + "(" * 1_000)


MOST = expressions.MAX_COMPARISONS


@pytest.mark.parametrize(
    "expression",
    [
        " or ".join(['metadata["a"] == "b"'] * MOST),
        " or ".join(["(width in [-1, -2, 3e-5])"] * (MOST - 1)),
        " and ".join(["not (exists metadata['x'])"] * MOST),
        "width" + " + 1" * (MOST - 1) + " > 0",
        f'uri == "{"== in + " * 1_000}"',
        f"id in [{', '.join(['1'] * expressions.MAX_LISTED_VALUES)}]",
        "width > -1 or width < - 2 or -width == +3",
    ],
)
def test_what_compares_as_much_as_may_be_is_taken(expression):
    assert filters.render(expression) == expression


@pytest.mark.parametrize(
    "expression",
    [
        " or ".join(['metadata["a"] == "b"'] * (MOST + 1)),
        " or ".join(["a<1", "a>=1", 'uri LIKE "x%"', "a IN [1]"] * (MOST // 4) + ["a is null"]),
        " or ".join(["json_contains(metadata['a'], 1)"] * (MOST + 1)),
        "width" + " + 1" * MOST + " > 0",
        "width" + " ** 9" * MOST + " > 0",
        "(width)-(width)" * (MOST // 2 + 1) + " - 1" * MOST,
    ],
)
def test_what_compares_more_is_refused(expression):
    with pytest.raises(InvalidInput, match=f"at most {MOST} comparisons"):
        filters.render(expression)


def test_lists_of_more_values_are_refused():
    expression = f"id in [{', '.join(['1'] * (expressions.MAX_LISTED_VALUES + 1))}]"
    with pytest.raises(InvalidInput, match=f"at most {expressions.MAX_LISTED_VALUES} values"):
        filters.render(expression)
