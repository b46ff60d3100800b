"""5,000 rows of equal vectors, as shops have them of "no picture yet", and 5,000 of different ones;
what a search costs that meets the first ÷ one that meets the others.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import grpc

from benchmarks.report import alternate, percentile
from glimpse.query.v1 import query_pb2, query_pb2_grpc

TIES = "ties"
DIFFERENT = "different"
TEXT = "no picture yet"
"""What finds them all."""

ROWS = 5_000
_SEARCHES = 20
_TIMEOUT_S = 60.0


@dataclass(frozen=True)
class Measured:
    """Milliseconds of each search."""

    ties_ms: list[float]
    different_ms: list[float]

    @property
    def ratio(self) -> float:
        """Of the medians."""
        return percentile(self.ties_ms, 0.5) / percentile(self.different_ms, 0.5)


def measure(query: str) -> Measured:
    """Searches both in turn."""
    with grpc.insecure_channel(query) as channel:
        stub = query_pb2_grpc.QueryStub(channel)

        def search_ms(collection: str) -> float:
            started_s = time.perf_counter()
            request = query_pb2.SearchRequest(collection=collection, text=TEXT)
            stub.Search(request, timeout=_TIMEOUT_S)
            return 1000 * (time.perf_counter() - started_s)

        for collection in (TIES, DIFFERENT):
            search_ms(collection)
        ties_ms, different_ms = alternate(
            _SEARCHES, lambda: search_ms(TIES), lambda: search_ms(DIFFERENT)
        )
    return Measured(ties_ms, different_ms)
