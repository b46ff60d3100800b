"""Reads files: a picture's never for ever, and never more of it than is taken."""

from __future__ import annotations

import hashlib
import io
import os
import stat
from pathlib import Path

from glimpse.errors import InvalidInput, UnreadableFile

_NO_WAIT = getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)


def read(path: str | os.PathLike[str], max_bytes: int | None = None) -> bytes:
    """The file's bytes, of which there are `max_bytes` at most.

    A pipe, a socket or a device is refused, not waited for; a file that is too large is refused by
    the size that it says it has. Raises UnreadableFile and InvalidInput.
    """
    try:
        with open(path, "rb", buffering=0, opener=_open) as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise _unreadable(path, f"it is {_kind(status.st_mode)}, not a file")
            if max_bytes is None:
                return file.readall()
            check_size(status.st_size, max_bytes)
            return _read(file, status.st_size, max_bytes)
    except OSError as error:
        why = (error.strerror or type(error).__name__).lower()
        raise _unreadable(path, why) from error
    except ValueError:  # a null character, which no file's name has
        raise _unreadable(path, "no file can have that name") from None


def check_size(size_bytes: int, max_bytes: int) -> None:
    """Raises InvalidInput for a file that is too large to be sent."""
    if size_bytes > max_bytes:
        raise InvalidInput(
            "content",
            f"{size_bytes:,} bytes do not fit into a message of at most {max_bytes:,} bytes",
            reason="IMAGE_TOO_LARGE",
        )


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file of any size, in hexadecimal. Raises OSError."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(2**20):
            digest.update(block)
    return digest.hexdigest()


def _open(path: str, flags: int) -> int:
    return os.open(path, flags | _NO_WAIT)  # a pipe that nobody writes to opens at once


def _read(file: io.FileIO, size_bytes: int, max_bytes: int) -> bytes:
    """To the end, wherever that is by now: files grow, and those of /proc have no size."""
    parts, left = [], max_bytes + 1
    while left > 0 and (part := file.read(min(left, max(size_bytes, 2**16) + 1))):
        parts.append(part)
        left -= len(part)
    content = b"".join(parts) if len(parts) != 1 else parts[0]
    check_size(len(content), max_bytes)
    return content


def _kind(mode: int) -> str:
    if stat.S_ISDIR(mode):
        return "a folder"
    if stat.S_ISFIFO(mode):
        return "a pipe"
    return "a socket" if stat.S_ISSOCK(mode) else "a device"


def _unreadable(path: str | os.PathLike[str], why: str) -> UnreadableFile:
    message = f"{os.fspath(path)} cannot be read: {why}"
    return UnreadableFile(message, reason="FILE_UNREADABLE", field="path")
