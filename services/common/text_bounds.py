"""Which texts are taken: at all, and to be looked for."""

from __future__ import annotations

import re

from glimpse.errors import InvalidInput

MAX_TEXT_CHARACTERS = 8_192  # of a text to look for, in query and encoder alike
MAX_TEMPLATE_CHARACTERS = 1_024  # of what texts are put into

CONTROL_CHARACTER = re.compile(r"[\x00-\x1f\x7f-\x9f]")  # Unicode's category Cc
# Those that are not white space as well, which are U+0009 to U+000D and U+0085.
_NOT_IN_TEXTS = re.compile(rf"(?![\t-\r\x85]){CONTROL_CHARACTER.pattern}")


def check_text(field: str, text: str, max_characters: int = MAX_TEXT_CHARACTERS) -> None:
    """Raises InvalidInput for a text that is too long, blank, or holds control characters."""
    if len(text) > max_characters:
        raise InvalidInput(
            field,
            f"has {len(text)} characters; at most {max_characters} are allowed",
            reason="TEXT_TOO_LONG",
        )
    if not text.strip():
        raise InvalidInput(field, "must contain more than white space", reason="TEXT_EMPTY")
    found = _NOT_IN_TEXTS.search(text)
    if found is not None:
        raise InvalidInput(
            field,
            f"must not contain control characters (U+{ord(found[0]):04X} at {found.start()})",
            reason="TEXT_CONTROL_CHARACTER",
        )


def check_unicode(field: str, text: str) -> None:
    """Raises InvalidInput for a text with lone surrogates, which UTF-8 cannot hold."""
    if text.isascii():
        return
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InvalidInput(field, "must be text that can be encoded as UTF-8") from error


def check_template(field: str, template: str) -> None:
    """Raises InvalidInput for what no text can be put into; an empty template changes none."""
    if not template:
        return
    check_text(field, template, MAX_TEMPLATE_CHARACTERS)
    if template.count("{}") != 1:
        raise InvalidInput(field, 'must hold "{}" exactly once, such as "a photo of a {}"')


def in_template(template: str, text: str) -> str:
    """The text in the template's place for it; as it is, where it will be refused anyway."""
    if not template or len(text) > MAX_TEXT_CHARACTERS or not text.strip():
        return text
    return template.replace("{}", text)
