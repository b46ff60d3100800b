"""What a stream asks of store, encoder and decode workers; in which order is Stream's job."""

from __future__ import annotations

import json
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from glimpse import errors
from glimpse.pictures.preprocess import Decoded
from glimpse.pictures.preprocessing import Preprocessing
from services.common import encoder_client
from services.common.deadline import Deadline
from services.common.threads import SideThread
from services.indexer import row_writes
from services.indexer.metrics import IndexerMetrics
from services.indexer.records import (
    Attributes,
    EncodedPicture,
    FoundImage,
    Pixels,
    Target,
    Vector,
)
from services.indexer.retry_budget import TRANSIENT, RetryBudget
from services.indexer.serving import check_serving
from services.indexer.settings import IndexerSettings
from services.vectors.generation_names import parts_of
from services.vectors.records import Row
from services.vectors.store import VectorStore


class PictureEncoder(Protocol):
    """What streams need of services.common.encoders.Encoders."""

    async def encode_pixels(
        self, fingerprint: str, pixels: Sequence[Pixels], deadline: Deadline, interactive: bool
    ) -> encoder_client.EncodedBatch: ...


class PictureDecoder(Protocol):
    """What streams need of services.common.decode_workers.DecodeWorkers."""

    async def decode(
        self, content: bytes, preprocessing: Preprocessing, caller: Hashable
    ) -> Decoded: ...


@dataclass(frozen=True)
class Peers:
    """What all streams of the process share."""

    store: VectorStore
    encoder: PictureEncoder
    decoder: PictureDecoder
    settings: IndexerSettings
    metrics: IndexerMetrics
    aside: SideThread


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

    async def look_up(self, images: list[Attributes]) -> list[FoundImage]:
        """What the collection has of each image. Raises Superseded as write() does, as what is
        unchanged is acknowledged."""
        # Strong reads: a row that was replaced a moment ago must not pass for unchanged.
        fields = ("content_sha256", "uri", "metadata", "indexed_at_ms")
        rows = await self._fetch({image.id for image in images}, fields)
        copies = {image.copy_id for image in images if _may_be_copy(rows.get(image.id), image)}
        if copies:
            rows |= await self._fetch(copies, fields)
        ids = [_own_id(rows, image) for image in images]
        # Aside: the metadata of a whole batch may be some megabytes of JSON.
        unchanged = await self._peers.aside.run(_are_unchanged, rows, images, ids)
        # Where an image has no row yet, another of its content has the picture.
        sources = [own if own in rows else image.id for own, image in zip(ids, images, strict=True)]
        if any(unchanged) and not self._target.carries:
            await self._check_serving()
        changed = {source for source, same in zip(sources, unchanged, strict=True) if not same}
        pictures = await self._pictures(changed & rows.keys())
        return [
            FoundImage(own, same, None if same else _picture_of(image, pictures.get(source)))
            for image, own, same, source in zip(images, ids, unchanged, sources, strict=True)
        ]

    async def decode(self, content: bytes) -> Decoded:
        """The pixels of a picture file; the streams of the process take turns."""
        preprocessing = self._target.model.preprocessing
        return await self._peers.decoder.decode(content, preprocessing, caller=self)

    async def encode(self, pixels: list[Pixels]) -> list[Vector | errors.GlimpseError]:
        """The vector of each image."""
        return await self._encoder.call(lambda: self._encode_once(pixels))

    async def write(self, rows: list[Row]) -> list[errors.GlimpseError | None]:
        """Upserts rows of distinct ids; None for each one that the store has taken.

        Raises Superseded, whatever was written, if another generation than the target's serves by
        then, see check_serving. Rows that are carried over raise FailedPrecondition where theirs
        serves.
        """
        if self._target.carries:
            return await self._write_newer(rows)
        results = await self._write(rows)
        if rows:
            await self._check_serving()
        return results

    async def _check_serving(self) -> None:
        store, target, timeout_s = self._peers.store, self._target, self._settings.milvus_timeout_s
        if target.address:
            name, address = target.collection, target.address
            await check_serving(store, name, address, self._milvus, timeout_s)

    async def _write_newer(self, rows: list[Row]) -> list[errors.GlimpseError | None]:
        """Writes those that the target still has nothing as new of.

        Only while it does not serve: it would not be noticed if one came upon what a caller has
        written, or deleted, in between.
        """
        store, target, timeout_s = self._peers.store, self._target, self._settings.milvus_timeout_s
        name = parts_of(target.collection)[0]
        serving = await self._milvus.call(
            lambda: store.get_spec(name, deadline=Deadline(timeout_s))
        )
        if serving.address == target.address:
            raise errors.FailedPrecondition(
                f"generation {serving.generation} serves collection {name!r}: nothing is carried "
                "over to it",
                reason="GENERATION_SERVES",
            )
        there = await self._fetch({each.id for each in rows}, ("indexed_at_ms",))
        newer = [each for each in rows if not _is_as_new(there.get(each.id), each.indexed_at_ms)]
        failed = dict(zip((each.id for each in newer), await self._write(newer), strict=True))
        return [failed.get(each.id) for each in rows]

    async def _write(self, rows: list[Row]) -> list[errors.GlimpseError | None]:
        if not rows:
            return []
        try:
            await self._milvus.call(lambda: self._upsert_once(rows))
        except errors.InvalidInput as error:
            # The store refuses a whole write for one row; look for it, so that it fails alone.
            if len(rows) == 1:
                return [errors.as_value(error)]
            middle = len(rows) // 2
            return [*await self._write(rows[:middle]), *await self._write(rows[middle:])]
        return [None] * len(rows)

    async def _encode_once(self, pixels: list[Pixels]) -> list[Vector | errors.GlimpseError]:
        model = self._target.model
        with self._peers.metrics.encoder_latency_s.time():
            batch = await self._peers.encoder.encode_pixels(
                model.fingerprint,
                pixels,
                Deadline(self._settings.encoder_timeout_s),
                self._target.is_interactive,
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
        peers = self._peers
        await row_writes.upsert(
            peers.store, self._target.place, rows, self._settings, peers.metrics
        )

    async def _pictures(self, ids: set[str]) -> dict[str, dict[str, Any]]:
        """What is to be copied of rows, read again: another stream may have replaced them."""
        fields = ("content_sha256", "vector", "width", "height", "format")
        return await self._fetch(ids, fields) if ids else {}

    async def _fetch(self, ids: set[str], fields: Sequence[str]) -> dict[str, dict[str, Any]]:
        async def once() -> dict[str, dict[str, Any]]:
            with self._peers.metrics.store_latency_s.labels("fetch").time():
                return await self._peers.store.fetch(
                    self._target.place,
                    ids,
                    fields,
                    deadline=Deadline(self._settings.milvus_timeout_s),
                )

        return await self._milvus.call(once)


def row(attributes: Attributes, picture: EncodedPicture) -> Row:
    """The row to write; without a time, unless it is carried over."""
    return Row(
        id=attributes.id,
        vector=picture.vector,
        uri=attributes.uri,
        content_sha256=attributes.content_sha256,
        width=picture.width,
        height=picture.height,
        format=picture.format,
        indexed_at_ms=attributes.indexed_at_ms,
        metadata=attributes.metadata,
    )


def _has_content(row: dict[str, Any] | None, image: Attributes) -> bool:
    return row is not None and row["content_sha256"] == image.content_sha256


def _may_be_copy(row: dict[str, Any] | None, image: Attributes) -> bool:
    """Whether an image that may have a row of its own is not the one of the content's row."""
    return bool(image.copy_id) and not (row is not None and row["uri"] == image.uri)


def _own_id(rows: Mapping[str, dict[str, Any]], image: Attributes) -> str:
    """The id of the image's row: that of its content, unless that is another uri's."""
    first = rows.get(image.id)
    if not _may_be_copy(first, image):
        return image.id
    return image.copy_id if image.copy_id in rows or _has_content(first, image) else image.id


def _are_unchanged(
    rows: Mapping[str, dict[str, Any]], images: Sequence[Attributes], ids: Sequence[str]
) -> list[bool]:
    """Whether the rows are just as the images are, or as new as what is carried over."""
    return [
        _is_as_new(rows.get(own), image.indexed_at_ms)
        if image.indexed_at_ms
        else _has_content(rows.get(own), image) and _has_attributes(rows[own], image)
        for own, image in zip(ids, images, strict=True)
    ]


def _is_as_new(row: dict[str, Any] | None, indexed_at_ms: int) -> bool:
    return row is not None and row["indexed_at_ms"] >= indexed_at_ms


def _picture_of(image: Attributes, row: dict[str, Any] | None) -> EncodedPicture | None:
    """What is to be copied of a row, if it has the image's content."""
    if row is None or not _has_content(row, image):
        return None
    vector = np.asarray(row["vector"], dtype=np.float32)
    return EncodedPicture(vector, row["width"], row["height"], row["format"])


def _has_attributes(row: dict[str, Any], image: Attributes) -> bool:
    if row["uri"] != image.uri:
        return False
    # As text, because True equals 1 in Python and must not here.
    values = (row["metadata"], image.metadata.value)
    there, given = (json.dumps(each, sort_keys=True) for each in values)
    return there == given
