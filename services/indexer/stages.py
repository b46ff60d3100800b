"""What a stream asks of store, encoder and decode workers; in which order is Stream's job."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np

from glimpse import errors
from services.common import encoder_client
from services.common.deadline import Deadline
from services.common.preprocess import Decoded
from services.indexer.metrics import IndexerMetrics
from services.indexer.records import Attributes, EncodedPicture, Pixels, Target, Vector
from services.indexer.retry_budget import TRANSIENT, RetryBudget
from services.indexer.settings import IndexerSettings
from services.vectors.records import Row
from services.vectors.store import VectorStore

UNCHANGED: Literal["unchanged"] = "unchanged"


class Encoder(Protocol):
    """What the indexer needs of services.common.encoder_client.EncoderClient."""

    async def model(self, deadline: Deadline) -> encoder_client.EncoderModel: ...

    async def encode_pixels(
        self, pixels: Sequence[Pixels], deadline: Deadline
    ) -> encoder_client.EncodedBatch: ...


class PictureDecoder(Protocol):
    """What the indexer needs of services.common.decode_workers.DecodeWorkers."""

    async def decode(self, content: bytes, image_size: int, caller: Hashable) -> Decoded: ...


@dataclass(frozen=True)
class Peers:
    """What all streams of the process share."""

    store: VectorStore
    encoder: Encoder
    decoder: PictureDecoder
    settings: IndexerSettings
    metrics: IndexerMetrics


class Stages:
    """The stages' work for one stream, batch by batch; waits for a peer that is away, see
    RetryBudget.

    Every method raises domain errors; one that concerns a single item of a batch stands in the
    item's place instead.
    """

    def __init__(self, peers: Peers, target: Target) -> None:
        self._peers = peers
        self._target = target
        self._settings = peers.settings
        budget_s = min(peers.settings.retry_budget_s, target.max_wait_s)
        self._milvus = RetryBudget("Milvus", budget_s)
        self._encoder = RetryBudget("the encoder", budget_s)

    async def look_up(
        self, images: list[Attributes]
    ) -> list[Literal["unchanged"] | EncodedPicture | None]:
        """What the collection has of each image.

        UNCHANGED; or the picture, when the same content is there under other attributes; or None,
        when the content is new under its id.
        """
        # Strong reads: a row that was replaced a moment ago must not pass for unchanged.
        rows = await self._fetch(images, ("content_sha256", "uri", "metadata"))
        kept = [image for image in images if _has_content(rows.get(image.id), image)]
        # On a thread: the metadata of a whole batch may be some megabytes of JSON.
        changed = await asyncio.to_thread(_changed, rows, kept) if kept else []
        pictures = await self._pictures(changed) if changed else {}
        found: dict[str, Literal["unchanged"] | EncodedPicture | None] = {
            **{image.id: UNCHANGED for image in kept},
            **{image.id: pictures.get(image.id) for image in changed},
        }
        return [found.get(image.id) for image in images]

    async def decode(self, content: bytes) -> Decoded:
        """The pixels of a picture file; the streams of the process take turns."""
        image_size = self._target.model.image_size
        return await self._peers.decoder.decode(content, image_size, caller=self)

    async def encode(self, pixels: list[Pixels]) -> list[Vector | errors.GlimpseError]:
        """The vector of each image."""
        return await self._encoder.call(lambda: self._encode_once(pixels))

    async def write(self, rows: list[Row]) -> list[errors.GlimpseError | None]:
        """Upserts rows of distinct ids; None for each one that the store has taken."""
        if not rows:
            return []
        try:
            await self._milvus.call(lambda: self._upsert_once(rows))
        except errors.InvalidInput as error:
            # The store refuses a whole write for one row; look for it, so that it fails alone.
            if len(rows) == 1:
                return [error]
            middle = len(rows) // 2
            return [*await self.write(rows[:middle]), *await self.write(rows[middle:])]
        return [None] * len(rows)

    async def _encode_once(self, pixels: list[Pixels]) -> list[Vector | errors.GlimpseError]:
        model = self._target.model
        with self._peers.metrics.encoder_latency_s.time():
            batch = await self._peers.encoder.encode_pixels(
                pixels, Deadline(self._settings.encoder_timeout_s)
            )
        if batch.model_fingerprint != model.fingerprint:
            raise errors.ModelMismatch(
                f"the encoder now runs another model (fingerprint {batch.model_fingerprint}) than "
                f"the collection {self._target.collection!r} was filled by: {model.name} "
                f"({model.fingerprint})"
            )
        vectors: list[Vector | errors.GlimpseError] = []
        for item in batch.items:
            if isinstance(item.error, TRANSIENT):
                raise item.error
            vectors.append(item.error if item.vector is None else item.vector)  # type: ignore[arg-type]
        return vectors

    async def _upsert_once(self, rows: list[Row]) -> None:
        with self._peers.metrics.store_latency_s.labels("upsert").time():
            await self._peers.store.upsert(
                self._target.collection, rows, deadline=Deadline(self._settings.milvus_timeout_s)
            )

    async def _pictures(self, images: list[Attributes]) -> dict[str, EncodedPicture]:
        fields = ("content_sha256", "vector", "width", "height", "format")
        rows = await self._fetch(images, fields)
        return {
            image.id: EncodedPicture(
                np.asarray(rows[image.id]["vector"], dtype=np.float32),
                rows[image.id]["width"],
                rows[image.id]["height"],
                rows[image.id]["format"],
            )
            for image in images
            # Looked at again: another stream may have replaced the row in between.
            if _has_content(rows.get(image.id), image)
        }

    async def _fetch(
        self, images: list[Attributes], fields: Sequence[str]
    ) -> dict[str, dict[str, Any]]:
        async def once() -> dict[str, dict[str, Any]]:
            with self._peers.metrics.store_latency_s.labels("fetch").time():
                return await self._peers.store.fetch(
                    self._target.collection,
                    [image.id for image in images],
                    fields,
                    deadline=Deadline(self._settings.milvus_timeout_s),
                )

        return await self._milvus.call(once)


def row(attributes: Attributes, picture: EncodedPicture) -> Row:
    """The row to write, as of now."""
    return Row(
        id=attributes.id,
        vector=picture.vector,
        uri=attributes.uri,
        content_sha256=attributes.content_sha256,
        width=picture.width,
        height=picture.height,
        format=picture.format,
        indexed_at_ms=time.time_ns() // 1_000_000,
        metadata=attributes.metadata,
    )


def _has_content(row: dict[str, Any] | None, image: Attributes) -> bool:
    return row is not None and row["content_sha256"] == image.content_sha256


def _changed(rows: Mapping[str, dict[str, Any]], images: list[Attributes]) -> list[Attributes]:
    return [image for image in images if not _has_attributes(rows[image.id], image)]


def _has_attributes(row: dict[str, Any], image: Attributes) -> bool:
    if row["uri"] != image.uri:
        return False
    # As text, because True equals 1 in Python and must not here.
    there, given = (json.dumps(each, sort_keys=True) for each in (row["metadata"], image.metadata))
    return there == given
