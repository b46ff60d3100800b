"""The texts that encoder and query take."""

from __future__ import annotations

import sys
import unicodedata

import pytest

from glimpse.errors import InvalidInput
from services.common.text_bounds import check_text

WHITE_SPACE = "\t\n\v\f\r\x85"  # the control characters with Unicode's property White_Space


def reason_of(text: str) -> str:
    try:
        check_text("text", text, max_characters=10)
    except InvalidInput as error:
        return error.reason
    return ""


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a dog", ""),
        ("犬\u200d🐕", ""),
        ("x" * 10, ""),
        ("x" * 11, "TEXT_TOO_LONG"),
        ("", "TEXT_EMPTY"),
        (" \n\x85\u2003", "TEXT_EMPTY"),
        ("a\0", "TEXT_CONTROL_CHARACTER"),
    ],
)
def test_a_text_is_taken_or_refused_for_its_reason(text, reason):
    assert reason_of(text) == reason


def test_of_all_characters_control_characters_that_are_no_white_space_are_refused():
    refused = {c for c in map(chr, range(sys.maxunicode + 1)) if reason_of(f"a{c}")}
    controls = {chr(n) for n in range(256) if unicodedata.category(chr(n)) == "Cc"}
    assert refused == controls - set(WHITE_SPACE)
