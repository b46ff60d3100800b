"""Text that is worst for what reads it, so many characters long."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping

Make = Callable[[int], str]
"""Text of so many characters."""

NOT_UTF8 = b"\xed\xa0\x80"
"""A lone surrogate, as some programs write it."""


def repeated(part: str, start: str = "", end: str = "") -> Make:
    """The part as often as there is room for it between start and end."""

    def make(length: int) -> str:
        room = length - len(start) - len(end)
        if not end:
            return f"{start}{part * (room // len(part) + 1)}"[:length]
        return _joined(start, part * (room // len(part)), end, length)

    return make


def numbered(form: str) -> Make:
    """Parts that all differ: the form with 0, 1, 2, ... in it."""

    def make(length: int) -> str:
        parts = [form.format(number) for number in range(length // (len(form) - 2) + 1)]
        return "".join(parts)[:length]

    return make


def _closed(opening: str, closing: str, middle: str) -> Make:
    def make(length: int) -> str:
        levels = (length - len(middle)) // (len(opening) + len(closing))
        return _joined(opening * levels, middle, closing * levels, length)

    return make


def _terms(term: str, joint: str) -> Make:
    def make(length: int) -> str:
        times = (length + len(joint)) // (len(term) + len(joint))
        return _joined("", joint.join([term] * (times - 1)), joint + term, length)

    return make


def _joined(start: str, middle: str, end: str, length: int) -> str:
    """With spaces before the end, so that it is as long as it should be."""
    return start + middle.ljust(length - len(start) - len(end)) + end


ANY: Mapping[str, Make] = {
    "letters": repeated("a"),
    "emoji": repeated("😀"),
    "control-characters": repeated("\x01"),
    "quotes": repeated('"'),
}
"""For every field of text."""

_SEARCHED: Mapping[str, Make] = {
    "digits": repeated("1234567890"),
    "white-space": repeated("\u2003"),
    "accents": repeated("\u0301", start="a"),
    "mojibake": repeated("Ã¢â‚¬â„¢"),
    "entities": repeated("&amp;"),
    "half-entities": repeated("&amp"),
    "different-words": numbered("w{} "),
    "ideographs": repeated("漢"),
    "joined-emoji": repeated("👩\u200d"),
    "right-to-left": repeated("\u202e\u0627"),
    "escapes": repeated("\x1b[0m"),
}
_FILTERS: Mapping[str, Make] = {
    "unclosed-quotes": repeated('\\"'),
    "unclosed-single-quotes": repeated("\\'"),
    "unclosed-and-closed-quotes": repeated("\"\\'"),
    "closed-quotes": repeated('""'),
    "backslashes": repeated("\\"),
    "quoted-backslashes": repeated("\\\\", start='id == "', end='"'),
    "open-brackets": repeated("("),
    "closed-brackets": _closed("(", ")", "width > 1"),
    "square-brackets": repeated("["),
    "mixed-brackets": repeated("(["),
    "64-levels-again-and-again": _terms("(" * 64 + "width > 1" + ")" * 64, " or "),
    "not-not": repeated("not ", end="(width > 1)"),
    "exclamation-marks": repeated("!", end="(width > 1)"),
    "spread-nots": repeated("not \n", end="(width > 1)"),
    "signs": repeated("- + ~", start="width > ", end="1"),
    "in-list-of-texts": repeated('"a", ', start="id in [", end='"a"]'),
    "in-list-of-numbers": repeated("1,", start="width in [", end="1]"),
    "in-list-of-lists": repeated("[1],", start="width in [", end="[1]]"),
    "or-chain": _terms("width == 1", " or "),
    "and-chain": _terms("width > 0", " and "),
    "sum": repeated(" + 1", start="width", end=" > 0"),
    "power": repeated(" ** 9", start="width > 9"),
    "long-number": repeated("9", start="width > "),
    "long-fraction": repeated("9", start="width > 0."),
    "long-word": repeated("a"),
    "long-text": repeated("a", start='id == "', end='"'),
    "like": repeated("%_", start='uri like "', end='"'),
    "metadata-path": repeated('["a"]', start="metadata", end=" == 1"),
    "metadata-comparisons": _terms('metadata["a"] == "b"', " or "),
    "json-contains": _terms('json_contains(metadata["a"], 1)', " or "),
    "lines": repeated("\n", end="width > 1"),
    "commas": repeated(","),
    "operators": repeated("== "),
}
_TEMPLATES: Mapping[str, Make] = {
    "placeholders": repeated("{}"),
    "one-placeholder": repeated("a", start="{}"),
    "braces": repeated("{"),
    "format": repeated("{0.__class__}"),
}
_TOKENS: Mapping[str, Make] = {
    "base64": repeated("A"),
    "of-the-right-length": lambda _: base64.urlsafe_b64encode(bytes(52)).decode().rstrip("="),
    "padding": repeated("="),
}
_NAMES: Mapping[str, Make] = {
    "nearly-a-name": repeated("a", end="!"),
    "slashes": repeated("../"),
    "lines": repeated("a", end="\n"),
}

BY_FIELD: Mapping[str, Mapping[str, Make]] = {
    "text": _SEARCHED,
    "texts": _SEARCHED,
    "prompt_template": _TEMPLATES,
    "filter": _FILTERS,
    "page_token": _TOKENS,
    "collection": _NAMES,
    "id": _NAMES,
    "ids": _NAMES,
    "image_id": _NAMES,
}
"""For fields of a name, besides those for every field."""
