"""Which files of a folder hold rows to import, and whose: an export's, Parquet files of others, and
.npy files with Parquet beside them, as clip-retrieval writes them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from glimpse.cli.backup.foreign import Columns, Mapping
from glimpse.cli.backup.layout import MANIFEST, Origin, opened, part_paths, read_json
from glimpse.cli.backup.rows import Rows, images_of
from glimpse.cli.console import CommandError
from glimpse.indexer.v1 import indexer_pb2

_READ_ROWS = 1_000
_DIGITS = re.compile(r"(\d+)")


class Source(Protocol):
    """One file of rows, or two that belong together; holds some thousand rows at a time."""

    name: str
    rows: int

    def read(self, first: int) -> Iterator[Rows]:
        """The rows from the `first`-th on. Raises CommandError where the file is damaged."""
        ...


@dataclass(frozen=True)
class Found:
    """The sources of a folder, in their order, and what they say of themselves."""

    sources: list[Source]
    dimension: int
    origin: Origin | None = None

    @property
    def rows(self) -> int:
        """Of all of them."""
        return sum(source.rows for source in self.sources)


def find(folder: Path, wanted: Columns, *, incomplete: bool) -> Found:
    """Raises CommandError where there is nothing to import, or what there is does not fit together.

    An export that has not come to its end is taken only if `incomplete` says so.
    """
    if not folder.is_dir():
        raise CommandError(f"{folder}: is no folder")
    parts = part_paths(folder)
    if parts and _origin_of(parts[0]) is not None:
        return _export(folder, parts, incomplete=incomplete)
    pairs = _clip_retrieval(folder) if (folder / "img_emb").is_dir() else _pairs(folder)
    sources: list[Source] = [ArraySource(npy, table, wanted) for npy, table in pairs]
    dimensions = {source.dimension for source in sources}  # type: ignore[attr-defined]
    if not sources:
        tables = [TableSource(path, wanted) for path in _sorted(folder.glob("*.parquet"))]
        dimensions = {table.dimension for table in tables if table.rows}
        sources = [*tables]
    if not any(source.rows for source in sources):
        raise CommandError(f"{folder}: holds no rows, neither in Parquet nor in .npy files")
    if len(dimensions) != 1:
        told = ", ".join(map(str, sorted(dimensions)))
        raise CommandError(f"{folder}: its files have vectors of different lengths: {told}")
    return Found(sources, dimensions.pop())


class TableSource:
    """A Parquet file: of an export, or one of others whose columns are told or guessed by name."""

    def __init__(self, path: Path, wanted: Columns | None) -> None:
        self._path = path
        self.name = path.name
        with opened(path) as file:
            self.rows = file.metadata.num_rows
            schema = file.schema_arrow
            self._mapping = wanted and Mapping.of(schema, wanted, path, has_vectors=True)
            column = self._mapping.vector if self._mapping else "vector"
            self.dimension = _dimension(file, column) if self.rows else 0

    def read(self, first: int) -> Iterator[Rows]:
        with opened(self._path) as file:
            columns = self._mapping.columns if self._mapping else None
            for row, table in _tables(file, first, columns):
                yield Rows(self.name, row, self._images_of(table))

    def _images_of(self, table: pa.RecordBatch) -> list[indexer_pb2.ImportedImage]:
        return self._mapping.images_of(table) if self._mapping else images_of(table)


class ArraySource:
    """Vectors in a .npy file, which is never read whole, and the other columns in Parquet."""

    def __init__(self, array: Path, table: Path, wanted: Columns) -> None:
        self._path = table
        self.name = array.name
        try:
            self._vectors = np.load(array, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise CommandError(f"{array}: is no .npy file of numbers: {error}") from error
        if self._vectors.ndim != 2 or self._vectors.dtype.kind != "f":
            raise CommandError(
                f"{array}: must hold rows of floating-point numbers; it holds "
                f"{self._vectors.dtype} of shape {self._vectors.shape}"
            )
        with opened(table) as file:
            self.rows = file.metadata.num_rows
            self._mapping = Mapping.of(file.schema_arrow, wanted, table, has_vectors=False)
        if len(self._vectors) != self.rows:
            raise CommandError(
                f"{array} has {len(self._vectors):,} rows, and {table} has {self.rows:,}"
            )
        self.dimension = self._vectors.shape[1]

    def read(self, first: int) -> Iterator[Rows]:
        with opened(self._path) as file:
            for row, table in _tables(file, first, self._mapping.columns):
                with np.errstate(over="ignore"):
                    some = self._vectors[row : row + table.num_rows].astype("<f4")
                vectors = [vector.tobytes() for vector in some]
                yield Rows(self.name, row, self._mapping.images_of(table, vectors))


def _tables(
    file: pq.ParquetFile, first: int, columns: list[str] | None
) -> Iterator[tuple[int, pa.RecordBatch]]:
    """Tables of some rows from the `first`-th on, with their first rows' numbers; one row group is
    looked at at a time."""
    row = 0
    for group in range(file.num_row_groups):
        count = file.metadata.row_group(group).num_rows
        if row + count <= first:
            row += count
            continue
        for table in file.iter_batches(_READ_ROWS, row_groups=[group], columns=columns):
            behind = row + table.num_rows
            if behind > first:
                skipped = max(first - row, 0)
                yield row + skipped, table.slice(skipped)
            row = behind


def _dimension(file: pq.ParquetFile, column: str) -> int:
    """The length of the vectors: as the type says, or else that of the first that there is."""
    kind = file.schema_arrow.field(column).type
    if pa.types.is_fixed_size_list(kind):
        return kind.list_size
    for table in file.iter_batches(_READ_ROWS, columns=[column]):
        for scalar in table.column(0):
            if scalar.values is not None and len(scalar.values):
                return len(scalar.values)
    return 0


def _origin_of(path: Path) -> Origin | None:
    with opened(path) as file:
        return Origin.of(file.schema_arrow, path)


def _export(folder: Path, parts: list[Path], *, incomplete: bool) -> Found:
    manifest = read_json(folder / MANIFEST)
    if manifest is None and not incomplete:
        raise CommandError(
            f"{folder} holds an export that has not come to its end: run the same glimpse export "
            "again, or import what there is with --incomplete"
        )
    origin = _origin_of(parts[0])
    assert origin is not None
    for path in parts:
        if _origin_of(path) != origin:
            raise CommandError(f"{path}: is of another export than {parts[0].name}")
    sources: list[Source] = [TableSource(path, None) for path in parts]
    there = {source.name: source.rows for source in sources}
    if manifest is not None and manifest.get("files") != there:
        raise CommandError(f"{folder}: its files are not those that {MANIFEST} tells of")
    return Found(sources, origin.dimension, origin)


def _clip_retrieval(folder: Path) -> list[tuple[Path, Path]]:
    """img_emb/img_emb_N.npy with metadata/metadata_N.parquet."""
    pairs = []
    for array in _sorted((folder / "img_emb").glob("*.npy")):
        number = array.stem.rpartition("_")[2]
        table = folder / "metadata" / f"metadata_{number}.parquet"
        if not table.exists():
            raise CommandError(f"{array}: {table} is missing")
        pairs.append((array, table))
    return pairs


def _pairs(folder: Path) -> list[tuple[Path, Path]]:
    """NAME.npy with NAME.parquet."""
    arrays = _sorted(folder.glob("*.npy"))
    for array in arrays:
        if not array.with_suffix(".parquet").exists():
            raise CommandError(f"{array}: {array.with_suffix('.parquet').name} is missing")
    return [(array, array.with_suffix(".parquet")) for array in arrays]


def _sorted(paths: Iterator[Path]) -> list[Path]:
    """By name, numbers in it by their value."""

    def key(path: Path) -> list[tuple[int, str]]:
        parts = _DIGITS.split(path.name)
        return [(int(part) if part.isdigit() else -1, part) for part in parts]

    return sorted(paths, key=key)
