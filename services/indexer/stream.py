"""One stream's images under way: their order, their memory, their end; the stages do the work."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass

from services.common import errors
from services.common.preprocess import Decoded
from services.indexer.batcher import Batcher
from services.indexer.budget import Budget, Held
from services.indexer.checks import check_content, check_uri
from services.indexer.images import (
    Acknowledgement,
    Attributes,
    Image,
    Outcome,
    Picture,
    Pixels,
    Target,
    Vector,
)
from services.indexer.stages import UNCHANGED, Peers, Stages, row
from services.indexer.turns import Turn, Turns
from services.vectors import bounds
from services.vectors.store import Row

# What a row may take at most besides its vector: metadata, uri in UTF-8, and the objects around it.
_ROW_BYTES = bounds.MAX_METADATA_BYTES + 4 * bounds.MAX_URI_CHARACTERS + 4096
# Handing a small picture to a thread takes as long as decoding it.
_MAX_DECODE_BATCH = 8
# A file up to this size is hashed where it stands: a thread would take longer to start on it.
_HASH_INLINE_BYTES = 256 * 1024

log = logging.getLogger(__name__)


@dataclass
class _UnderWay:
    """One image between its admission and its acknowledgement; owned by its task."""

    sequence: int
    content: bytes  # dropped once decoded
    attributes: Attributes
    turn: Turn
    held: Held


class Stream:
    """Takes images as long as its budget allows, and yields acknowledgements.

    The reader task takes images in their order and starts one task for each; the batchers gather
    what these tasks submit. Stop order of close(): reader, images, batchers. All on one event loop.
    """

    def __init__(self, peers: Peers, target: Target) -> None:
        settings, model = peers.settings, target.model
        self._metrics = peers.metrics
        self._settings = settings
        self._force = target.force
        self._stages = Stages(peers, target)
        self._pixels_bytes = model.image_size**2 * 3
        self._row_bytes = 4 * model.dimension + _ROW_BYTES
        self._budget = Budget(settings.max_stream_bytes, peers.metrics.held_bytes)
        self._turns = Turns()
        self._look_ups: Batcher[Attributes, object] = Batcher(
            self._stages.look_up, max_items=settings.max_look_up_rows, max_in_flight=4
        )
        self._decodes: Batcher[bytes, Decoded] = Batcher(
            self._stages.decode,
            max_items=_MAX_DECODE_BATCH,
            max_in_flight=2 * settings.decoders,  # so that no thread waits for the event loop
        )
        fitting = max(1, model.max_message_bytes // 2 // self._pixels_bytes)
        self._encodes: Batcher[Pixels, Vector] = Batcher(
            self._stages.encode,
            max_items=min(settings.max_encode_batch, model.max_images, fitting),
            max_in_flight=settings.max_encode_calls,
        )
        # One write at a time: two of them could take rows of one id in the wrong order.
        self._writes: Batcher[tuple[Turn, Row], None] = Batcher(
            self._write,
            max_items=settings.max_write_rows,
            max_in_flight=1,
            wait_s=settings.write_wait_ms / 1000,
        )
        self._images: set[asyncio.Task[None]] = set()
        self._acknowledgements: asyncio.Queue[tuple[Acknowledgement, Held] | None] = asyncio.Queue()
        self._reader: asyncio.Task[None] | None = None
        self._reading = False
        self._stopping = False
        self._end: BaseException | None = None

    async def run(self, images: AsyncIterator[Image]) -> AsyncGenerator[Acknowledgement, None]:
        """Yields one acknowledgement per image, in any order; see Pipeline.index for its end."""
        self._reader = asyncio.create_task(self._read(images))
        try:
            while (item := await self._acknowledgements.get()) is not None:
                acknowledgement, held = item
                yield acknowledgement
                held.release()
            if self._end is not None:
                raise self._end
        finally:
            await self._close()

    def stop(self) -> None:
        """Takes no more images; what is under way goes on, then run() raises `stopping()`."""
        self._stopping = True
        if self._reading and self._reader is not None:
            self._reader.cancel()

    async def _close(self) -> None:
        tasks = [*([self._reader] if self._reader else []), *self._images]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for batcher in (self._look_ups, self._decodes, self._encodes, self._writes):
            await batcher.close()
        self._budget.release(self._budget.held_bytes)

    async def _read(self, images: AsyncIterator[Image]) -> None:
        self._reading = True
        try:
            if self._stopping:
                raise stopping()
            async for image in images:
                await self._admit(image)
        except asyncio.CancelledError as error:
            # Either stop() asked for it, or close() did, or gRPC did because the caller is gone.
            self._end = stopping() if self._stopping else error
        except Exception as error:
            self._end = error
        self._reading = False
        while self._images:
            self._flush_if_last()
            await asyncio.wait(self._images)
        self._acknowledgements.put_nowait(None)

    async def _admit(self, image: Image) -> None:
        held = Held(
            self._budget, content=len(image.content), pixels=self._pixels_bytes, row=self._row_bytes
        )
        await held.reserve()
        try:
            attributes = await self._checked(image)
        except errors.GlimpseError as error:
            valid_id = image.id if bounds.ID.fullmatch(image.id) else ""
            self._acknowledge(image.sequence, valid_id, Outcome.FAILED, held, error)
            return
        turn = self._turns.enter(attributes.id)
        under_way = _UnderWay(image.sequence, image.content, attributes, turn, held)
        task = asyncio.create_task(self._index(under_way))
        self._images.add(task)
        task.add_done_callback(self._ended)

    async def _checked(self, image: Image) -> Attributes:
        if image.id:
            bounds.check_id(image.id, "image.id")
        check_content(image.content, self._settings.max_file_bytes)
        check_uri(image.uri)
        bounds.check_metadata(image.metadata, "image.metadata")
        if len(image.content) <= _HASH_INLINE_BYTES:
            sha256 = _sha256(image.content)
        else:
            sha256 = await asyncio.to_thread(_sha256, image.content)
        return Attributes(image.id or sha256[:32], sha256, image.uri, image.metadata)

    async def _index(self, image: _UnderWay) -> None:
        outcome, error = Outcome.FAILED, None
        try:
            outcome = await self._pass_stages(image)
        except errors.GlimpseError as foreseen:
            error = foreseen
        except Exception as bug:  # of this image alone: its neighbours go on
            log.exception("image %d failed", image.sequence)
            error = bug
        finally:
            self._turns.leave(image.turn)
        self._acknowledge(image.sequence, image.attributes.id, outcome, image.held, error)

    async def _pass_stages(self, image: _UnderWay) -> Outcome:
        found = None
        if not self._force and not image.turn.follows:
            with self._metrics.stage("look_up"):
                found = await self._look_ups.submit(image.attributes)
        if found is UNCHANGED:
            return Outcome.UNCHANGED
        picture = found if isinstance(found, Picture) else await self._encoded(image)
        image.content = b""
        image.held.release("content", "pixels")
        with self._metrics.stage("write"):
            written = self._writes.submit((image.turn, row(image.attributes, picture)))
            self._flush_if_last()
            await written
        return Outcome.INDEXED

    async def _encoded(self, image: _UnderWay) -> Picture:
        with self._metrics.stage("decode"):
            decoded = await self._decodes.submit(image.content)
        image.content = b""
        image.held.release("content")
        with self._metrics.stage("encode"):
            vector = await self._encodes.submit(decoded.pixels)
        return Picture(vector, decoded.width, decoded.height, decoded.format)

    async def _write(self, batch: list[tuple[Turn, Row]]) -> list[errors.GlimpseError | None]:
        """Writes the latest row of each id; an earlier one shares its successor's fate."""
        latest: dict[str, tuple[Turn, Row]] = {}
        for turn, new_row in sorted(batch, key=lambda item: item[0].number):
            if not self._turns.is_superseded(turn):
                latest[turn.id] = (turn, new_row)
        results = await self._stages.write([new_row for _, new_row in latest.values()])
        failed = {identity: error for identity, error in zip(latest, results, strict=True) if error}
        for turn, _ in latest.values():
            if turn.id not in failed:
                self._turns.wrote(turn)
        return [failed.get(turn.id) for turn, _ in batch]

    def _flush_if_last(self) -> None:
        # Nothing is left that could join these rows, and the sender may be waiting for them.
        if self._images and self._writes.waiting == len(self._images):
            self._writes.flush()

    def _acknowledge(
        self, sequence: int, identity: str, outcome: Outcome, held: Held, error: Exception | None
    ) -> None:
        held.release("content", "pixels")
        acknowledgement = Acknowledgement(sequence, identity, outcome, error)
        # Bounded by the budget: a row's share is given back when the caller takes this.
        self._acknowledgements.put_nowait((acknowledgement, held))

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._images.discard(task)
        self._flush_if_last()


def stopping() -> errors.Unavailable:
    """The end of a stream at a stop of the service."""
    return errors.Unavailable(
        "the indexer is stopping; send what was not acknowledged again", reason="RESUME"
    )


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
