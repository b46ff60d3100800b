"""The bounds of the indexer's requests; checked by their sizes, before anything is done with them.

What ids, names, filters and metadata may hold is the store's to say, where it is asked for them.
"""

from __future__ import annotations

from collections.abc import Sequence

from glimpse.errors import InvalidInput
from services.common.message_fields import MAX_STRUCT_BYTES
from services.common.text_bounds import CONTROL_CHARACTER, check_unicode
from services.vectors.bounds import MAX_DIMENSION, MAX_URI_CHARACTERS, check_name
from services.vectors.expressions import MAX_EXPRESSION_CHARACTERS
from services.vectors.generation_names import parts_of
from services.vectors.metadata import MAX_METADATA_BYTES
from services.vectors.records import ALL_FIELDS, DECLARED

MAX_NAME_CHARACTERS = 255
MAX_ADDRESS_CHARACTERS = MAX_NAME_CHARACTERS + len("@") + 9
MAX_BATCH_IMAGES = 256
MAX_INTERACTIVE_IMAGES = 8  # of a batch
MAX_IDS = 1_000
MAX_PAGE_SIZE = 1_000
DEFAULT_PAGE_SIZE = 100
MAX_LISTED_IMAGES = 10_000
MAX_LISTED_BYTES = 4 * 2**20  # of a response: what gRPC takes where nobody has set a limit
MAX_IMPORTED_IMAGES = 1_000
MAX_IMPORTED_BYTES = 4 * 2**20  # of a message: a row takes 0.2 MB at most
MAX_MODEL_CHARACTERS = 256
MAX_OUTPUT_FIELDS = 64
MAX_HOLD_MS = 60_000


def check_collection(name: str, field: str = "collection") -> str:
    """Raises InvalidInput for what is no name of a collection."""
    if len(name) > MAX_NAME_CHARACTERS:
        raise InvalidInput(
            field, f"must have at most {MAX_NAME_CHARACTERS} characters; it has {len(name)}"
        )
    try:
        return check_name(name)
    except InvalidInput as error:
        raise error.at(field) from None


def check_address(name: str, field: str = "collection") -> str:
    """As check_collection, for a name that may have a generation's number behind it."""
    collection, number = parts_of(name[: MAX_ADDRESS_CHARACTERS + 1])
    check_collection(name if number is None else collection, field)
    return name


def check_indexed_at(indexed_at_ms: int, is_carried: bool) -> None:
    """Raises InvalidInput for a time where none is taken, or none where one has to be."""
    if is_carried and indexed_at_ms <= 0:
        raise InvalidInput("image.indexed_at_ms", "must be set where a generation is named")
    if indexed_at_ms and not is_carried:
        raise InvalidInput("image.indexed_at_ms", "must be 0 unless a generation is named")


def check_hold(hold_ms: int) -> int:
    """Raises InvalidInput for a time for which writes cannot be held."""
    if hold_ms > MAX_HOLD_MS:
        raise InvalidInput("hold_ms", f"must be at most {MAX_HOLD_MS}; it is {hold_ms}")
    return hold_ms


def check_fingerprint(fingerprint: str) -> str:
    """Raises InvalidInput for what no model has as its fingerprint; an empty one names none."""
    if len(fingerprint) > MAX_MODEL_CHARACTERS:
        raise InvalidInput(
            "model_fingerprint",
            f"must have at most {MAX_MODEL_CHARACTERS} characters; it has {len(fingerprint)}",
        )
    check_unicode("model_fingerprint", fingerprint)
    return fingerprint


def check_batch(count: int) -> None:
    """Raises InvalidInput for too many images in one message, or none."""
    if not 1 <= count <= MAX_BATCH_IMAGES:
        raise InvalidInput("images", f"must be 1 to {MAX_BATCH_IMAGES} images; there are {count}")


def check_id_count(count: int) -> None:
    """Raises InvalidInput for too many ids in one message, or none."""
    if not 1 <= count <= MAX_IDS:
        raise InvalidInput("ids", f"must be 1 to {MAX_IDS} ids; there are {count}")


def check_filter(characters: int) -> None:
    """Raises InvalidInput for a filter that is too long; an empty one is the store's to refuse."""
    if characters > MAX_EXPRESSION_CHARACTERS:
        raise InvalidInput(
            "filter",
            f"must have at most {MAX_EXPRESSION_CHARACTERS} characters; it has {characters}",
            reason="INVALID_FILTER",
        )


def check_page_size(size: int) -> int:
    """The number of collections on a page, where 0 asks for the default; raises InvalidInput."""
    if size > MAX_PAGE_SIZE:
        raise InvalidInput("page_size", f"must be at most {MAX_PAGE_SIZE}; it is {size}")
    return size or DEFAULT_PAGE_SIZE


def check_listed_images(size: int) -> int:
    """The number of images on a page, where 0 asks for the most; raises InvalidInput."""
    if size > MAX_LISTED_IMAGES:
        raise InvalidInput("page_size", f"must be at most {MAX_LISTED_IMAGES}; it is {size}")
    return size or MAX_LISTED_IMAGES


def check_import_size(size_bytes: int) -> None:
    """Raises InvalidInput for a message of an import that is too large."""
    if size_bytes > MAX_IMPORTED_BYTES:
        raise InvalidInput(
            "batch", f"must have at most {MAX_IMPORTED_BYTES} bytes; it has {size_bytes}"
        )


def check_imported_images(count: int) -> None:
    """Raises InvalidInput for too many images to import at once, or none."""
    if not 1 <= count <= MAX_IMPORTED_IMAGES:
        raise InvalidInput(
            "batch.images", f"must be 1 to {MAX_IMPORTED_IMAGES} images; there are {count}"
        )


def check_imported_model(name: str, fingerprint: str, dimension: int) -> None:
    """Raises InvalidInput for what cannot describe a model."""
    if not 1 <= len(name) <= MAX_MODEL_CHARACTERS - len(DECLARED):
        most = MAX_MODEL_CHARACTERS - len(DECLARED)
        raise InvalidInput("options.model_name", f"must have 1 to {most} characters")
    if len(fingerprint) > MAX_MODEL_CHARACTERS:
        raise InvalidInput(
            "options.model_fingerprint", f"must have at most {MAX_MODEL_CHARACTERS} characters"
        )
    for field, text in (("model_name", name), ("model_fingerprint", fingerprint)):
        if CONTROL_CHARACTER.search(text):
            raise InvalidInput(f"options.{field}", "must not contain control characters")
    if not 1 <= dimension <= MAX_DIMENSION:
        raise InvalidInput("options.dimension", f"must be 1 to {MAX_DIMENSION}; it is {dimension}")


def check_output_fields(names: Sequence[str]) -> tuple[str, ...]:
    """The attributes that are asked for, each once; raises InvalidInput."""
    if len(names) > MAX_OUTPUT_FIELDS:
        raise InvalidInput(
            "output_fields", f"must be at most {MAX_OUTPUT_FIELDS} names; there are {len(names)}"
        )
    for name in names:
        if name not in ALL_FIELDS:
            raise InvalidInput(
                "output_fields", f"{name[:100]!r} is not one of {', '.join(ALL_FIELDS)}"
            )
    return tuple(dict.fromkeys(names))


def check_content(content: bytes | memoryview, max_bytes: int) -> None:
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
        raise InvalidInput("image.uri", "must not contain control characters")


class MetadataBudget:
    """The bytes that an image's metadata may still take as JSON, while they are being converted.

    Counts what each value takes at least, so that a conversion ends soon after the bound, however
    much there is.
    """

    def __init__(self, message_bytes: int) -> None:
        """Raises InvalidInput where the message's own size says that there is too much."""
        self._left_bytes = MAX_METADATA_BYTES
        if message_bytes > MAX_STRUCT_BYTES:
            self.spend(message_bytes)

    def spend(self, size_bytes: int) -> None:
        """Takes bytes out of the budget; raises InvalidInput where they are not in it."""
        self._left_bytes -= size_bytes
        if self._left_bytes < 0:
            raise InvalidInput(
                "image.metadata", f"must have at most {MAX_METADATA_BYTES} bytes as JSON"
            )
