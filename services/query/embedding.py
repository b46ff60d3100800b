"""Queries become unit vectors: by cache, encoder, store; searching with them is not its job."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from glimpse.errors import GlimpseError, InvalidInput, NotFound
from services.common.deadline import Deadline
from services.common.encoder_client import Embedded, EncoderClient
from services.query.encoding import EncoderTiming, QueryEncoder
from services.query.metrics import QueryMetrics
from services.query.queries import Given, IndexedImage, Options, Part, PictureFile, Query, Text
from services.query.text_cache import TextCache
from services.vectors.store import CollectionSpec, VectorStore

Vector = npt.NDArray[np.float32]

# A sum this much shorter than its weights is made of rounding errors.
_ZERO = 1e-4


@dataclass(frozen=True)
class Embedding:
    """A query's vector, float32 [dimension], length 1."""

    vector: Vector
    truncated: bool  # whether a text had more tokens than the model's context


@dataclass(frozen=True)
class _Resolved:
    """What the parts of several queries stand for."""

    texts: dict[str, Embedded]  # by prompt
    pictures: dict[bytes, Embedded]  # by content
    images: dict[str, Vector]  # by id; those that are there


class Embedder:
    """Turns queries into vectors of a collection's model; owned by the event loop.

    However many queries there are, their texts go to the encoder in one call, their pictures in
    another (more only where the encoder's limits ask for it), their ids to the store in a third.
    Texts of other searches come along in the first one.
    """

    def __init__(
        self, encoder: EncoderClient, store: VectorStore, cache: TextCache, metrics: QueryMetrics
    ) -> None:
        self._encoder = QueryEncoder(encoder, cache, metrics)
        self._store = store

    async def embed(
        self,
        collection: CollectionSpec,
        queries: Sequence[Query],
        options: Options,
        deadline: Deadline,
    ) -> tuple[list[Embedding | GlimpseError], EncoderTiming]:
        """A vector or an error for each query, in order; what the encoder refuses fails alone.

        Raises what the store raises, and DeadlineExceeded.
        """
        timing = EncoderTiming()
        parts = [term.part for query in queries for term in query.terms]
        prompts = list(_prompts(parts, options))
        files = list(dict.fromkeys(p.content for p in parts if isinstance(p, PictureFile)))
        ids = list(dict.fromkeys(p.id for p in parts if isinstance(p, IndexedImage)))
        texts, pictures, images = await _together(
            self._encoder.texts(collection, prompts, timing, deadline),
            self._encoder.pictures(collection, files, timing, deadline),
            self._images(collection, ids, deadline),
        )
        resolved = _Resolved(texts, pictures, images)
        return [_embedding(query, collection, options, resolved) for query in queries], timing

    async def _images(
        self, collection: CollectionSpec, ids: Sequence[str], deadline: Deadline
    ) -> dict[str, Vector]:
        rows = await fetch(self._store, collection.name, ids, ["vector"], deadline)
        return {identity: fields["vector"] for identity, fields in rows.items()}


def _prompts(parts: Iterable[Part], options: Options) -> Iterable[str]:
    """The different prompts; a text too long with its template is left for its query to refuse."""
    seen: dict[str, None] = {}
    for part in parts:
        if isinstance(part, Text):
            try:
                seen[options.prompt(part)] = None
            except InvalidInput:
                continue
    return seen


def _embedding(
    query: Query, collection: CollectionSpec, options: Options, resolved: _Resolved
) -> Embedding | GlimpseError:
    total = np.zeros(collection.dimension)
    truncated = False
    try:
        for term in query.terms:
            vector, cut = _part_vector(term.part, collection, options, resolved)
            total += term.weight * vector
            truncated |= cut
    except GlimpseError as error:
        return error
    length = np.linalg.norm(total)
    if length < _ZERO * sum(abs(term.weight) for term in query.terms):
        return InvalidInput(
            query.field,
            "the terms cancel each other out: nothing is left to look for",
            reason="ZERO_QUERY",
        )
    return Embedding((total / length).astype(np.float32), truncated)


def _part_vector(
    part: Part, collection: CollectionSpec, options: Options, resolved: _Resolved
) -> tuple[Vector, bool]:
    """The part's vector, length 1, and whether its text was cut off; raises what became of it."""
    if isinstance(part, Given):
        return _given_vector(part, collection), False
    if isinstance(part, IndexedImage):
        if part.id not in resolved.images:
            raise NotFound(
                f"{part.field}: no image {part.id!r} in collection {collection.name!r}",
                reason="IMAGE_NOT_FOUND",
            )
        return resolved.images[part.id], False
    if isinstance(part, Text):
        embedded = resolved.texts[options.prompt(part)]
    else:
        embedded = resolved.pictures[part.content]
    if embedded.vector is None:
        raise _in_field(embedded.error, part.field)
    return embedded.vector, embedded.truncated


def _given_vector(part: Given, collection: CollectionSpec) -> Vector:
    if part.vector.size != collection.dimension:
        raise InvalidInput(
            part.field,
            f"has {part.vector.size} values; the vectors of collection {collection.name!r} have "
            f"{collection.dimension}",
        )
    exact = part.vector.astype(np.float64)  # squares of float32 overflow float32
    return (exact / np.linalg.norm(exact)).astype(np.float32)


def _in_field(error: GlimpseError | None, field: str) -> GlimpseError:
    """The encoder's error as our caller sees it: with the field of its own request."""
    if not isinstance(error, InvalidInput):
        return error or GlimpseError("the encoder gave neither a vector nor an error")
    return error.at(field)


async def fetch(
    store: VectorStore, name: str, ids: Sequence[str], fields: Sequence[str], deadline: Deadline
) -> dict[str, dict[str, Any]]:
    """The asked fields by id; ids that are not there are absent.

    Sees everything that was written before the call, and is slow only for ids written just now.
    """
    if not ids:
        return {}
    rows = await store.fetch(name, ids, fields, deadline=deadline, consistency="bounded")
    late = [identity for identity in ids if identity not in rows]
    if late:
        rows |= await store.fetch(name, late, fields, deadline=deadline, consistency="strong")
    return rows


async def _together(*steps: Coroutine[Any, Any, Any]) -> list[Any]:
    """The results of steps that run side by side; the first failure cancels the others."""
    tasks = [asyncio.ensure_future(step) for step in steps]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
