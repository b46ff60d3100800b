"""Pictures in object stores and wherever else fsspec reaches: listed and read by URL; alone imports
fsspec, which comes with the extra `s3`."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from glimpse.errors import UnreadableFile

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")  # two letters at least: C:// is a drive
_MAGIC = frozenset("*?[")


def is_url(text: str) -> bool:
    """Whether `text` is a URL, as opposed to a path."""
    return _URL.match(text) is not None


def read(url: str) -> bytes:
    """The object's bytes. Raises UnreadableFile."""
    files, path = _open(url)
    try:
        return files.cat_file(path)
    except Exception as error:  # a file system raises whatever its own library does
        raise _unreadable(url, error) from error


def find(url: str, is_wanted: Callable[[str], bool]) -> list[str]:
    """URLs of the objects that `url` stands for, sorted; empty if there is none.

    A folder stands for what is below it and wanted, told by the path from there; a pattern (with *,
    ? or [; ** for any depth) for the objects that it matches; an object for itself. Raises
    UnreadableFile.
    """
    files, path = _open(url)
    try:
        if _MAGIC.intersection(path):
            found = [name for name in files.glob(path) if files.isfile(name)]
        else:
            found = files.find(path)
            if found != [path]:
                found = [name for name in found if is_wanted(name[len(path) :])]
            if not found:
                files.info(path)  # finds out why, where it is for no lack of pictures
    except Exception as error:
        if _is_missing(error):
            return []
        raise _unreadable(url, error) from error
    return sorted(str(files.unstrip_protocol(name)) for name in found)


def _open(url: str) -> tuple[Any, str]:
    try:
        from fsspec.core import url_to_fs
    except ImportError as error:
        raise _missing(url, "fsspec is not installed") from error
    try:
        return url_to_fs(url)
    except ImportError as error:
        raise _missing(url, str(error)) from error
    except Exception as error:
        raise _unreadable(url, error) from error


def _missing(url: str, why: str) -> UnreadableFile:
    return UnreadableFile(
        f"{url} cannot be read: {why}; what s3:// needs comes with: pip install fsspec s3fs",
        reason="EXTRA_MISSING",
        field="url",
    )


def _unreadable(url: str, error: Exception) -> UnreadableFile:
    if _is_missing(error):
        why = "no such object"
    else:
        cause = error.__cause__ if isinstance(error, FileNotFoundError) else error
        why = str(cause) or type(cause).__name__
    return UnreadableFile(f"{url} cannot be read: {why}", reason="FILE_UNREADABLE", field="url")


def _is_missing(error: Exception) -> bool:
    """Whether nothing is there. fsspec's HTTP also says so where nobody answers, and why only in
    the error's cause: one of the connection, or an answer with another status than 404."""
    cause = error.__cause__
    unreached = isinstance(cause, OSError) and not isinstance(cause, FileNotFoundError)
    refused = getattr(cause, "status", 404) != 404
    return isinstance(error, FileNotFoundError) and not (unreached or refused)
