"""Bounds of an image's file and address; those of ids, names and metadata are the store's."""

from __future__ import annotations

from glimpse.errors import InvalidInput
from services.common.text_bounds import CONTROL_CHARACTER
from services.vectors.bounds import MAX_URI_CHARACTERS


def check_content(content: bytes, max_bytes: int) -> None:
    """Raises InvalidInput for a file over `max_bytes`; an empty one is decoding's to refuse."""
    if len(content) > max_bytes:
        raise InvalidInput(
            "image.content",
            f"must have at most {max_bytes} bytes; it has {len(content)}",
            reason="IMAGE_TOO_LARGE",
        )


def check_uri(uri: str) -> None:
    """Raises InvalidInput for an address that is too long or has control characters."""
    if len(uri) > MAX_URI_CHARACTERS:
        raise InvalidInput(
            "image.uri", f"must have at most {MAX_URI_CHARACTERS} characters; it has {len(uri)}"
        )
    if CONTROL_CHARACTER.search(uri):
        raise InvalidInput("image.uri", "must not have control characters")
