"""Texts and pictures become vectors: by cache, or by the encoder, in few calls; what they are
parts of is not its job.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from glimpse.errors import GlimpseError, ModelMismatch
from services.common.deadline import Deadline
from services.common.encoder_client import Embedded, EncodedBatch, EncoderClient, EncoderModel
from services.query.metrics import QueryMetrics
from services.query.request_coalescer import RequestCoalescer
from services.query.text_cache import TextCache
from services.vectors.store import CollectionSpec

Item = TypeVar("Item", str, bytes)

# Texts that share a call to the encoder, and such calls at once; decision 0026 says why so many.
_MAX_SHARED_TEXTS = 32
_MAX_TEXT_CALLS = 2


@dataclass
class EncoderTiming:
    """Where the encoder spent its time, in microseconds; calls that ran side by side count once.

    The wait for a call to go out counts as the encoder's queue.
    """

    calls: int = 0
    queue_us: int = 0
    encode_us: int = 0

    def add(self, batch: EncodedBatch, waited_s: float = 0.0) -> None:
        self.calls += 1
        self.queue_us = max(self.queue_us, batch.queue_us + int(waited_s * 1e6))
        self.encode_us = max(self.encode_us, batch.encode_us)


@dataclass(frozen=True)
class _Outcome:
    """What became of an item, and the call that it was encoded in; None for one that failed."""

    embedded: Embedded
    batch: EncodedBatch | None


class QueryEncoder:
    """Owned by the event loop. What fails, fails as the outcome of the items that it was for.

    Texts that concurrent searches ask for share calls; those of one search go together in any case.
    """

    def __init__(self, encoder: EncoderClient, cache: TextCache, metrics: QueryMetrics) -> None:
        self._encoder = encoder
        self._cache = cache
        self._metrics = metrics
        self._model: EncoderModel | None = None
        self._text_calls = RequestCoalescer(
            self._encode_texts, lambda _: _MAX_SHARED_TEXTS, _MAX_TEXT_CALLS
        )

    async def texts(
        self,
        collection: CollectionSpec,
        prompts: Sequence[str],
        timing: EncoderTiming,
        deadline: Deadline,
    ) -> dict[str, Embedded]:
        """What became of each text; `timing` learns what the encoder says.

        Raises DeadlineExceeded.
        """
        fingerprint = collection.model_fingerprint
        known = {prompt: self._cache.get(prompt, fingerprint) for prompt in prompts}
        found = {prompt: embedded for prompt, embedded in known.items() if embedded is not None}
        new = [prompt for prompt in prompts if prompt not in found]
        self._metrics.texts.labels("cache").inc(len(found))
        self._metrics.texts.labels("encoder").inc(len(new))
        if new:
            share = await self._text_calls.ask(None, new, deadline)
            encoded = await self._checked(
                collection, share.answers, timing, share.waited_s, deadline
            )
            for prompt, embedded in zip(new, encoded, strict=True):
                found[prompt] = embedded
                if embedded.vector is not None:
                    self._cache.put(prompt, embedded, fingerprint)
        return found

    async def _encode_texts(
        self, _: None, texts: Sequence[str], deadline: Deadline
    ) -> list[_Outcome]:
        unique = list(dict.fromkeys(texts))  # several may ask for what is new to all of them
        outcomes = await self._encode(
            unique, self._encoder.encode_texts, lambda model: model.max_texts, deadline
        )
        by_text = dict(zip(unique, outcomes, strict=True))
        return [by_text[text] for text in texts]

    async def pictures(
        self,
        collection: CollectionSpec,
        files: Sequence[bytes],
        timing: EncoderTiming,
        deadline: Deadline,
    ) -> dict[bytes, Embedded]:
        """What became of each picture file; `timing` learns what the encoder says."""
        outcomes = await self._encode(
            files, self._encoder.encode_files, lambda model: model.max_images, deadline
        )
        embedded = await self._checked(collection, outcomes, timing, 0.0, deadline)
        return dict(zip(files, embedded, strict=True))

    async def _encode(
        self,
        items: Sequence[Item],
        encode: Callable[[Sequence[Item], Deadline], Awaitable[EncodedBatch]],
        max_items: Callable[[EncoderModel], int],
        deadline: Deadline,
    ) -> list[_Outcome]:
        """What became of each item; a call that fails is the outcome of all its items."""
        outcomes: list[_Outcome] = []
        try:
            size = len(items)
            if size > 1:
                size = max_items(await self._current_model(deadline)) or size
            for start in range(0, len(items), size or 1):
                batch = await encode(items[start : start + size], deadline)
                outcomes += [_Outcome(embedded, batch) for embedded in batch.items]
        except GlimpseError as error:
            self._model = None  # the encoder that comes back may be another one
            failed = _Outcome(Embedded(None, error), None)
            outcomes += [failed] * (len(items) - len(outcomes))
        return outcomes

    async def _checked(
        self,
        collection: CollectionSpec,
        outcomes: Sequence[_Outcome],
        timing: EncoderTiming,
        waited_s: float,
        deadline: Deadline,
    ) -> list[Embedded]:
        """The outcomes; those of another model than the collection's are errors."""
        mismatches: dict[str, GlimpseError] = {}  # by the model's fingerprint
        for batch in {id(each.batch): each.batch for each in outcomes if each.batch}.values():
            timing.add(batch, waited_s)
            fingerprint = batch.model_fingerprint
            if fingerprint not in (collection.model_fingerprint, *mismatches):
                mismatches[fingerprint] = await self._mismatch(collection, fingerprint, deadline)
        checked: list[Embedded] = []
        for each in outcomes:
            mismatch = mismatches.get(each.batch.model_fingerprint) if each.batch else None
            checked.append(Embedded(None, mismatch) if mismatch else each.embedded)
        return checked

    async def _current_model(self, deadline: Deadline) -> EncoderModel:
        """The encoder's model and limits, asked for once."""
        if self._model is None:
            self._model = await self._encoder.model(deadline)
        return self._model

    async def _mismatch(
        self, collection: CollectionSpec, fingerprint: str, deadline: Deadline
    ) -> ModelMismatch:
        self._model = None
        try:
            model = await self._current_model(deadline)
            name = model.name if model.fingerprint == fingerprint else "another model"
        except GlimpseError:
            name = "another model"
        return model_mismatch(collection, name, fingerprint)


def model_mismatch(collection: CollectionSpec, name: str, fingerprint: str) -> ModelMismatch:
    """The error that says which two models meet."""
    return ModelMismatch(
        f"collection {collection.name!r} was filled by model {collection.model_name} "
        f"({collection.model_fingerprint[:12]}), the encoder runs {name} ({fingerprint[:12]})",
        metadata={
            "collection_model": collection.model_name,
            "collection_fingerprint": collection.model_fingerprint,
            "encoder_model": name,
            "encoder_fingerprint": fingerprint,
        },
    )
