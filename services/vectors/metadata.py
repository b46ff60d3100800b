"""What callers say of an image beside its picture: a JSON object, checked once and kept as text."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import Any

from glimpse.errors import InvalidInput
from services.common.text_bounds import check_unicode

MAX_METADATA_BYTES = 16 * 1024
MAX_METADATA_DEPTH = 8
_MAX_INTEGER = 2**63 - 1


@dataclass(frozen=True)
class Metadata:
    """A JSON object within its bounds, as text and with the bytes that this has as UTF-8.

    An object of many small values takes ten times the memory of its text, and each part that needs
    its size or sends it would turn it into text again.
    """

    text: str
    size_bytes: int

    @classmethod
    def of(cls, value: Any, field: str = "metadata") -> Metadata:
        """Raises InvalidInput unless it is a JSON object of bounded size and depth, its numbers
        finite and its integers of 64 bits."""
        if not isinstance(value, dict):
            raise InvalidInput(field, f"must be a JSON object; it is {type(value).__name__}")
        if not value:
            return NO_METADATA
        _check(value, field, depth=1)
        text = json.dumps(value, ensure_ascii=False)
        size_bytes = len(text.encode())
        if size_bytes > MAX_METADATA_BYTES:
            raise InvalidInput(
                field, f"must have at most {MAX_METADATA_BYTES} bytes as JSON; it has {size_bytes}"
            )
        return cls(text, size_bytes)

    @classmethod
    def of_text(cls, text: str, field: str = "metadata") -> Metadata:
        """The same of JSON text, which is kept as it is; "" is an empty object."""
        if not text:
            return NO_METADATA
        size_bytes = len(text.encode(errors="replace"))
        if size_bytes > MAX_METADATA_BYTES:
            raise InvalidInput(
                field, f"must have at most {MAX_METADATA_BYTES} bytes; it has {size_bytes}"
            )
        try:
            value = json.loads(text)
        except (ValueError, RecursionError):
            raise InvalidInput(field, "must be a JSON object; it is not JSON") from None
        if not isinstance(value, dict):
            raise InvalidInput(field, f"must be a JSON object; it is {type(value).__name__}")
        _check(value, field, depth=1)
        return cls(text, size_bytes)

    @property
    def value(self) -> dict[str, Any]:
        """The object again."""
        return json.loads(self.text)


NO_METADATA = Metadata("{}", len("{}"))


def _check(value: Any, field: str, depth: int) -> None:
    if isinstance(value, (dict, list)):
        if depth > MAX_METADATA_DEPTH:
            raise InvalidInput(field, f"must be at most {MAX_METADATA_DEPTH} levels deep")
        for key in value if isinstance(value, dict) else ():
            if not isinstance(key, str):
                raise InvalidInput(field, f"keys must be text; one is {key!r}")
            if not key.isascii():
                check_unicode(field, key)
        for item in value.values() if isinstance(value, dict) else value:
            # 16 KiB hold up to 8,000 values, and a call for each takes longer than these looks.
            kind = type(item)
            if kind is int:
                is_plain = -_MAX_INTEGER <= item <= _MAX_INTEGER
            elif kind is float:
                is_plain = math.isfinite(item)
            elif kind is str:
                is_plain = item.isascii()
            else:
                is_plain = item is None or kind is bool
            if not is_plain:
                _check(item, field, depth + 1)
    elif isinstance(value, str):
        check_unicode(field, value)
    elif isinstance(value, int):
        if not -_MAX_INTEGER - 1 <= value <= _MAX_INTEGER:
            raise InvalidInput(field, f"integers must fit into 64 bits; one is {value}")
    elif not isinstance(value, float) or not math.isfinite(value):
        raise InvalidInput(field, f"must be JSON with finite numbers; it holds {value!r}")
