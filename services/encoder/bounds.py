"""The bounds of the encoder's requests; checked by their sizes, before anything is done with them.

What a text may hold is services.common.text_bounds' to say; how large a picture,
glimpse.pictures.files'.
"""

from __future__ import annotations

from glimpse.errors import InvalidImage, InvalidInput
from glimpse.pictures.files import IMAGE_TOO_LARGE
from services.common.message_fields import Content


def check_count(field: str, count: int, max_count: int) -> None:
    """Raises InvalidInput unless a call has 1 to `max_count` of something."""
    if not 1 <= count <= max_count:
        raise InvalidInput(field, f"must have 1 to {max_count}, not {count}")


def check_file(field: str, content: Content, max_bytes: int) -> None:
    """Raises InvalidImage for a file that is too long; an empty one is decoding's to refuse."""
    if len(content) > max_bytes:
        raise InvalidImage(
            field,
            f"the file has {len(content)} bytes; at most {max_bytes} are taken",
            reason=IMAGE_TOO_LARGE,
        )


def check_pixels(field: str, content: Content, size: int) -> None:
    """Raises InvalidImage unless `content` is uint8 [size, size, 3]."""
    expected_bytes = size * size * 3
    if len(content) != expected_bytes:
        raise InvalidImage(
            field, f"has {len(content)} bytes; {size} x {size} x 3 = {expected_bytes} are required"
        )
