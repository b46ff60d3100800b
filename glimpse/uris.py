"""A file's path as the uri of its row, and the file that such a uri means."""

from __future__ import annotations

import os
import re
from pathlib import Path
from urllib.parse import unquote_to_bytes, urlsplit

# What the indexer's contract does not take in a uri: control characters, and what is not UTF-8.
_UNSAYABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_FILE = "file://"


def uri_of(path: str | os.PathLike[str]) -> str:
    """The absolute path; as a file:// URL, percent-encoded, where text cannot hold its name."""
    text = os.path.abspath(path)
    # As most names are; looking for what cannot be said takes ten times as long.
    if text.isprintable():
        return text
    return Path(text).as_uri() if _UNSAYABLE.search(text) else text


def path_of(uri: str) -> Path | None:
    """The file on this machine that a uri means, byte for byte; None for any other URL, and ""."""
    if uri[: len(_FILE)].lower() == _FILE:
        path = os.fsdecode(unquote_to_bytes(urlsplit(_one_line(uri)).path))
        return Path(path[1:] if re.match(r"/[A-Za-z]:", path) else path)  # /C:/… is a drive's
    return Path(uri) if uri and "://" not in uri else None


def _one_line(uri: str) -> str:
    """Without what urlsplit takes for a query or a fragment: a path has none."""
    return uri.replace("?", "%3F").replace("#", "%23")
