"""One stream's images under way: their order, their memory, their end; the stages do the work."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass
from typing import Any

from glimpse import errors
from glimpse.pictures.preprocess import Decoded
from glimpse.results import Outcome
from services.indexer.bounds import check_content, check_indexed_at, check_uri
from services.indexer.byte_budget import ByteBudget
from services.indexer.copies import Copies
from services.indexer.records import (
    Attributes,
    EncodedPicture,
    FoundImage,
    Image,
    ImageResult,
    Pixels,
    Target,
    Vector,
)
from services.indexer.serving import Superseded
from services.indexer.stage_batcher import StageBatcher
from services.indexer.stages import Peers, Stages, row
from services.indexer.write_order import WriteOrder, WriteTurn
from services.vectors import bounds
from services.vectors.records import Row

# What an image takes besides its file, pixels, vector, uri and metadata: the objects around them.
_OBJECTS_BYTES = 4096
# A Milvus server answers a strong read at its next tick, up to 0.2 s later, whatever is asked: many
# reads wait for it at once, and each gathers images for a moment first.
_MAX_LOOK_UPS = 24
_LOOK_UP_WAIT_S = 0.05
# Pictures are decoded this many batches ahead of the encoder.
_BATCHES_AHEAD = 2
# A file up to this size is hashed where it stands: a thread would take longer to start on it.
_HASH_INLINE_BYTES = 256 * 1024

log = logging.getLogger(__name__)


@dataclass
class _UnderWay:
    """One image between its admission and its acknowledgement; owned by its task."""

    sequence: int
    content: bytes  # dropped once decoded
    attributes: Attributes
    turn: WriteTurn
    row_bytes: int


class Stream:
    """Takes images as long as its budget allows, and yields acknowledgements.

    The reader task takes images in their order and starts one task for each; the batchers gather
    what these tasks submit. Stop order of close(): reader, images, batchers. All on one event loop.
    """

    def __init__(self, peers: Peers, target: Target) -> None:
        settings, model = peers.settings, target.model
        self._settings = settings
        self._force = target.force
        self._keep_copies = target.keep_copies
        self._carries = target.carries
        self._copies = Copies()
        self._stages = Stages(peers, target)
        self._vector_bytes = 4 * model.dimension
        self._write_order = WriteOrder()
        self._look_ups: StageBatcher[Attributes, FoundImage] = StageBatcher(
            self._stages.look_up,
            max_items=settings.max_look_up_rows,
            max_in_flight=_MAX_LOOK_UPS,
            wait_s=_LOOK_UP_WAIT_S,
        )
        self._decoding = 0
        pixels_bytes = model.image_size**2 * 3
        fitting = max(1, model.max_message_bytes // 2 // pixels_bytes)
        max_encode_batch = min(settings.max_encode_batch, model.max_images, fitting)
        self._encodes: StageBatcher[Pixels, Vector] = StageBatcher(
            self._stages.encode,
            max_items=max_encode_batch,
            max_in_flight=settings.max_encode_calls,
        )
        self._writes: StageBatcher[tuple[WriteTurn, Row], None] = StageBatcher(
            self._write,
            max_items=settings.max_write_rows,
            max_in_flight=2,  # one is made into messages while Milvus takes the other
            wait_s=settings.write_wait_ms / 1000,
        )
        self._batchers: dict[str, StageBatcher[Any, Any]] = {
            "look_up": self._look_ups,
            "encode": self._encodes,
            "write": self._writes,
        }
        self._ids_in_writes: set[str] = set()
        self._write_ended = asyncio.Condition()
        # Two budgets, because of one alone files could take all and wait for pixels for ever.
        max_pixels_bytes = min(
            (settings.max_encode_calls + _BATCHES_AHEAD) * max_encode_batch * pixels_bytes,
            settings.max_stream_bytes // 2,
        )
        self._pixels_bytes = pixels_bytes
        self._pixels = ByteBudget(max_pixels_bytes)
        self._files_and_rows = ByteBudget(settings.max_stream_bytes - max_pixels_bytes)
        self._images: set[asyncio.Task[None]] = set()
        self._acknowledgements: asyncio.Queue[tuple[ImageResult, int] | None] = asyncio.Queue()
        self._reader: asyncio.Task[None] | None = None
        self._reading = False
        self._stopped_by: errors.Unavailable | None = None
        self._end: BaseException | None = None

    async def run(self, images: AsyncIterator[Image]) -> AsyncGenerator[ImageResult, None]:
        """Yields one acknowledgement per image, in any order; see Pipeline.index for its end."""
        self._reader = asyncio.create_task(self._read(images))
        try:
            while (item := await self._acknowledgements.get()) is not None:
                acknowledgement, row_bytes = item
                yield acknowledgement
                self._files_and_rows.release(row_bytes)
            if self._end is not None:
                raise self._end
        finally:
            await self._close()

    @property
    def held_bytes(self) -> int:
        """Of files, pixels and rows."""
        return self._files_and_rows.held_bytes + self._pixels.held_bytes

    def at_stage(self, stage: str) -> int:
        """How many images wait for one of metrics.STAGES, or are in it."""
        if stage == "decode":
            return self._decoding + self._pixels.waiting
        return self._batchers[stage].held

    def stop(self, reason: errors.Unavailable) -> None:
        """Takes no more images; what is under way goes on, then run() raises the reason."""
        self._stopped_by = self._stopped_by or reason
        if self._reading and self._reader is not None:
            self._reader.cancel()

    async def _close(self) -> None:
        tasks = [*([self._reader] if self._reader else []), *self._images]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        # Its error knows the way through here and the images that it waited for: a circle, which
        # would keep their files until the garbage collector comes by.
        self._reader = None
        for batcher in self._batchers.values():
            await batcher.close()

    async def _read(self, images: AsyncIterator[Image]) -> None:
        self._reading = True
        try:
            if self._stopped_by is not None:
                raise self._stopped_by
            async for image in images:
                await self._admit(image)
        except asyncio.CancelledError:
            # Either stop() asked for it, or close() did, or gRPC did because the caller is gone.
            self._end = self._stopped_by or asyncio.CancelledError()
        except Exception as error:
            self._end = errors.as_value(error)
        self._reading = False
        while self._images:
            self._flush_if_last()
            await asyncio.wait(self._images)
        self._acknowledgements.put_nowait(None)

    async def _admit(self, image: Image) -> None:
        try:
            attributes, row_bytes = await self._checked(image)
        except errors.GlimpseError as error:
            valid_id = image.id if bounds.ID.fullmatch(image.id) else ""
            await self._files_and_rows.reserve(_OBJECTS_BYTES)
            failed = errors.as_value(error)
            self._acknowledge(image.sequence, valid_id, Outcome.FAILED, _OBJECTS_BYTES, failed)
            return
        await self._files_and_rows.reserve(len(image.content) + row_bytes)
        turn = self._write_order.enter(attributes.copy_id or attributes.id)
        # Only now: whether it is too large is known without a copy of it.
        content = bytes(image.content)
        under_way = _UnderWay(image.sequence, content, attributes, turn, row_bytes)
        task = asyncio.create_task(self._index(under_way))
        self._images.add(task)
        # One that is cancelled before its first step never comes to what discards it below.
        task.add_done_callback(self._images.discard)

    async def _checked(self, image: Image) -> tuple[Attributes, int]:
        """What is stored of an image, and the bytes that its row will take."""
        if image.problem is not None:
            raise image.problem
        if image.id or self._carries:
            bounds.check_id(image.id, "image.id")
        check_indexed_at(image.indexed_at_ms, self._carries)
        check_content(image.content, self._settings.max_file_bytes)
        check_uri(image.uri)
        if len(image.content) <= _HASH_INLINE_BYTES:
            sha256 = _sha256(image.content)
        else:
            sha256 = await asyncio.to_thread(_sha256, image.content)
        attributes = Attributes(
            image.id or sha256[:32],
            sha256,
            image.uri,
            image.metadata,
            indexed_at_ms=image.indexed_at_ms,
        )
        if self._keep_copies and not image.id:
            copy_id = f"{attributes.id}-{_sha256(image.uri.encode())[:16]}"
            attributes = attributes._replace(copy_id=copy_id)
        uri_bytes = 4 * len(image.uri)  # the most that UTF-8 makes of it
        text_bytes = uri_bytes + image.metadata.size_bytes
        return attributes, _OBJECTS_BYTES + self._vector_bytes + text_bytes

    async def _index(self, image: _UnderWay) -> None:
        outcome, error = Outcome.FAILED, None
        try:
            outcome = await self._pass_stages(image)
        except Superseded as superseded:  # its sender sends it again, and it goes to the other one
            self._end = errors.as_value(superseded)
            self.stop(self._end)
            self._files_and_rows.release(image.row_bytes)
            return
        except errors.GlimpseError as foreseen:
            error = errors.as_value(foreseen)
        except Exception as bug:  # of this image alone: its neighbours go on
            log.exception("image %d failed", image.sequence)
            error = bug
        finally:
            self._write_order.leave(image.turn)
            self._drop_content(image)
            self._images.discard(asyncio.current_task())  # type: ignore[arg-type]
            self._flush_if_last()
        self._acknowledge(image.sequence, image.attributes.id, outcome, image.row_bytes, error)

    async def _pass_stages(self, image: _UnderWay) -> Outcome:
        if not image.attributes.copy_id:
            is_known = not self._force and not image.turn.follows
            return await self._pass_stages_alone(image, look_up=is_known or self._carries)
        async with self._copies.turn(image.attributes):
            return await self._pass_stages_alone(image, look_up=True)

    async def _pass_stages_alone(self, image: _UnderWay, *, look_up: bool) -> Outcome:
        picture = None
        if look_up:
            found = await self._look_ups.submit(image.attributes)
            image.attributes = image.attributes._replace(id=found.id)
            if found.is_unchanged and (self._carries or not self._force):
                return Outcome.UNCHANGED
            picture = None if self._force else found.picture
        if picture is None:
            picture = await self._encoded(image)
        self._drop_content(image)
        written = self._writes.submit((image.turn, row(image.attributes, picture)))
        self._flush_if_last()
        await written
        return Outcome.INDEXED

    async def _encoded(self, image: _UnderWay) -> EncodedPicture:
        await self._pixels.reserve(self._pixels_bytes)
        try:
            decoded = await self._decoded(image.content)
            self._drop_content(image)
            vector = await self._encodes.submit(decoded.pixels)
        finally:
            self._pixels.release(self._pixels_bytes)
        return EncodedPicture(vector, decoded.width, decoded.height, decoded.format)

    async def _decoded(self, content: bytes) -> Decoded:
        self._decoding += 1
        try:
            return await self._stages.decode(content)
        finally:
            self._decoding -= 1

    def _drop_content(self, image: _UnderWay) -> None:
        self._files_and_rows.release(len(image.content))
        image.content = b""

    async def _write(self, batch: list[tuple[WriteTurn, Row]]) -> list[errors.GlimpseError | None]:
        """Writes the latest row of each id, once no other write holds a row of one of them."""
        ids = {turn.id for turn, _ in batch}
        async with self._write_ended:
            await self._write_ended.wait_for(lambda: ids.isdisjoint(self._ids_in_writes))
        self._ids_in_writes |= ids
        try:
            return await self._write_latest(batch)
        finally:
            self._ids_in_writes -= ids
            async with self._write_ended:
                self._write_ended.notify_all()

    async def _write_latest(
        self, batch: list[tuple[WriteTurn, Row]]
    ) -> list[errors.GlimpseError | None]:
        """Of rows that share an id, an earlier one shares its successor's fate."""
        latest: dict[str, tuple[WriteTurn, Row]] = {}
        for turn, new_row in sorted(batch, key=self._rank):
            if self._carries or not self._write_order.is_superseded(turn):
                latest[turn.id] = (turn, new_row)
        results = await self._stages.write([new_row for _, new_row in latest.values()])
        failed = {identity: error for identity, error in zip(latest, results, strict=True) if error}
        for turn, _ in latest.values():
            if turn.id not in failed:
                self._write_order.wrote(turn)
        return [failed.get(turn.id) for turn, _ in batch]

    def _rank(self, item: tuple[WriteTurn, Row]) -> tuple[int, int]:
        """Of two of one id, the later one wins; of what is carried over, the newer one."""
        turn, new_row = item
        return (new_row.indexed_at_ms if self._carries else 0), turn.number

    def _flush_if_last(self) -> None:
        # Nothing is left that could join these rows, and the sender may be waiting for them.
        if self._images and self._writes.waiting == len(self._images):
            self._writes.flush()

    def _acknowledge(
        self,
        sequence: int,
        identity: str,
        outcome: Outcome,
        row_bytes: int,
        error: Exception | None,
    ) -> None:
        acknowledgement = ImageResult(sequence, identity, outcome, error)
        # Bounded by the budget: a row's share is given back when the caller takes this.
        self._acknowledgements.put_nowait((acknowledgement, row_bytes))


def stopping() -> errors.Unavailable:
    """The end of a stream at a stop of the service."""
    return errors.Unavailable(
        "the indexer is stopping; send unacknowledged images again", reason="RESUME"
    )


def _sha256(content: bytes | memoryview) -> str:
    return hashlib.sha256(content).hexdigest()
