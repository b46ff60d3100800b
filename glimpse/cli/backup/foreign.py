"""Columns of Parquet files that others have written become those of an export."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from glimpse.cli.backup.rows import vectors_of
from glimpse.cli.console import CommandError
from glimpse.indexer.v1 import indexer_pb2

_ID = re.compile(r"[A-Za-z0-9._:/-]{1,128}")
_URIS = ("uri", "url", "image_path", "path")
"""Columns that say where a picture is, where no other is named; the first that there is."""

_VECTORS = ("vector", "embedding", "image_embedding", "embeddings")


@dataclass(frozen=True)
class Columns:
    """Which columns of a foreign file are what, as the caller names them; "" and None: by the
    names that there are."""

    id: str = ""
    vector: str = ""
    uri: str = ""
    metadata: Sequence[str] | None = None


@dataclass(frozen=True)
class Mapping:
    """Which columns of one file are what. Without a `vector`, vectors come from elsewhere."""

    id: str
    vector: str
    uri: str
    width: str
    height: str
    metadata: tuple[str, ...]

    @classmethod
    def of(cls, schema: pa.Schema, wanted: Columns, path: Path, *, has_vectors: bool) -> Mapping:
        """For a file of this schema. Raises CommandError where a column is missing, or of a type
        that cannot be what it is to be."""
        vector = "" if not has_vectors else _chosen(schema, wanted.vector, _VECTORS)
        if has_vectors:
            _check(path, schema, vector, "vectors", "--vector-column", _is_numbers)
        uri = _chosen(schema, wanted.uri, _URIS)
        identity = _chosen(schema, wanted.id, ("id", uri))
        _check(path, schema, identity, "ids", "--id-column", _is_key)
        if uri:
            _check(path, schema, uri, "uris", "--uri-column", _is_text)
        sizes = {name: name if _is_whole(schema, name) else "" for name in ("width", "height")}
        taken = {identity, vector, uri, *sizes.values()}
        if wanted.metadata is None:
            once = (f for f in schema if schema.names.count(f.name) == 1)
            rest = [f.name for f in once if f.name not in taken and not _is_binary(f.type)]
        else:
            rest = list(wanted.metadata)
            for name in rest:
                _check(path, schema, name, "metadata", "--metadata-columns", _is_json)
        return cls(identity, vector, uri, sizes["width"], sizes["height"], tuple(rest))

    @property
    def columns(self) -> list[str]:
        """All that have to be read."""
        names = (self.id, self.vector, self.uri, self.width, self.height, *self.metadata)
        return list(dict.fromkeys(filter(None, names)))

    def images_of(
        self, table: pa.RecordBatch, vectors: list[bytes] | None = None
    ) -> list[indexer_pb2.ImportedImage]:
        """The rows of a table of this file, with their vectors where these come from elsewhere."""
        count = table.num_rows
        keys = [None if key is None else str(key) for key in self._values(table, self.id)]
        uris = self._values(table, self.uri) if self.uri else keys
        metadata = [self._values(table, name) for name in self.metadata]
        found = vectors if vectors is not None else vectors_of(table.column(self.vector))
        widths, heights = (self._values(table, name) for name in (self.width, self.height))
        return [
            indexer_pb2.ImportedImage(
                id=fit_id(keys[row]),
                vector=found[row],
                uri=(uris[row] or "") if self.uri or not _is_id(keys[row]) else "",
                width=_size(widths[row]),
                height=_size(heights[row]),
                metadata_json=_json(self.metadata, [column[row] for column in metadata]),
            )
            for row in range(count)
        ]

    @staticmethod
    def _values(table: pa.RecordBatch, name: str) -> list[Any]:
        return table.column(name).to_pylist() if name else [None] * table.num_rows


def fit_id(key: str | None) -> str:
    """The key where it can be an id, otherwise the first 32 hexadecimal digits of its SHA-256; of
    none, none."""
    if key is None or _is_id(key):
        return key or ""
    return hashlib.sha256(key.encode(errors="surrogatepass")).hexdigest()[:32]


def _is_id(key: str | None) -> bool:
    return key is not None and _ID.fullmatch(key) is not None


def _size(value: Any) -> int:
    return value if isinstance(value, int) and 0 <= value < 2**31 else 0


def _json(names: Sequence[str], values: Sequence[Any]) -> str:
    """An object without what is null, or no number."""
    there = {
        name: value
        for name, value in zip(names, values, strict=True)
        if value is not None and value == value
    }
    return json.dumps(there, ensure_ascii=False, default=str) if there else ""


def _chosen(schema: pa.Schema, wanted: str, usual: Sequence[str]) -> str:
    """The column that is asked for, else the first of the usual ones, else ""."""
    return wanted or next((name for name in usual if name and name in schema.names), "")


def _check(path: Path, schema: pa.Schema, name: str, what: str, option: str, fits: Any) -> None:
    columns = ", ".join(schema.names[:30])
    if not name:
        raise CommandError(f"{path}: name the column of {what} by {option}; there are: {columns}")
    if schema.names.count(name) != 1:
        raise CommandError(f"{path}: has not one column {name!r} of {what}; there are: {columns}")
    kind = schema.field(name).type
    if not fits(kind):
        raise CommandError(f"{path}: column {name!r} holds {kind}, which cannot be {what}")


def _is_numbers(kind: pa.DataType) -> bool:
    types = pa.types
    is_list = types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind)
    return is_list and (types.is_floating(kind.value_type) or types.is_integer(kind.value_type))


def _is_text(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return pa.types.is_string(kind) or pa.types.is_large_string(kind)


def _is_key(kind: pa.DataType) -> bool:
    return _is_text(kind) or pa.types.is_integer(kind)


def _is_binary(kind: pa.DataType) -> bool:
    types = pa.types
    return types.is_binary(kind) or types.is_large_binary(kind) or types.is_fixed_size_binary(kind)


def _is_json(kind: pa.DataType) -> bool:
    return not _is_binary(kind)


def _is_whole(schema: pa.Schema, name: str) -> bool:
    return schema.names.count(name) == 1 and pa.types.is_integer(schema.field(name).type)
