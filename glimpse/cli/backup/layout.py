"""What an export's files are called and hold; writing and reading them is others' job."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib.abc import MetaPathFinder
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from glimpse.cli.console import CommandError

FORMAT = 1
KEY = b"glimpse"
"""Of a Parquet file's metadata: an Origin and the format's number, as JSON."""

MANIFEST = "export.json"
"""Written last: a folder without it holds an export that has not come to its end."""

ATTRIBUTES = (
    ("uri", pa.string()),
    ("width", pa.int64()),
    ("height", pa.int64()),
    ("format", pa.string()),
    ("indexed_at_ms", pa.int64()),
    ("content_sha256", pa.string()),
    ("metadata", pa.string()),
)
"""Columns besides id and vector, by the names of ListedImage; metadata is JSON text."""


@dataclass(frozen=True)
class Origin:
    """Which collection the rows of a file are of, and what made their vectors."""

    collection: str
    model_name: str
    model_fingerprint: str
    dimension: int
    metric: str

    @classmethod
    def of(cls, schema: pa.Schema, path: Path) -> Origin | None:
        """What a file's schema says; None for one that glimpse has not written. Raises
        CommandError for one of a later version, or one that was tampered with."""
        text = (schema.metadata or {}).get(KEY)
        if text is None:
            return None
        try:
            values = json.loads(text)
            number = values.pop("format")
            if number != FORMAT:
                raise CommandError(
                    f"{path}: is of format {number}, and this glimpse knows format {FORMAT}: "
                    "install a newer one"
                )
            origin = cls(**values)
            if not all(isinstance(value, str) for value in (*_texts(origin),)):
                raise TypeError
            if not schema.equals(origin.schema, check_metadata=False):
                raise TypeError
        except (ValueError, TypeError, KeyError, AttributeError):
            raise CommandError(f"{path}: what glimpse has written about it is damaged") from None
        return origin

    @property
    def schema(self) -> pa.Schema:
        """Of its files."""
        fields = [
            pa.field("id", pa.string(), nullable=False),
            pa.field("vector", vector_type(self.dimension), nullable=False),
            *(pa.field(name, kind, nullable=False) for name, kind in ATTRIBUTES),
        ]
        return pa.schema(fields, {KEY: json.dumps({"format": FORMAT, **asdict(self)}).encode()})


def _texts(origin: Origin) -> tuple[Any, ...]:
    return origin.collection, origin.model_name, origin.model_fingerprint, origin.metric


def vector_type(dimension: int) -> pa.DataType:
    """A fixed number of float32."""
    return pa.list_(pa.float32(), dimension)


def keep_pandas_out() -> None:
    """Has pyarrow find no pandas, for the rest of the process: where it is installed, the first
    value that pyarrow converts would import it, which takes as long as some 10,000 rows."""
    finder = _NoPandas()
    sys.meta_path.insert(0, finder)
    try:
        pa.array([""])
    finally:
        sys.meta_path.remove(finder)


class _NoPandas(MetaPathFinder):
    """Keeps the import system from finding it."""

    def find_spec(self, fullname: str, path: object, target: object = None) -> None:
        if fullname == "pandas":
            raise ModuleNotFoundError("kept out", name=fullname)


def part_path(folder: Path, number: int) -> Path:
    """The number-th file of an export, from 0."""
    return folder / f"part-{number:06}.parquet"


def part_paths(folder: Path) -> list[Path]:
    """The whole files of an export, in their order."""
    return sorted(folder.glob("part-[0-9][0-9][0-9][0-9][0-9][0-9].parquet"))


@contextlib.contextmanager
def opened(path: Path) -> Iterator[pq.ParquetFile]:
    """A Parquet file. Raises CommandError for what is none, also while it is read."""
    try:
        with pq.ParquetFile(path, memory_map=True) as file:
            yield file
    except (pa.ArrowException, OSError, ValueError) as error:
        why = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CommandError(f"{path}: cannot be read as Parquet: {why}") from error


def write_json(path: Path, value: dict[str, Any], *, durable: bool = True) -> None:
    """Whole or not at all; unless it is `durable`, perhaps not at all when power fails."""
    temporary = path.with_name(f"{path.name}.tmp")
    with temporary.open("w", encoding="utf-8") as file:
        json.dump(value, file, indent=2)
        if durable:
            file.flush()
            os.fsync(file.fileno())
    temporary.replace(path)


def read_json(path: Path) -> dict[str, Any] | None:
    """What write_json wrote; None where there is nothing of the kind."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return value if isinstance(value, dict) else None
