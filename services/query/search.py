"""Search itself: collection, vectors, ranked pages; gRPC and protobuf are unknown here."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from glimpse.errors import FailedPrecondition, GlimpseError, InvalidInput, NotFound, Unavailable
from services.common.deadline import Deadline
from services.query.descriptions import Descriptions
from services.query.embedding import Embedder, Embedding, fetch
from services.query.encoding import EncoderTiming
from services.query.metrics import QueryMetrics
from services.query.queries import Options, Query, check_batch, check_fields, check_ids
from services.query.request_coalescer import RequestCoalescer
from services.vectors import bounds
from services.vectors.store import AnyFilter, CollectionSpec, Consistency, ScoredRow, VectorStore

# With at most 16 KiB of metadata each, they fit into Milvus' message of 64 MiB.
_MAX_CARRIED_ROWS = 4_096
# Vectors that share a call to the store, and such calls at once; decision 0026 says why so many.
_MAX_SHARED_VECTORS = 16
_MAX_STORE_CALLS = 2


@dataclass(frozen=True)
class Page:
    """Hits, best first, equal scores by id; and whether there are more after them."""

    hits: list[ScoredRow]
    has_more: bool
    truncated: bool  # whether a text had more tokens than the model's context


@dataclass(frozen=True)
class SearchTiming:
    """Where the time of a call went, in microseconds."""

    queue_us: int
    encode_us: int
    search_us: int


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
        descriptions: Descriptions,
        metrics: QueryMetrics,
    ) -> None:
        self._store = store
        self._embedder = embedder
        self._descriptions = descriptions
        self._metrics = metrics
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
        (options, number of queries), NotFound (collection), and the store's Unavailable,
        Overloaded and DeadlineExceeded.
        """
        check_batch(len(queries), options)
        bounds.check_name(name)
        collection = await self._descriptions.get(name, deadline)
        valid = [query for query in queries if isinstance(query, Query)]
        try:
            outcomes, timing = await self._outcomes(collection, valid, options, deadline)
        except GlimpseError as error:
            if _tells_of_change(error):
                self._descriptions.forget(name)
            raise _in_request(error, options) from None
        return Answers(_merged(queries, Query, outcomes), collection, timing)

    async def get_images(
        self, name: str, ids: Sequence[str], fields: Sequence[str], deadline: Deadline
    ) -> tuple[list[tuple[str, dict[str, Any]]], list[str]]:
        """Ids with the asked fields, and the ids that are not there; both in the order of `ids`."""
        bounds.check_name(name)
        check_ids("ids", ids)
        check_fields("output_fields", fields)
        rows = await fetch(self._store, name, list(dict.fromkeys(ids)), fields, deadline)
        present = [(identity, rows[identity]) for identity in ids if identity in rows]
        return present, [identity for identity in ids if identity not in rows]

    async def _outcomes(
        self,
        collection: CollectionSpec,
        queries: Sequence[Query],
        options: Options,
        deadline: Deadline,
    ) -> tuple[list[Page | GlimpseError], SearchTiming]:
        embeddings, encoder_timing = await self._embedder.embed(
            collection, queries, options, deadline
        )
        good = [
            (query, embedding)
            for query, embedding in zip(queries, embeddings, strict=True)
            if isinstance(embedding, Embedding)
        ]
        started_s = time.perf_counter()
        pages = await self._pages(collection.name, good, options, deadline)
        timing = self._timing(encoder_timing, time.perf_counter() - started_s)
        return _merged(embeddings, Embedding, pages), timing

    async def _pages(
        self,
        name: str,
        queries: Sequence[tuple[Query, Embedding]],
        options: Options,
        deadline: Deadline,
    ) -> list[Page]:
        if not queries:
            return []
        vectors = np.stack([embedding.vector for _, embedding in queries])
        left_out = [
            frozenset() if options.include_query_images else query.image_ids for query, _ in queries
        ]
        rows = await self._rows(name, vectors, left_out, options, deadline)
        return [
            _page(hits, options, embedding.truncated)
            for hits, (_, embedding) in zip(rows, queries, strict=True)
        ]

    async def _rows(
        self,
        name: str,
        vectors: np.ndarray,
        left_out: Sequence[frozenset[str]],
        options: Options,
        deadline: Deadline,
    ) -> list[list[ScoredRow]]:
        """For each vector, the page's hits and, where there is one, the hit after them."""
        request = _request(name, vectors, left_out, options)
        if request.window < 1:
            return [[] for _ in left_out]
        share = await self._store_calls.ask(request, list(vectors), deadline)
        rows = list(share.answers)
        if len(set(left_out)) > 1:
            start, end = options.offset, options.offset + options.limit + 1
            rows = [
                [hit for hit in hits if hit.id not in ids][start:end]
                for hits, ids in zip(rows, left_out, strict=True)
            ]
        return rows if request.fields else await self._dressed(name, rows, options, deadline)

    async def _search_store(
        self, request: _Request, vectors: Sequence[np.ndarray], deadline: Deadline
    ) -> list[list[ScoredRow]]:
        return await self._store.search(
            request.name,
            np.stack(vectors),
            request.window,
            deadline=deadline,
            filter=request.filter,
            offset=request.offset,
            fields=request.fields,
            consistency=request.consistency,
            exclude_ids=request.exclude_ids,
        )

    async def _dressed(
        self, name: str, rows: Sequence[Sequence[ScoredRow]], options: Options, deadline: Deadline
    ) -> list[list[ScoredRow]]:
        """Bare hits with their attributes; without those that were deleted meanwhile."""
        ids = list(dict.fromkeys(hit.id for hits in rows for hit in hits))
        fields = await fetch(self._store, name, ids, options.fields, deadline)
        return [
            [dataclasses.replace(hit, fields=fields[hit.id]) for hit in hits if hit.id in fields]
            for hits in rows
        ]

    def _timing(self, encoder: EncoderTiming, search_s: float) -> SearchTiming:
        stage_s = self._metrics.stage_s
        if encoder.calls:
            stage_s.labels("queue").observe(encoder.queue_us / 1e6)
            stage_s.labels("encode").observe(encoder.encode_us / 1e6)
        stage_s.labels("search").observe(search_s)
        return SearchTiming(encoder.queue_us, encoder.encode_us, int(search_s * 1e6))


def _request(
    name: str, vectors: np.ndarray, left_out: Sequence[frozenset[str]], options: Options
) -> _Request:
    """What to ask of the store; nothing, where its window is below 1."""
    start, size = options.offset, options.limit + 1
    excluded = sorted(left_out[0])
    if len(set(left_out)) > 1:
        # The store leaves ids out for all vectors alike; different ones are dropped from what it
        # gives. How many lie before the page is not known beforehand: rows start at the first.
        start, size, excluded = 0, start + size + max(map(len, left_out)), []
    window = min(size, bounds.MAX_WINDOW - start - len(excluded))
    # Milvus sends all rows up to the page's end. Where they are many, they come bare, and the
    # page's own attributes are fetched afterwards.
    is_bare = len(vectors) * (start + window) > _MAX_CARRIED_ROWS
    return _Request(
        name=name,
        dimension=vectors.shape[1],
        window=window,
        offset=start,
        filter_text=repr(options.filter),
        fields=() if is_bare else options.fields,
        consistency="strong" if options.strong else "bounded",
        exclude_ids=tuple(excluded),
        filter=options.filter,
    )


def _max_vectors(request: _Request) -> int:
    return min(_MAX_SHARED_VECTORS, _MAX_CARRIED_ROWS // (request.offset + request.window))


def _merged(items: Sequence[Any], kind: type, outcomes: Sequence[Any]) -> list[Any]:
    """`items` with those of `kind` replaced by `outcomes`, in turn."""
    following = iter(outcomes)
    return [next(following) if isinstance(item, kind) else item for item in items]


def _page(hits: Sequence[ScoredRow], options: Options, truncated: bool) -> Page:
    kept = [hit for hit in hits if options.min_score is None or hit.score >= options.min_score]
    in_reach = options.offset + options.limit < bounds.MAX_WINDOW
    return Page(kept[: options.limit], in_reach and len(kept) > options.limit, truncated)


def _tells_of_change(error: GlimpseError) -> bool:
    """Whether an error of the store may come from trusting an old description."""
    return isinstance(error, (NotFound, FailedPrecondition)) or error.field == "vectors"


def _in_request(error: GlimpseError, options: Options) -> GlimpseError:
    """The store's error as the caller sees it: with the field of the request."""
    if isinstance(error, InvalidInput) and error.field == "filter":
        field = "options.filter" if isinstance(options.filter, str) else "options.condition"
        return error.at(field)
    if error.field == "vectors":
        return Unavailable(
            "the collection was made anew during the call", reason="COLLECTION_CHANGED"
        )
    return error
