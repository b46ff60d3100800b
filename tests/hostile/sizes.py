"""How large each field may be, as the contracts say; what is past it they refuse."""

from __future__ import annotations

from collections.abc import Mapping

from google.protobuf.descriptor import FieldDescriptor

from services.encoder.settings import EncoderSettings
from services.indexer.settings import IndexerSettings
from services.query.settings import QuerySettings

# Of the bundled model, which is attacked.
DIMENSION = 512
IMAGE_SIZE = 64

MAX_IMAGE_PIXELS = 50_000_000
MAX_IDS = 1_000
MAX_BATCH_QUERIES = 256
MAX_TERMS = 16
MAX_TEXT_CHARACTERS = 8_192
MAX_TEXTS = 256
MAX_ENCODED_IMAGES = 64
MAX_INDEXED_IMAGES = 256
MAX_IMPORTED_IMAGES = 1_000
MAX_METADATA_BYTES = 16 * 1024
MAX_METADATA_LEVELS = 8
MAX_CONDITION_LEVELS = 8
MAX_CALL_METADATA_BYTES = 16 * 1024
MAX_WINDOW = 16_384

# By "Message.field", or by the field's name alone where it means the same everywhere.
_CHARACTERS = {
    "text": MAX_TEXT_CHARACTERS,
    "texts": MAX_TEXT_CHARACTERS,
    "collection": 255,
    "confirm": 255,
    "id": 128,
    "ids": 128,
    "image_id": 128,
    "after_id": 128,
    "uri": 2_048,
    "prompt_template": 1_024,
    "model_name": 247,
    "model_fingerprint": 256,
    "format": 16,
    "content_sha256": 64,
    "metadata_json": 16 * 1024,
    "SearchOptions.filter": 16_384,
    "DeleteImagesRequest.filter": 65_536,
    "CountImagesRequest.filter": 65_536,
    "ListImagesRequest.filter": 65_536,
}
_COUNTS = {
    "texts": MAX_TEXTS,
    "EncodeImagesRequest.images": MAX_ENCODED_IMAGES,
    "BatchIndexImagesRequest.images": MAX_INDEXED_IMAGES,
    "ImportBatch.images": MAX_IMPORTED_IMAGES,
    "ids": MAX_IDS,
    "terms": MAX_TERMS,
    "queries": MAX_BATCH_QUERIES,
    "conditions": 255,  # and the one that holds them
    "values": DIMENSION,
    "output_fields": 8,
    "path": 16,
}
_BYTES = {
    "file": 32 * 2**20,
    "image": 32 * 2**20,
    "content": 32 * 2**20,
    "pixels": IMAGE_SIZE * IMAGE_SIZE * 3,
    "vector": 4 * DIMENSION,
}
_NUMBERS: dict[str, float] = {
    "limit": 1_000,
    "offset": MAX_WINDOW - 10,  # with the ten hits that are given unasked
    "min_score": 1,
    "weight": 100,
    "dimension": 32_768,
}
_UNKNOWN = 2**20

_SETTINGS = {"encoder": EncoderSettings, "indexer": IndexerSettings, "query": QuerySettings}


def lengths(field: FieldDescriptor) -> dict[str, int]:
    """Characters or bytes: as many as are taken, and one more; where nobody says, very many."""
    bounds = _BYTES if field.type == FieldDescriptor.TYPE_BYTES else _CHARACTERS
    return _levels(_bound(bounds, field))


def counts(field: FieldDescriptor) -> dict[str, int]:
    """Entries of a repeated field, likewise."""
    return _levels(_bound(_COUNTS, field))


def greatest(field: FieldDescriptor) -> float | None:
    """The greatest number that is taken; None where all are."""
    return _bound(_NUMBERS, field)


def max_message_bytes(service: str) -> int:
    """The largest message that a service takes, unless it is told otherwise."""
    return _SETTINGS[service].model_fields["max_message_bytes"].default


def _bound(bounds: Mapping[str, float], field: FieldDescriptor) -> float | None:
    return bounds.get(f"{field.containing_type.name}.{field.name}", bounds.get(field.name))


def _levels(bound: float | None) -> dict[str, int]:
    if bound is None:
        return {"1Mi": _UNKNOWN}
    return {"max": int(bound), "past": int(bound) + 1}
