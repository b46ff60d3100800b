"""Lists of names, a line each, in whatever way a program or an editor has written them."""

from __future__ import annotations

import codecs
import json
import os
import re
import sys
from collections.abc import Iterator
from typing import IO

from glimpse.cli.console import CommandError

_BYTE_ORDER_MARK = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
# Without a mark, four letters of ASCII; or four names of a letter each, which nobody lists.
_LITTLE_ENDIAN = re.compile(rb"(?:[^\0]\0){4}")
_BIG_ENDIAN = re.compile(rb"(?:\0[^\0]){4}")
_MAX_LINE_BYTES = 2**20
_BLOCK_BYTES = 2**16


def names_in(path: str) -> Iterator[str]:
    """The names in a list: one on a line, or "path" of a JSON object on a line.

    Lines may end as on Windows or on old Macs; a list may begin with a byte order mark, be UTF-16,
    or have null characters between names, as `find -print0` has. "-" is standard input. Raises
    CommandError.
    """
    try:
        with _opened(path) as file:
            for number, line in enumerate(_lines(file, path), start=1):
                if line.strip():
                    yield _name(line, path, number)
    except OSError as error:
        why = (error.strerror or "unknown reason").lower()
        raise CommandError(f"@{path}: the list cannot be read: {why}") from error


def _opened(path: str) -> IO[bytes]:
    return open(sys.stdin.fileno(), "rb", closefd=False) if path == "-" else open(path, "rb")


def _lines(file: IO[bytes], path: str) -> Iterator[str]:
    beginning = file.read(_BLOCK_BYTES)
    if encoding := _utf_16(beginning):
        content = beginning + file.read()
        try:
            yield from (line.removesuffix("\r") for line in content.decode(encoding).split("\n"))
        except UnicodeDecodeError:
            raise CommandError(f"@{path}: the list is neither UTF-8 nor UTF-16") from None
        return
    beginning = beginning.removeprefix(codecs.BOM_UTF8)
    end = next((each for each in (b"\0", b"\n", b"\r") if each in beginning), b"\n")
    while beginning:
        *whole, rest = beginning.split(end)
        for line in whole:
            yield os.fsdecode(line if end == b"\0" else line.removesuffix(b"\r"))
        if len(rest) > _MAX_LINE_BYTES:
            raise CommandError(f"@{path}: this is no list: a line has more than a million bytes")
        block = file.read(_BLOCK_BYTES)
        if not block:
            yield os.fsdecode(rest.removesuffix(b"\r"))
            return
        beginning = rest + block


def _utf_16(beginning: bytes) -> str:
    """Which kind of UTF-16 a list is in; "" for another encoding."""
    if beginning.startswith(_BYTE_ORDER_MARK):
        return "utf-16"
    if _LITTLE_ENDIAN.match(beginning):
        return "utf-16-le"
    return "utf-16-be" if _BIG_ENDIAN.match(beginning) else ""


def _name(line: str, path: str, number: int) -> str:
    if not line.startswith("{"):
        return line
    try:
        name = json.loads(line)["path"]
    except (ValueError, KeyError, TypeError):
        if os.path.lexists(line):
            return line
        name = None
    if not isinstance(name, str):
        raise CommandError(f'@{path} line {number}: is not a JSON object with a "path"') from None
    return name
