"""Pages of a collection become Parquet files of bounded size; asking for pages is the caller's
job."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from glimpse.cli.backup.layout import (
    ATTRIBUTES,
    MANIFEST,
    Origin,
    opened,
    part_path,
    part_paths,
    read_json,
    vector_type,
    write_json,
)
from glimpse.cli.console import CommandError
from glimpse.indexer.v1 import indexer_pb2


class BackupWriter:
    """Writes the files of one export, one after the other, each under its name when it is whole.

    Holds one page. A folder that has some files of the same collection and model is gone on with:
    `after_id` is the last id that they hold, `rows` how many they have.
    """

    def __init__(self, folder: Path, origin: Origin, max_file_bytes: int) -> None:
        self._folder = folder
        self._origin = origin
        self._max_file_bytes = max_file_bytes
        self._file: IO[bytes] | None = None
        self._parquet: pq.ParquetWriter | None = None
        self._file_bytes = 0
        self._file_rows = 0
        self.after_id = ""
        self.rows = 0
        self.bytes = 0
        self.files: dict[str, int] = {}
        """By name, how many rows each whole file has."""
        folder.mkdir(parents=True, exist_ok=True)
        self._resume()

    def add(self, images: Sequence[indexer_pb2.ListedImage]) -> None:
        """Writes a page, which is a row group. Raises CommandError for vectors of another length
        than the collection's was at the start."""
        if not images:
            return
        batch = self._batch_of(images)
        if self._parquet is None:
            self._open()
        assert self._parquet is not None
        self._parquet.write_batch(batch)
        self._file_rows += len(images)
        self._file_bytes += batch.nbytes
        if self._file_bytes >= self._max_file_bytes:
            self._close()

    def end(self) -> None:
        """Ends the last file, and says in the manifest which there are; there is one at least."""
        if not self.files and self._parquet is None:
            self._open()
        self._close()
        write_json(
            self._folder / MANIFEST,
            {
                "collection": self._origin.collection,
                "model_name": self._origin.model_name,
                "model_fingerprint": self._origin.model_fingerprint,
                "dimension": self._origin.dimension,
                "rows": self.rows,
                "files": self.files,
            },
        )

    def abandon(self) -> None:
        """Removes the file that is not whole."""
        if self._file is not None:
            self._file.close()
            self._temporary.unlink(missing_ok=True)

    @property
    def _path(self) -> Path:
        return part_path(self._folder, len(self.files))

    @property
    def _temporary(self) -> Path:
        return self._path.with_name(f"{self._path.name}.tmp")

    def _resume(self) -> None:
        if read_json(self._folder / MANIFEST) is not None:
            raise CommandError(
                f"{self._folder} holds an export that is whole: choose another folder, or remove it"
            )
        for number, path in enumerate(part_paths(self._folder)):
            if path != part_path(self._folder, number):
                raise CommandError(f"{self._folder}: {part_path(self._folder, number)} is missing")
            with opened(path) as file:
                there = Origin.of(file.schema_arrow, path)
                if there != self._origin:
                    raise CommandError(f"{path}: {_told_difference(there, self._origin)}")
                if file.num_row_groups:
                    last = file.read_row_group(file.num_row_groups - 1, columns=["id"])
                    self.after_id = last.column("id")[-1].as_py()
                self.files[path.name] = file.metadata.num_rows
                self.rows += file.metadata.num_rows
            self.bytes += path.stat().st_size

    def _open(self) -> None:
        self._file = self._temporary.open("wb")
        # Vectors do not repeat, and looking for repetitions takes five times as long as writing.
        self._parquet = pq.ParquetWriter(
            self._file,
            self._origin.schema,
            compression="snappy",
            use_dictionary=False,
        )
        self._file_bytes = self._file_rows = 0

    def _close(self) -> None:
        if self._parquet is None or self._file is None:
            return
        self._parquet.close()
        self._file.flush()
        os.fsync(self._file.fileno())  # or a name could outlast its content when power fails
        self.bytes += self._file.tell()
        self._file.close()
        self._temporary.replace(self._path)
        self.rows += self._file_rows
        self.files[self._path.name] = self._file_rows
        self._parquet = self._file = None

    def _batch_of(self, images: Sequence[indexer_pb2.ListedImage]) -> pa.RecordBatch:
        dimension = self._origin.dimension
        values = np.frombuffer(b"".join([image.packed_vector for image in images]), "<f4")
        if len(values) != dimension * len(images):
            raise CommandError(
                f"the vectors of {self._origin.collection!r} are not of {dimension} numbers any "
                "more: was the collection made anew meanwhile?"
            )
        vectors = pa.FixedSizeListArray.from_arrays(pa.array(values), type=vector_type(dimension))
        columns: list[Any] = [pa.array([image.id for image in images], pa.string()), vectors]
        for name, kind in ATTRIBUTES:
            field = "metadata_json" if name == "metadata" else name
            columns.append(pa.array([getattr(image, field) for image in images], kind))
        return pa.RecordBatch.from_arrays(columns, schema=self._origin.schema)


def _told_difference(there: Origin | None, wanted: Origin) -> str:
    if there is None:
        return "is no file of an export: choose an empty folder"
    if there.collection != wanted.collection:
        return f"holds rows of {there.collection!r}, not of {wanted.collection!r}"
    return (
        f"was exported while {there.collection!r} was filled by model {there.model_name!r} "
        f"({there.model_fingerprint}); now it is {wanted.model_name!r} "
        f"({wanted.model_fingerprint}): choose another folder"
    )
