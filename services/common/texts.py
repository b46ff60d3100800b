"""Which texts can be looked for; turning them into vectors is not its job."""

from __future__ import annotations

import re

from glimpse.errors import InvalidInput

# Unicode's control characters (Cc) but for those that are white space: U+0009 to U+000D and U+0085.
_CONTROL_CHARACTER = re.compile(r"[\x00-\x08\x0e-\x1f\x7f-\x84\x86-\x9f]")


def check_text(field: str, text: str, max_characters: int) -> None:
    """Raises InvalidInput for a text that is too long, blank, or holds control characters."""
    if len(text) > max_characters:
        raise InvalidInput(
            field,
            f"has {len(text)} characters; at most {max_characters} are taken",
            reason="TEXT_TOO_LONG",
        )
    if not text.strip():
        raise InvalidInput(field, "must hold more than white space", reason="TEXT_EMPTY")
    found = _CONTROL_CHARACTER.search(text)
    if found is not None:
        raise InvalidInput(
            field,
            f"must not hold control characters (U+{ord(found[0]):04X} at {found.start()})",
            reason="TEXT_CONTROL_CHARACTER",
        )
