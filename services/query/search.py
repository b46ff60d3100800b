"""Search itself: collection, vectors, ranked pages; gRPC and protobuf are unknown here."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import numpy as np

from glimpse.errors import GlimpseError, InvalidInput, NotFound, Unavailable
from services.common.deadline import Deadline
from services.common.encoder_client import Embedded, EncoderModel
from services.common.event_loop import paced
from services.query.embedding import Embedder
from services.query.metrics import QueryMetrics, SearchTiming
from services.query.queries import Options, PageOrigin, Query, Vector, check_fields
from services.query.request_coalescer import RequestCoalescer
from services.vectors import bounds
from services.vectors.filters import AnyFilter
from services.vectors.generation_names import address_of, parts_of
from services.vectors.records import CollectionSpec, Consistency, Place, ScoredRow
from services.vectors.store import VectorStore, find_rows

Result = TypeVar("Result")

# Of one answer of the store with small attributes; reading it takes a turn of the event loop.
_MAX_CARRIED_ROWS = 2_048
# Vectors that share a call to the store, and such calls at once; decision 0026 says why so many.
_MAX_SHARED_VECTORS = 16
_MAX_STORE_CALLS = 2


@dataclass(frozen=True)
class Page:
    """Hits, best first, equal scores by id."""

    hits: list[ScoredRow]
    end: Place | None  # where there are more, behind which place they come
    truncated: bool  # whether a text had more tokens than the model's context
    prompt_template: str = ""  # what texts were put into


@dataclass(frozen=True)
class Answers:
    """A page or an error for each query, in order."""

    results: list[Page | GlimpseError]
    collection: CollectionSpec
    timing: SearchTiming


@dataclass(frozen=True)
class _Request:
    """All of a request to the store but its vectors: what searches share that share a call."""

    name: str
    dimension: int  # of the vectors: a collection may be made anew while searches wait
    window: int
    offset: int
    after: Place | None
    filter_text: str  # tells filters apart: to Python, 1 and true are equal
    fields: tuple[str, ...]
    consistency: Consistency
    exclude_ids: tuple[str, ...]
    filter: AnyFilter = field(compare=False)


class Searcher:
    """Answers queries; owned by the event loop. Cancelling a call cancels what it waits for.

    A single search is a batch of one whose error is raised.
    """

    def __init__(
        self,
        store: VectorStore,
        embedder: Embedder,
        metrics: QueryMetrics,
        trust_s: float,
    ) -> None:
        """A collection's description is trusted for `trust_s`, unless a search fails by it."""
        self._store = store
        self._embedder = embedder
        self._metrics = metrics
        self._trust_s = trust_s
        self._store_calls = RequestCoalescer(self._search_store, _max_vectors, _MAX_STORE_CALLS)

    async def search(
        self,
        name: str,
        queries: Sequence[Query | GlimpseError],
        options: Options,
        deadline: Deadline,
    ) -> Answers:
        """Answers queries with one call to the encoder and one to the store.

        An error among the queries is its own answer. A query fails alone where its own parts are
        at fault, or the encoder that it needs. Raises what concerns all of them: InvalidInput
        (name, options), NotFound (collection), and the store's Unavailable, Overloaded and
        DeadlineExceeded.
        """
        valid = [query for query in queries if isinstance(query, Query)]

        async def answer(collection: CollectionSpec) -> Answers:
            timing = SearchTiming()
            try:
                outcomes = await self._outcomes(collection, valid, options, timing, deadline)
            except GlimpseError as error:
                raise _in_request(error, options) from None
            following = iter(outcomes)
            results = [next(following) if isinstance(query, Query) else query for query in queries]
            return Answers(results, collection, timing)

        if options.origin is not None:
            return await self._in_origin(name, options.origin, answer, deadline)
        return await self._in_one_generation(name, answer, deadline)

    async def get_images(
        self, name: str, ids: Sequence[str], fields: Sequence[str], deadline: Deadline
    ) -> tuple[list[tuple[str, dict[str, Any]]], list[str]]:
        """Ids with the asked fields, and the ids that are not there; both in the order of `ids`."""
        check_fields("output_fields", fields)
        unique = list(dict.fromkeys(ids))
        rows = await self._in_one_generation(
            name,
            lambda found: find_rows(self._store, found.address, unique, fields, deadline),
            deadline,
        )
        present = [(identity, rows[identity]) for identity in ids if identity in rows]
        return present, [identity for identity in ids if identity not in rows]

    async def get_model(self, name: str, deadline: Deadline) -> EncoderModel:
        """The model of a collection, which is the encoder's; raises what a search raises."""
        collection = await self._store.get_spec(name, deadline=deadline, max_age_s=self._trust_s)
        return await self._embedder.model_of(collection, deadline)

    async def _in_one_generation(
        self,
        name: str,
        work: Callable[[CollectionSpec], Awaitable[Result]],
        deadline: Deadline,
    ) -> Result:
        """Work on what serves the collection, all of it on one generation: vectors of two never
        meet. Once more on its successor where it was dropped meanwhile."""
        trust_s = self._trust_s
        collection = await self._store.get_spec(name, deadline=deadline, max_age_s=trust_s)
        try:
            return await work(collection)
        except NotFound:
            successor = await self._store.get_spec(name, deadline=deadline)
            if PageOrigin.of(successor) == PageOrigin.of(collection):
                raise
        return await work(successor)

    async def _in_origin(
        self,
        name: str,
        origin: PageOrigin,
        work: Callable[[CollectionSpec], Awaitable[Result]],
        deadline: Deadline,
    ) -> Result:
        """Work on the generation that a page came from; raises InvalidInput if that is gone."""
        address, trust_s = address_of(parts_of(name)[0], origin.generation), self._trust_s
        with contextlib.suppress(NotFound):
            found = await self._store.get_spec(address, deadline=deadline, max_age_s=trust_s)
            if origin.created_at_ms in (0, found.created_at_ms):
                return await work(found)
        raise InvalidInput(
            "page_token",
            "is of what is no longer there of the collection: begin with the first page",
            reason="PAGE_TOKEN_OUTDATED",
        )

    async def _outcomes(
        self,
        collection: CollectionSpec,
        queries: Sequence[Query],
        options: Options,
        timing: SearchTiming,
        deadline: Deadline,
    ) -> list[Page | GlimpseError]:
        embedded = await self._embedder.embed(collection, queries, options, timing, deadline)
        started_s = time.perf_counter()
        good = [
            (query, each.vector, each)
            for query, each in zip(queries, embedded, strict=True)
            if each.vector is not None
        ]
        pages = iter(await self._pages(collection.address, good, options, deadline))
        timing.search_us = int((time.perf_counter() - started_s) * 1e6)
        self._metrics.observe(timing)
        return [each.error or next(pages) for each in embedded]

    async def _pages(
        self,
        name: str,
        queries: Sequence[tuple[Query, Vector, Embedded]],
        options: Options,
        deadline: Deadline,
    ) -> list[Page]:
        if not queries:
            return []
        left_out = [
            frozenset() if options.include_query_images else query.image_ids
            for query, _, _ in queries
        ]
        vectors = [vector for _, vector, _ in queries]
        request = _request(name, vectors, left_out, options)
        rows = await self._rows(request, vectors, left_out, options, deadline)
        both = zip(rows, queries, strict=True)
        pages = [_page(hits, options, each) async for hits, (_, _, each) in paced(both)]
        return pages if request.fields else await self._dressed(name, pages, options, deadline)

    async def _rows(
        self,
        request: _Request,
        vectors: Sequence[Vector],
        left_out: Sequence[frozenset[str]],
        options: Options,
        deadline: Deadline,
    ) -> list[list[ScoredRow]]:
        """For each vector, the page's hits and, where there is one, the hit after them."""
        if request.window < 1:
            return [[] for _ in left_out]
        share = await self._store_calls.ask(request, vectors, deadline)
        rows = list(share.answers)
        if len(set(left_out)) > 1:
            start, end = options.offset, options.offset + options.limit + 1
            rows = [
                [hit for hit in hits if hit.id not in ids][start:end]
                async for hits, ids in paced(zip(rows, left_out, strict=True))
            ]
        return rows

    async def _search_store(
        self, request: _Request, vectors: Sequence[Vector], deadline: Deadline
    ) -> list[list[ScoredRow]]:
        matrix = np.empty((len(vectors), request.dimension), np.float32)
        async for at, vector in paced(enumerate(vectors)):
            matrix[at] = vector
        return await self._store.search(
            request.name,
            matrix,
            request.window,
            deadline=deadline,
            filter=request.filter,
            offset=request.offset,
            after=request.after,
            fields=request.fields,
            consistency=request.consistency,
            exclude_ids=request.exclude_ids,
        )

    async def _dressed(
        self, name: str, pages: Sequence[Page], options: Options, deadline: Deadline
    ) -> list[Page]:
        """Bare hits with their attributes; without those that were deleted meanwhile."""
        ids: dict[str, None] = {}
        async for page in paced(pages):
            ids.update(dict.fromkeys(hit.id for hit in page.hits))
        fields = await find_rows(self._store, name, list(ids), options.fields, deadline)
        return [
            replace(
                page,
                hits=[replace(h, fields=fields[h.id]) for h in page.hits if h.id in fields],
            )
            async for page in paced(pages)
        ]


def _request(
    name: str, vectors: Sequence[Vector], left_out: Sequence[frozenset[str]], options: Options
) -> _Request:
    """What to ask of the store; nothing, where its window is below 1."""
    start, size = options.start, options.limit + 1
    excluded = sorted(left_out[0])
    if len(set(left_out)) > 1:
        # The store leaves ids out for all vectors alike; different ones are dropped from what it
        # gives. How many lie before the page is not known beforehand: rows start at the first.
        start, size, excluded = 0, start + size + max(map(len, left_out)), []
    window = min(size, bounds.MAX_WINDOW - start - len(excluded))
    # Milvus sends all rows up to the page's end. Where they are many, they come bare, and the
    # page's own attributes are fetched afterwards.
    is_bare = len(vectors) * (start + window) > _max_carried_rows(options.fields)
    return _Request(
        name=name,
        dimension=len(vectors[0]),
        window=window,
        offset=0 if options.after else start,
        after=options.after,
        filter_text=repr(options.filter),
        fields=() if is_bare else options.fields,
        consistency="strong" if options.strong else "bounded",
        exclude_ids=tuple(excluded),
        filter=options.filter,
    )


def _max_vectors(request: _Request) -> int:
    rows = (request.after.rank if request.after else request.offset) + request.window
    return min(_MAX_SHARED_VECTORS, _max_carried_rows(request.fields) // rows)


def _max_carried_rows(fields: Sequence[str]) -> int:
    return bounds.rows_at_once(fields, _MAX_CARRIED_ROWS)


def _page(hits: Sequence[ScoredRow], options: Options, embedded: Embedded) -> Page:
    kept = [hit for hit in hits if options.min_score is None or hit.score >= options.min_score]
    page, rank = kept[: options.limit], options.start + options.limit
    has_more = len(kept) > options.limit and rank < bounds.MAX_WINDOW
    end = Place(rank, page[-1].score, page[-1].id) if has_more else None
    return Page(page, end, embedded.truncated, embedded.prompt_template)


def _in_request(error: GlimpseError, options: Options) -> GlimpseError:
    """The store's error as the caller sees it: with the field of the request."""
    if isinstance(error, InvalidInput) and error.field == "filter":
        field = "options.filter" if isinstance(options.filter, str) else "options.condition"
        return error.at(field)
    if error.field == "vectors":
        return Unavailable(
            "the collection was recreated during the call", reason="COLLECTION_CHANGED"
        )
    return error
