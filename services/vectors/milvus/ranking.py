"""Searches of one Milvus collection, equal scores in the order of their ids.

Milvus orders by score alone, and of equal scores at a window's end it gives any. So a search asks
for one row more than it needs. Where equal scores reach beyond that end, as they do where thousands
of pictures are the same, their queries ask again, for windows of fixed sizes: the same rows for
each page. Within what a wider window adds, equal scores come by id. Attributes come along where
they are few and small, which saves a request, and are fetched for the page alone where not.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from services.common.event_loop import paced
from services.common.tasks import concurrently
from services.vectors.bounds import LARGE_FIELDS, MAX_WINDOW
from services.vectors.milvus import row_requests, schema
from services.vectors.milvus.connection import MilvusCall
from services.vectors.records import Consistency, Place, ScoredRow

_WINDOWS = (64, 256, 1_024, 4_096, MAX_WINDOW)
_MAX_ROWS = 2_048  # of one answer without attributes; reading it holds the event loop for 0.01 s
# Milvus Lite answers one request after the other, and takes 0.2 ms for each row of an answer: so
# few that others need not wait long for their turn.
_MAX_LITE_ROWS = 512
_MAX_DRESSED_ROWS = 1_024  # of one answer with attributes
_SCORE_DECIMALS = 6  # what float32 sums of different order agree on


@dataclass(frozen=True)
class Span:
    """Which of a query's hits are asked for."""

    offset: int
    limit: int
    excluded: frozenset[str]
    after: Place | None = None

    @property
    def start(self) -> int:
        """How many hits lie before them, or did when the page before was made."""
        return self.after.rank if self.after else self.offset

    @property
    def end(self) -> int:
        """How many of the best rows decide them, if that is still so."""
        return self.start + self.limit + len(self.excluded)

    def of(self, hits: Sequence[ScoredRow]) -> list[ScoredRow]:
        """Those among the best hits."""
        kept = [hit for hit in hits if hit.id not in self.excluded]
        start = self.after.end_in(kept) if self.after else self.offset
        return kept[start : start + self.limit]


@dataclass(frozen=True)
class Search:
    """What all queries of a search have in common."""

    call: MilvusCall
    span: Span
    fields: Sequence[str]
    consistency: Consistency

    async def run(self, queries: NDArray[np.float32]) -> list[list[ScoredRow]]:
        """The hits of each of the queries [Q, dimension], best first."""
        end = self.span.end
        while True:
            answers = await self._ask(queries, min(end + 1, MAX_WINDOW), self.fields)
            tied = [i for i, hits in enumerate(answers) if _are_cut(hits, end)]
            fields = self._carried(len(tied), end)
            ranked = await self._ranked(queries, tied, end, fields)
            pages = [self.span.of(ranked.get(i, hits)) for i, hits in enumerate(answers)]
            if all(
                len(page) == self.span.limit or len(hits) <= end
                for page, hits in zip(pages, answers, strict=True)
            ):
                break
            end = min(2 * end, MAX_WINDOW)  # rows were written before the place, maybe many
        dressed_rows = pages if fields else answers
        known = {hit.id: hit.fields for i in tied for hit in dressed_rows[i]}
        dressed = await self._dressed([pages[i] for i in tied], known)
        for i, page in zip(tied, dressed, strict=True):
            pages[i] = page
        return pages

    def _carried(self, count: int, end: int) -> Sequence[str]:
        """The attributes that come along when so many queries are ranked."""
        rows = count * max(_windows(end))
        is_large = rows > _MAX_DRESSED_ROWS or LARGE_FIELDS.intersection(self.fields)
        return () if is_large else self.fields

    async def _ranked(
        self, queries: NDArray[np.float32], tied: Sequence[int], end: int, fields: Sequence[str]
    ) -> dict[int, list[ScoredRow]]:
        """The best rows of some queries, at least `end` of them."""
        parts = list(_parts(tied, end))
        # Milvus Lite computes one of them at a time anyway: others would wait for all of them.
        at_once = 1 if (await self.call.backend()).kind == "lite" else row_requests.MAX_READS
        ranks = (self._rank(queries[part], end, fields) for part in parts)
        ranked = await concurrently(*ranks, at_once=at_once)
        return {
            i: hits
            for part, answers in zip(parts, ranked, strict=True)
            for i, hits in zip(part, answers, strict=True)
        }

    async def _rank(
        self, queries: NDArray[np.float32], end: int, fields: Sequence[str]
    ) -> list[list[ScoredRow]]:
        read: list[dict[str, ScoredRow]] = [{} for _ in queries]
        for window in _windows(end):
            for known, hits in zip(read, await self._ask(queries, window, fields), strict=True):
                for hit in hits:
                    known.setdefault(hit.id, hit)
        # Sorting leaves equal scores in the order in which they were read.
        return [sorted(known.values(), key=lambda hit: -hit.score) for known in read]

    async def _dressed(
        self, pages: Sequence[Sequence[ScoredRow]], known: dict[str, dict[str, Any]]
    ) -> list[list[ScoredRow]]:
        """Pages with the attributes, some of them `known`; without rows deleted meanwhile."""
        if not (self.fields and pages):
            return [list(page) for page in pages]
        bare = dict.fromkeys(hit.id for page in pages for hit in page if hit.id not in known)
        known |= await row_requests.fetch(self.call, list(bare), self.fields, self.consistency)
        return [
            [replace(hit, fields=known[hit.id]) for hit in page if hit.id in known]
            for page in pages
        ]

    async def _ask(
        self, queries: NDArray[np.float32], window: int, fields: Sequence[str]
    ) -> list[list[ScoredRow]]:
        size = len(queries)
        if (await self.call.backend()).kind == "lite":
            size = max(1, _MAX_LITE_ROWS // window)
        return [
            hits
            for start in range(0, len(queries), size)
            for hits in await self._request(queries[start : start + size], window, fields)
        ]

    async def _request(
        self, queries: NDArray[np.float32], window: int, fields: Sequence[str]
    ) -> list[list[ScoredRow]]:
        answers = await self.call(
            "search",
            self.call.collection,
            list(queries),
            filter=self.call.expression,
            limit=window,
            output_fields=["id", *fields],
            anns_field="vector",
            search_params=schema.search_parameters(window),
            consistency_level=row_requests.LEVELS[self.consistency],
        )
        return [await _in_order(hits, fields) for hits in answers]


def _windows(end: int) -> Iterator[int]:
    """The windows that are read for the best `end` rows."""
    for window in _WINDOWS:
        yield window
        if window >= end:
            return


def _are_cut(hits: Sequence[ScoredRow], end: int) -> bool:
    """Whether equal scores reach beyond `end`, or a window that pages before were made of."""
    return any(
        hits[place - 1].score == hits[place].score
        for place in (end, *_WINDOWS)
        if place < len(hits)
    )


def _parts(tied: Sequence[int], end: int) -> Iterator[Sequence[int]]:
    """The queries that share a request."""
    size = max(1, _MAX_ROWS // max(_windows(end)))
    for start in range(0, len(tied), size):
        yield tied[start : start + size]


async def _in_order(hits: Any, fields: Sequence[str]) -> list[ScoredRow]:
    return sorted([_hit(hit, fields) async for hit in paced(hits)], key=_by_score_and_id)


def _hit(hit: Any, fields: Sequence[str]) -> ScoredRow:
    score = round(float(hit["distance"]), _SCORE_DECIMALS)
    return ScoredRow(hit["id"], score, schema.fields_of(hit["entity"], fields))


def _by_score_and_id(hit: ScoredRow) -> tuple[float, str]:
    return -hit.score, hit.id
