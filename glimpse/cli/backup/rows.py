"""Tables become the batches that are imported; where tables come from is sources' job."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from glimpse.indexer.v1 import indexer_pb2
from glimpse.upload import MAX_BATCH_BYTES, MAX_BATCH_IMAGES

_MAX_IMAGE_BYTES = 2**20  # five times what the largest row takes


@dataclass(frozen=True)
class Rows:
    """Some rows of one source, from its `first`-th on."""

    source: str
    first: int
    images: Sequence[indexer_pb2.ImportedImage]


@dataclass
class SentBatch:
    """What was put into one message: the rows by their numbers in their source, and where one goes
    on behind them."""

    source: str
    message: indexer_pb2.ImportBatch = field(default_factory=indexer_pb2.ImportBatch)
    numbers: list[int] = field(default_factory=list)
    next_row: int = 0
    size_bytes: int = 0

    def add(self, number: int, image: indexer_pb2.ImportedImage, size_bytes: int) -> bool:
        """Whether there was room for it; there is for the first one."""
        is_full = len(self.numbers) == MAX_BATCH_IMAGES
        if self.numbers and (is_full or self.size_bytes + size_bytes > MAX_BATCH_BYTES):
            return False
        self.message.images.append(image)
        self.numbers.append(number)
        self.size_bytes += size_bytes
        return True


@dataclass(frozen=True)
class Refusal:
    """A row that was not taken, and why."""

    source: str
    row: int
    id: str
    reason: str
    message: str


class Batches:
    """Batches within the bounds of a message, numbered from 1; rows that are too large for any
    message are in `refused` instead."""

    def __init__(self, rows: Iterable[Rows]) -> None:
        self._rows = rows
        self.sent: dict[int, SentBatch] = {}
        """By sequence, those whose acknowledgement has not been taken out."""
        self.refused: list[Refusal] = []

    def __iter__(self) -> Iterator[indexer_pb2.ImportBatch]:
        for sequence, batch in enumerate(self._cut(), start=1):
            batch.message.sequence = sequence
            self.sent[sequence] = batch
            yield batch.message

    def _cut(self) -> Iterator[SentBatch]:
        """Full ones, but for the last of each source."""
        batch = SentBatch("")
        for rows in self._rows:
            if batch.numbers and batch.source != rows.source:
                yield batch
                batch = SentBatch(rows.source)
            batch.source = rows.source
            for number, image in enumerate(rows.images, start=rows.first):
                size_bytes = image.ByteSize()
                if size_bytes > _MAX_IMAGE_BYTES:
                    self._refuse(rows.source, number, image, size_bytes)
                elif not batch.add(number, image, size_bytes):
                    yield batch
                    batch = SentBatch(rows.source)
                    batch.add(number, image, size_bytes)
                batch.next_row = number + 1
        if batch.numbers:
            yield batch

    def _refuse(
        self, source: str, row: int, image: indexer_pb2.ImportedImage, size_bytes: int
    ) -> None:
        message = f"has {size_bytes:,} bytes; a row has at most {_MAX_IMAGE_BYTES:,}"
        self.refused.append(Refusal(source, row, image.id[:128], "ROW_TOO_LARGE", message))


def vectors_of(column: pa.Array) -> list[bytes]:
    """float32 of each row of a column of lists of numbers, as bytes; of null, none."""
    values = column.flatten()  # of the rows that are not null
    numbers = _numbers(values)
    if column.null_count == 0 and len(numbers):
        lengths = pc.call_function("list_value_length", [column]).to_numpy(zero_copy_only=False)
        if (lengths == lengths[0]).all():
            content, width = numbers.tobytes(), 4 * int(lengths[0])
            return [content[start : start + width] for start in range(0, len(content), width)]
    return [_one(scalar.values) for scalar in column]


def _one(values: pa.Array | None) -> bytes:
    return b"" if values is None else _numbers(values).tobytes()


def _numbers(values: pa.Array) -> np.ndarray:
    """float32, little-endian; null is NaN, and what is too large infinite."""
    with np.errstate(over="ignore"):
        return values.to_numpy(zero_copy_only=False).astype("<f4", copy=False)


def images_of(table: pa.RecordBatch) -> list[indexer_pb2.ImportedImage]:
    """The rows of a table whose columns are an export's."""
    ids, vectors = table.column("id").to_pylist(), vectors_of(table.column("vector"))
    rest = [table.column(name).to_pylist() for name in _REST]
    return [
        indexer_pb2.ImportedImage(
            id=identity,
            vector=vector,
            uri=uri,
            width=_unsigned(width),
            height=_unsigned(height),
            format=kind,
            indexed_at_ms=written,
            content_sha256=sha256,
            metadata_json=metadata,
        )
        for identity, vector, uri, width, height, kind, written, sha256, metadata in zip(
            ids, vectors, *rest, strict=True
        )
    ]


_REST = ("uri", "width", "height", "format", "indexed_at_ms", "content_sha256", "metadata")


def _unsigned(value: int) -> int:
    """What no message can hold becomes what the indexer refuses."""
    return value if 0 <= value < 2**32 else 2**32 - 1
