"""Metadata of pictures from a JSON-lines or CSV file, by path; what it may hold is the indexer's
to judge."""

from __future__ import annotations

import codecs
import csv
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from glimpse import fsspec_files
from glimpse.cli.console import CommandError, printable, say
from glimpse.cli.selection import normal
from glimpse.uris import uri_of

_KEY = "path"
_MAX_EXACT_WHOLE = 2**53  # numbers in messages are doubles


class MetadataEntries:
    """The metadata of pictures from a file, and which of it no picture has had."""

    def __init__(self, source: Path | None) -> None:
        self._source = source
        self._entries = read_metadata(source) if source else {}
        self._addresses = {normal(address): address for address in self._entries}
        self._unused = set(self._entries)

    def of(self, address: str) -> dict[str, Any]:
        """The metadata of a picture, by its path in whichever normal form; {} if it has none."""
        if not self._entries:
            return {}
        if address not in self._entries:
            address = self._addresses.get(normal(address), address)
        self._unused.discard(address)
        return self._entries.get(address, {})

    def tell_unused(self) -> None:
        """Says which entries no picture was found for."""
        if self._unused:
            say(
                f"{len(self._unused):,} of {len(self._entries):,} entries of {self._source} match "
                f"none of the pictures, such as the one for {printable(min(self._unused))}"
            )


def read_metadata(path: Path) -> dict[str, dict[str, Any]]:
    """Metadata by absolute path or URL.

    Each line of a .jsonl file is an object, each row of a .csv file one with the header's names.
    "path" says which picture is meant, seen from the folder that the file lies in, or by its URL;
    all the rest is metadata. A CSV value that is written as a plain number becomes one; an empty
    one is left out. Raises CommandError.
    """
    readers = {".jsonl": _json_lines, ".csv": _csv_rows}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise CommandError(f"{path}: metadata must be a .jsonl or a .csv file")
    found: dict[str, dict[str, Any]] = {}
    try:
        for number, entry in reader(path):
            key = entry.pop(_KEY, None)
            if not isinstance(key, str) or not key:
                raise CommandError(f'{path} line {number}: has no "{_KEY}"')
            address = key if fsspec_files.is_url(key) else _address_of(key, path.parent)
            if address in found:
                raise CommandError(f"{path} line {number}: {key} is listed twice")
            found[address] = entry
    except OSError as error:
        why = (error.strerror or "unknown reason").lower()
        raise CommandError(f"{path}: the metadata cannot be read: {why}") from error
    except UnicodeError:
        raise CommandError(f"{path}: the metadata must be UTF-8 or UTF-16") from None
    return found


def _address_of(key: str, folder: Path) -> str:
    """The address of a file by its path seen from a folder, with backslashes where it has them and
    is not there so."""
    path = folder / key
    if "\\" in key and not os.path.lexists(path):
        path = folder / key.replace("\\", "/")
    return uri_of(path)


def _encoding(path: Path) -> str:
    """By the mark that the file begins with; without one, it is UTF-8."""
    with path.open("rb") as file:
        beginning = file.read(2)
    return "utf-16" if beginning in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) else "utf-8-sig"


def _json_lines(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    with path.open(encoding=_encoding(path)) as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                entry = json.loads(line)
            except ValueError as error:
                raise CommandError(f"{path} line {number}: is not JSON: {error}") from None
            if not isinstance(entry, dict):
                raise CommandError(f"{path} line {number}: is not a JSON object")
            yield number, entry


def _csv_rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    with path.open(encoding=_encoding(path), newline="") as lines:
        rows = csv.DictReader(lines)
        try:
            for row in rows:
                if None in row or None in row.values():
                    raise CommandError(
                        f"{path} line {rows.line_num}: has more or fewer values than the header"
                    )
                values = {name: value for name, value in row.items() if value != ""}
                yield (
                    rows.line_num,
                    {n: v if n == _KEY else _typed(v) for n, v in values.items()},
                )
        except csv.Error as error:
            raise CommandError(f"{path} line {rows.line_num}: is not CSV: {error}") from None


def _typed(value: str) -> str | int | float:
    """A number when the text is just how that number is written: "7", not "007", and no double
    would change it."""
    for kind in (int, float):
        try:
            number = kind(value)
        except ValueError:
            continue
        is_exact = kind is float or abs(number) <= _MAX_EXACT_WHOLE
        if str(number) == value and is_exact and value not in ("inf", "-inf", "nan"):
            return number
    return value
