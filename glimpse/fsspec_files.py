"""Pictures in object stores and wherever else fsspec reaches: listed and read by URL; alone imports
fsspec, which comes with the extra `s3`."""

from __future__ import annotations

import re
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

from glimpse.backoff import backoff_s
from glimpse.errors import UnreadableFile
from glimpse.files import check_size

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")  # two letters at least: C:// is a drive
_LISTED_AT_ONCE = 1_000  # as many as a page of S3 has
_MAX_ATTEMPTS = 4
_FIRST_PAUSE_S = 0.25
_KINDS = {"file": "file", "directory": "folder", "link": "link"}
# What is listed is not kept: nobody asks twice, and a million names are many. botocore opens ten
# connections at most unless told otherwise.
_S3 = {"use_listings_cache": False, "config_kwargs": {"max_pool_connections": 256}}
_OPTIONS: dict[str, dict[str, Any]] = {"s3": _S3, "s3a": _S3}


def is_url(text: str) -> bool:
    """Whether `text` is a URL, as opposed to a path."""
    return _URL.match(text) is not None


def read(url: str, max_bytes: int | None = None) -> bytes:
    """The object's bytes, in one request; tried again where that may help.

    Raises UnreadableFile, and InvalidInput for more than `max_bytes`, of which one more is read.
    """
    files, path = _open(url)
    attempt = 1
    while True:
        try:
            content = _content(files, path, max_bytes)
            break
        except Exception as error:  # a file system raises whatever its own library does
            if attempt == _MAX_ATTEMPTS or _is_final(error):
                raise _unreadable(url, error) from error
        time.sleep(backoff_s(attempt, _FIRST_PAUSE_S))
        attempt += 1
    if max_bytes is not None:
        check_size(len(content), max_bytes)
    return content


def _content(files: Any, path: str, max_bytes: int | None) -> bytes:
    if max_bytes is None:
        return files.cat_file(path)
    try:
        return files.cat_file(path, start=0, end=max_bytes + 1)
    except Exception:
        if files.info(path).get("size") == 0:  # of nothing, no store gives a range
            return b""
        raise


class UrlTree:
    """Folders and objects behind one URL as a walk sees them; paths are the file system's own."""

    sorted_at_once = _LISTED_AT_ONCE

    def __init__(self, url: str) -> None:
        """Raises UnreadableFile for a URL that no installed package knows."""
        self._files, self.root = _open(url)
        self._url = url

    def kind(self, path: str) -> str:
        """What a path is: "file", "folder", or "" where nothing is. Raises UnreadableFile."""
        if path.endswith("/"):  # on a web server, where all are pages
            return "folder"
        try:
            info = self._files.info(path)
        except Exception as error:
            if _is_missing(error):
                return ""
            raise _unreadable(self._url, error) from error
        return "folder" if info["type"] == "directory" else "file"

    def entries(self, folder: str) -> Iterator[tuple[str, str]]:
        """Name and kind ("file", "folder", "link" or "special") of what is in a folder; of S3, each
        page as it is needed.

        Raises UnreadableFile.
        """
        start = folder.rstrip("/") + "/"
        try:
            for each in self._listed(folder):
                path = each["name"].rstrip("/")
                name = path.removeprefix(start)
                # Some stores list the folder itself, web servers whatever a page links to.
                if name and name != path and "/" not in name:
                    yield name, _KINDS.get(each["type"], "special")
        except Exception as error:
            raise _unreadable(str(self._files.unstrip_protocol(folder)), error) from error

    def _listed(self, folder: str) -> Iterator[dict[str, Any]]:
        """What fsspec says of what is in a folder: all at once, unless the file system is s3fs,
        the only one that gives it in parts."""
        files = self._files
        bucket, key, _ = files.split_path(folder) if hasattr(files, "_iterdir") else ("", "", None)
        if not bucket:
            yield from files.ls(folder, detail=True)
            return
        from fsspec.asyn import sync

        prefix = key.rstrip("/") + "/" if key else ""
        listing = files._iterdir(bucket, delimiter="/", prefix=prefix)
        waited: Any = sync  # which is annotated as if it returned nothing
        while some := waited(files.loop, _next_of, listing):
            yield from some

    def join(self, folder: str, name: str) -> str:
        """The path of what is called `name` in a folder."""
        return f"{folder.rstrip('/')}/{name}"

    def is_new(self, folder: str) -> bool:
        """Whether a walk has not been there: stores have no links that lead in circles."""
        return True

    def picture(self, path: str) -> str:
        """The URL of an object."""
        return str(self._files.unstrip_protocol(path))


async def _next_of(listing: AsyncIterator[dict[str, Any]]) -> list[dict[str, Any]]:
    """The next ones, not more than are listed at once; none at the end."""
    some = []
    async for each in listing:
        some.append(each)
        if len(some) == _LISTED_AT_ONCE:
            break
    return some


def _open(url: str) -> tuple[Any, str]:
    try:
        from fsspec.core import url_to_fs
    except ImportError as error:
        raise _missing(url, "fsspec is not installed") from error
    try:
        return url_to_fs(url, **_OPTIONS.get(url.partition("://")[0], {}))
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


def _is_final(error: Exception) -> bool:
    """Whether another try would end the same way."""
    known = (PermissionError, IsADirectoryError, NotImplementedError, ValueError)
    status = getattr(error.__cause__ or error, "status", 0)
    return (
        _is_missing(error)
        or isinstance(error, known)
        or (400 <= status < 500 and status not in (408, 425, 429))
    )


def _is_missing(error: Exception) -> bool:
    """Whether nothing is there. fsspec's HTTP also says so where nobody answers, and why only in
    the error's cause: one of the connection, or an answer with another status than 404."""
    cause = error.__cause__
    unreached = isinstance(cause, OSError) and not isinstance(cause, FileNotFoundError)
    refused = getattr(cause, "status", 404) != 404
    return isinstance(error, FileNotFoundError) and not (unreached or refused)
