"""Attacks that were measured before they were mended, and what the others saw then."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import grpc

from glimpse.indexer.v1 import indexer_pb2, indexer_pb2_grpc
from tests.hostile.results import Result

_LISTINGS = 5
_TIMEOUT_S = 60.0


@dataclass(frozen=True)
class Known:
    """Attacks of one kind; the worst of them counts."""

    key: str
    attacks: tuple[str, ...]
    what: str
    before: str

    @property
    def meaning(self) -> str:
        return f"a neighbour's longest wait meanwhile: {self.what} (once {self.before})"

    def worst_ms(self, results: Sequence[Result]) -> float | None:
        """None where none of its attacks was made."""
        waits = [result.worst_ms for result in results if result.name in self.attacks]
        return max(waits, default=None)


def _metadata(content: str) -> tuple[str, ...]:
    fields = ("indexer.IndexImages.image.metadata", "indexer.BatchIndexImages.images.metadata")
    return tuple(f"{field}:{content}" for field in fields)


KNOWN = (
    Known(
        "search_by_quotes_ms",
        ("query.Search.options.filter:unclosed-quotes@max",),
        "a search by a filter of 8,192 quotes that are not closed",
        "1,500 to 7,000 ms",
    ),
    Known(
        "delete_by_quotes_ms",
        ("indexer.DeleteImages.filter:unclosed-quotes@max",),
        "DeleteImages by a filter of 32,768 of them",
        "more than 20,000 ms",
    ),
    Known(
        "metadata_of_1_3_mb_ms",
        (*_metadata("nulls-of-1.3M"), *_metadata("keys-of-1.3M")),
        "an image with 1.3 MB of metadata",
        "700 ms",
    ),
    Known(
        "search_by_large_picture_ms",
        ("query.Search:16-MiB-picture-with-more-hits",),
        "a search by a picture of 16 MiB",
        "130 ms",
    ),
    Known(
        "large_pictures_ms",
        (
            "encoder.EncodeImages:64-pngs-of-50-megapixels",
            "encoder.EncodeImages:64-jpegs-of-50-megapixels",
        ),
        "64 pictures of 50 megapixels to encode",
        "700 to 1,400 ms",
    ),
)


def listing_ms(indexer: str) -> list[float]:
    """How long it takes to list all collections, several times."""
    waits_ms = []
    with grpc.insecure_channel(indexer) as channel:
        stub = indexer_pb2_grpc.IndexerStub(channel)
        for _ in range(_LISTINGS):
            started_s = time.perf_counter()
            stub.ListCollections(indexer_pb2.ListCollectionsRequest(), timeout=_TIMEOUT_S)
            waits_ms.append(1000 * (time.perf_counter() - started_s))
    return waits_ms
