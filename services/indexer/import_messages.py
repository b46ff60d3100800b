"""The messages of ImportImages from and to the indexer's own records; nothing is decided here."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from glimpse.errors import InvalidInput
from glimpse.indexer.v1 import indexer_pb2 as pb
from glimpse.transport.status import to_status
from services.common.event_loop import paced
from services.common.message_fields import parse, take_apart
from services.indexer import bounds
from services.indexer.import_rows import GivenRow
from services.indexer.imports import BatchResult


async def first_options(requests: AsyncIterator[bytes]) -> pb.ImportOptions:
    """The options of a stream's first message; raises InvalidInput where it has none."""
    async for request in requests:
        bounds.check_import_size(len(request))
        rest, batches = take_apart(request, pb.ImportImagesRequest.BATCH_FIELD_NUMBER)
        message = parse(pb.ImportImagesRequest, rest)
        if message.HasField("options") and not batches:
            return message.options
        break
    raise InvalidInput("options", "must be the stream's first message")


async def batches(requests: AsyncIterator[bytes]) -> AsyncIterator[tuple[int, list[GivenRow]]]:
    """The batches of a stream's further messages, parsed image by image."""
    async for request in requests:
        bounds.check_import_size(len(request))
        _, found = take_apart(request, pb.ImportImagesRequest.BATCH_FIELD_NUMBER)
        if not found:
            raise InvalidInput("batch", "must be every message of the stream but the first")
        rest, images = take_apart(found[-1][1], pb.ImportBatch.IMAGES_FIELD_NUMBER)
        bounds.check_imported_images(len(images))
        rows = [_row(image) async for _, image in paced(images)]
        yield parse(pb.ImportBatch, rest).sequence, rows


def _row(content: memoryview) -> GivenRow:
    image = parse(pb.ImportedImage, bytes(content), "batch.images")
    return GivenRow(
        id=image.id,
        vector=image.vector,
        uri=image.uri,
        width=image.width,
        height=image.height,
        format=image.format,
        metadata_json=image.metadata_json,
        indexed_at_ms=image.indexed_at_ms,
        content_sha256=image.content_sha256,
    )


def acknowledgement(result: BatchResult) -> pb.ImportAcknowledgement:
    """The message of what became of a batch."""
    rejected: Sequence[pb.RejectedImage] = [
        pb.RejectedImage(index=row.position, id=row.id, error=to_status(row.error))
        for row in result.rejected
    ]
    return pb.ImportAcknowledgement(
        sequence=result.sequence, written=result.written, rejected=rejected
    )
