"""Queries become unit vectors: by cache, encoder, store."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from operator import attrgetter
from typing import Any, NamedTuple, TypeVar

from glimpse.errors import GlimpseError, InvalidInput, ModelMismatch, NotFound, as_value
from glimpse.pictures.preprocessing import told_difference
from services.common.deadline import Deadline
from services.common.encoder_client import Embedded, EncodedBatch, EncoderModel
from services.common.encoders import Encoders
from services.common.event_loop import paced
from services.common.tasks import concurrently
from services.query.metrics import QueryMetrics, SearchTiming
from services.query.queries import (
    Given,
    IndexedImage,
    Options,
    PictureFile,
    Query,
    Text,
    Vector,
)
from services.query.request_coalescer import RequestCoalescer
from services.vectors.records import DECLARED, CollectionSpec
from services.vectors.store import VectorStore, find_rows

Item = TypeVar("Item", str, bytes)

# Before a text that its caller has put into a template, where texts are kept; no text contains it.
_AS_IT_IS = "\0"
# Texts in a call that searches share, and such calls at once; decision 0026 says why so many.
_MAX_SHARED_TEXTS = 32
_MAX_TEXT_CALLS = 2
# Of a call's texts or files together; a longer file goes alone. gRPC copies it on the event loop.
_MAX_CALL_LENGTH = 8 * 2**20


class TextCache:
    """The `max_texts` texts that were used last, each under its model; owned by the event loop.

    Texts are known by their SHA-256: so a long one takes no more memory than a short one.
    """

    def __init__(self, max_texts: int) -> None:
        self._max_texts = max_texts
        self._embedded: OrderedDict[bytes, Embedded] = OrderedDict()

    def get(self, text: str, fingerprint: str) -> Embedded | None:
        """The text's vector under that model, if it is here."""
        key = _sha256(fingerprint, text)
        if key not in self._embedded:
            return None
        self._embedded.move_to_end(key)
        return self._embedded[key]

    def put(self, text: str, embedded: Embedded, fingerprint: str) -> None:
        """Keeps a text's vector under that model."""
        key = _sha256(fingerprint, text)
        self._embedded[key] = embedded
        self._embedded.move_to_end(key)
        while len(self._embedded) > self._max_texts:
            self._embedded.popitem(last=False)


class _Encoded(NamedTuple):
    """What became of an item, and the call that it was encoded in; None for one that failed."""

    outcome: Embedded
    batch: EncodedBatch | None


class Embedder:
    """Turns queries into vectors of a collection's model; owned by the event loop.

    However many queries there are, their texts go to the encoder in one call, their pictures in
    another (more only where the encoder's limits ask for it), their ids to the store in a third.
    Texts of other searches come along in the first one.
    """

    def __init__(
        self, encoders: Encoders, store: VectorStore, cache: TextCache, metrics: QueryMetrics
    ) -> None:
        self._encoders = encoders
        self._store = store
        self._cache = cache
        self._metrics = metrics
        self._models: dict[str, EncoderModel] = {}  # by the fingerprint that was asked for
        self._text_calls = RequestCoalescer(
            self._encode_texts, lambda _: _MAX_SHARED_TEXTS, _MAX_TEXT_CALLS
        )

    async def embed(
        self,
        collection: CollectionSpec,
        queries: Sequence[Query],
        options: Options,
        timing: SearchTiming,
        deadline: Deadline,
    ) -> list[Embedded]:
        """What became of each query, in order; what the encoder refuses fails alone.

        `timing` learns what the encoder says. Raises what the store raises, and DeadlineExceeded.
        """
        # All that follows goes by the part's place in this list.
        parts = list(enumerate(term.part for query in queries for term in query.terms))
        texts = [(at, part) for at, part in parts if isinstance(part, Text)]
        prompts = {at: options.prompt(part) async for at, part in paced(texts)}
        files = {at: part.content for at, part in parts if isinstance(part, PictureFile)}
        images = {at: part for at, part in parts if isinstance(part, IndexedImage)}
        given = [(at, part) for at, part in parts if isinstance(part, Given)]
        found = {at: _given(part, collection) async for at, part in paced(given)}
        for some in await concurrently(
            self._texts(collection, prompts, options.prompt_template, timing, deadline),
            self._pictures(collection, files, timing, deadline),
            self._images(collection, images, deadline),
        ):
            found |= some
        outcomes = (found[at] for at, _ in parts)
        return [
            _sum(query, [next(outcomes) for _ in query.terms]) async for query in paced(queries)
        ]

    async def _texts(
        self,
        collection: CollectionSpec,
        prompts: dict[int, str],
        template: str,
        timing: SearchTiming,
        deadline: Deadline,
    ) -> dict[int, Embedded]:
        """What became of each text: as it is in the caller's template, or else in the model's."""
        mark = _AS_IT_IS if template else ""
        found: dict[str, Embedded] = {}
        new: dict[str, None] = {}
        async for prompt in paced(prompts.values()):
            if prompt in found or prompt in new:
                continue
            known = self._cache.get(mark + prompt, collection.model_fingerprint)
            if known is None:
                new[prompt] = None
            else:
                found[prompt] = replace(known, prompt_template=template) if template else known
        self._metrics.texts.labels("cache").inc(len(found))
        self._metrics.texts.labels("encoder").inc(len(new))
        if new:
            key = collection.model_fingerprint, bool(template)
            share = await self._text_calls.ask(key, list(new), deadline)
            answers, waited_s = share.answers, share.waited_s
            outcomes = await self._checked(collection, answers, timing, waited_s, deadline)
            async for prompt, embedded in paced(zip(new, outcomes, strict=True)):
                found[prompt] = (
                    replace(embedded, prompt_template=template) if template else embedded
                )
                if embedded.vector is not None:
                    self._cache.put(mark + prompt, embedded, collection.model_fingerprint)
        return {at: found[prompt] for at, prompt in prompts.items()}

    async def _encode_texts(
        self, key: tuple[str, bool], texts: Sequence[str], deadline: Deadline
    ) -> list[_Encoded]:
        fingerprint, as_they_are = key
        unique = list(dict.fromkeys(texts))  # several may ask for what is new to all of them
        encode = partial(self._encoders.encode_texts, fingerprint, as_they_are=as_they_are)
        limit = attrgetter("max_texts")
        encoded = await self._encode(fingerprint, unique, encode, limit, deadline)
        by_text = dict(zip(unique, encoded, strict=True))
        return [by_text[text] for text in texts]

    async def _pictures(
        self,
        collection: CollectionSpec,
        files: dict[int, bytes],
        timing: SearchTiming,
        deadline: Deadline,
    ) -> dict[int, Embedded]:
        """What became of each picture file."""
        contents, fingerprint = list(files.values()), collection.model_fingerprint
        encode, limit = partial(self._encoders.encode_files, fingerprint), attrgetter("max_images")
        encoded = await self._encode(fingerprint, contents, encode, limit, deadline)
        outcomes = await self._checked(collection, encoded, timing, 0.0, deadline)
        return dict(zip(files, outcomes, strict=True))

    async def _images(
        self, collection: CollectionSpec, parts: dict[int, IndexedImage], deadline: Deadline
    ) -> dict[int, Embedded]:
        """The vectors of images of the collection."""
        ids = list(dict.fromkeys(part.id for part in parts.values()))
        rows = await find_rows(self._store, collection.address, ids, ["vector"], deadline)
        return {at: _indexed(part, rows.get(part.id), collection) for at, part in parts.items()}

    async def _encode(
        self,
        fingerprint: str,
        items: Sequence[Item],
        encode: Callable[[Sequence[Item], Deadline], Awaitable[EncodedBatch]],
        max_items: Callable[[EncoderModel], int],
        deadline: Deadline,
    ) -> list[_Encoded]:
        """What became of each item; a call that fails is the outcome of all its items."""
        encoded: list[_Encoded] = []
        try:
            size = len(items)
            if size > 1:
                size = max_items(await self._model(fingerprint, deadline)) or size
            for some in _calls(items, size):
                batch = await encode(some, deadline)
                encoded += [_Encoded(outcome, batch) for outcome in batch.items]
        except GlimpseError as error:
            self._models.pop(fingerprint, None)  # the encoder that comes back may be another one
            failed = _Encoded(Embedded(None, as_value(error)), None)
            encoded += [failed] * (len(items) - len(encoded))
        return encoded

    async def _checked(
        self,
        collection: CollectionSpec,
        encoded: Sequence[_Encoded],
        timing: SearchTiming,
        waited_s: float,
        deadline: Deadline,
    ) -> list[Embedded]:
        """The outcomes; those of another model than the collection's are errors."""
        mismatches: dict[str, Embedded] = {}  # by the model's fingerprint
        for batch in {id(each.batch): each.batch for each in encoded if each.batch}.values():
            timing.add_encoding(batch.queue_us + int(waited_s * 1e6), batch.encode_us)
            fingerprint = batch.model_fingerprint
            if fingerprint not in (collection.model_fingerprint, *mismatches):
                error = await self._mismatch(collection, fingerprint, deadline)
                mismatches[fingerprint] = Embedded(None, as_value(error))
        return [
            mismatches.get(batch.model_fingerprint, outcome) if batch else outcome
            for outcome, batch in encoded
        ]

    async def model_of(self, collection: CollectionSpec, deadline: Deadline) -> EncoderModel:
        """The collection's model, as an encoder that runs it tells now; raises ModelMismatch where
        none does, and what the encoders' clients raise."""
        wanted = collection.model_fingerprint
        model = self._models[wanted] = await self._encoders.model(wanted, deadline)
        if model.fingerprint != wanted:
            raise await self._mismatch(collection, model.fingerprint, deadline)
        return model

    async def _model(self, fingerprint: str, deadline: Deadline) -> EncoderModel:
        """The model and limits of the encoder that is asked for this one, learnt once."""
        if fingerprint not in self._models:
            self._models[fingerprint] = await self._encoders.model(
                fingerprint, deadline, explained=False
            )
        return self._models[fingerprint]

    async def _mismatch(
        self, collection: CollectionSpec, fingerprint: str, deadline: Deadline
    ) -> ModelMismatch:
        """The error that says which two models meet."""
        if collection.model_fingerprint.startswith(DECLARED):
            return ModelMismatch(
                f"collection {collection.name!r} holds imported vectors, of model "
                f"{collection.model_name!r} as was declared; nobody knows whether the encoder's "
                "are of the same: search it by image_id or vector, or import them with the "
                "fingerprint of the encoder that made them",
                metadata={
                    "collection_model": collection.model_name,
                    "collection_fingerprint": collection.model_fingerprint,
                    "encoder_fingerprint": fingerprint,
                },
            )
        wanted, name = collection.model_fingerprint, "another model"
        self._models.pop(wanted, None)
        try:
            model = await self._model(wanted, deadline)
            if model.fingerprint == fingerprint:
                name = model.name
        except GlimpseError:
            pass  # its name is all that was asked for
        return ModelMismatch(
            f"collection {collection.name!r} was filled by model {collection.model_name} "
            f"({collection.model_fingerprint[:12]}), the encoder runs {name} ({fingerprint[:12]})"
            f"{told_difference(collection.model_fingerprint, fingerprint)}",
            metadata={
                "collection_model": collection.model_name,
                "collection_fingerprint": collection.model_fingerprint,
                "encoder_model": name,
                "encoder_fingerprint": fingerprint,
            },
        )


def _calls(items: Sequence[Item], max_items: int) -> Iterator[Sequence[Item]]:
    """The items that go out together: few enough that sending them holds up nobody."""
    start, length = 0, 0
    for end, item in enumerate(items):
        is_full = end - start == max_items or length + len(item) > _MAX_CALL_LENGTH
        if is_full and end > start:
            yield items[start:end]
            start, length = end, 0
        length += len(item)
    if start < len(items):
        yield items[start:]


def _given(part: Given, collection: CollectionSpec) -> Embedded:
    try:
        return Embedded(part.unit_vector(collection.dimension), None)
    except InvalidInput as error:
        return Embedded(None, as_value(error))


def _indexed(part: IndexedImage, row: dict[str, Any] | None, spec: CollectionSpec) -> Embedded:
    if row is not None:
        return Embedded(row["vector"], None)
    message = f"{part.field}: no image {part.id!r} in collection {spec.name!r}"
    return Embedded(None, NotFound(message, reason="IMAGE_NOT_FOUND"))


def _sum(query: Query, outcomes: Sequence[Embedded]) -> Embedded:
    """The query's vector, float32 [dimension], length 1, or why there is none."""
    vectors: list[Vector] = []
    for term, outcome in zip(query.terms, outcomes, strict=True):
        if isinstance(outcome.error, InvalidInput):  # which names the field in our own request
            return Embedded(None, outcome.error.at(term.part.field))
        if outcome.vector is None:
            return outcome
        vectors.append(outcome.vector)
    try:
        truncated = any(each.truncated for each in outcomes)
        templates = [each.prompt_template for each in outcomes if each.prompt_template]
        return Embedded(query.sum(vectors), None, truncated, "".join(templates[:1]))
    except InvalidInput as error:
        return Embedded(None, as_value(error))


def _sha256(fingerprint: str, text: str) -> bytes:
    digest = hashlib.sha256(fingerprint.encode() + b"\0")
    digest.update(text.encode())
    return digest.digest()
