"""Who calls, by bearer token, and whether they may; certificates are services.common.tls' job."""

from __future__ import annotations

import hmac
import logging
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from glimpse.errors import PermissionDenied, Unauthenticated, UnusableCredentials
from glimpse.tokens import NAME, SCOPES, digest
from glimpse.transport.file_watcher import FileWatcher

_ENCODER = "/glimpse.encoder.v1.Encoder/"
_INDEXER = "/glimpse.indexer.v1.Indexer/"
_QUERY = "/glimpse.query.v1.Query/"
_CHANNELZ = "/grpc.channelz.v1.Channelz/"

METHOD_SCOPES = {
    f"{_ENCODER}EncodeTexts": "encode",
    f"{_ENCODER}EncodeImages": "encode",
    f"{_ENCODER}GetModel": "encode",
    f"{_INDEXER}IndexImages": "index",
    f"{_INDEXER}BatchIndexImages": "index",
    f"{_INDEXER}DeleteImages": "index",
    f"{_INDEXER}CountImages": "index",
    f"{_INDEXER}ListImages": "index",
    f"{_INDEXER}ImportImages": "index",
    f"{_INDEXER}CreateCollection": "index",  # which IndexImages does as well, if asked to
    f"{_INDEXER}GetCollection": "index",
    f"{_INDEXER}ListCollections": "index",
    f"{_INDEXER}DropCollection": "admin",
    f"{_INDEXER}CreateGeneration": "index",
    f"{_INDEXER}ListGenerations": "index",
    f"{_INDEXER}HoldWrites": "admin",
    f"{_INDEXER}SwitchGeneration": "admin",
    f"{_INDEXER}DropGeneration": "admin",
    f"{_QUERY}Search": "search",
    f"{_QUERY}BatchSearch": "search",
    f"{_QUERY}GetImages": "search",
    f"{_QUERY}GetModel": "search",
}
"""The scope that a token needs for each method. What is not here, nobody may call."""

log = logging.getLogger(__name__)

_SHA256 = re.compile(r"[0-9a-f]{64}")
_BEARER = re.compile(r"[Bb]earer +([\x21-\x7e]{1,1024})")


@dataclass(frozen=True)
class _Entry:
    scopes: frozenset[str]
    digest: bytes
    name: str


class Authenticator:
    """Knows the tokens of a file, which is re-read when it changes; `setting` names it.

    The format is that of glimpse.tokens. Raises UnusableCredentials; a file that is wrong after a
    change leaves the tokens of before in force.
    """

    def __init__(self, path: Path, setting: str) -> None:
        self._entries = FileWatcher(
            {setting: path}, lambda contents: _entries(setting, contents[setting])
        )

    def caller(self, method: str, metadata: Iterable[tuple[str, str | bytes]]) -> str:
        """The name of the token that a call carries, which allows `method`.

        Raises Unauthenticated or PermissionDenied; neither says anything about the token.
        """
        presented = _presented(metadata)
        found = None
        # To the end, and each comparison in constant time: how long it takes tells nothing.
        for entry in self._entries.current():
            if hmac.compare_digest(entry.digest, presented):
                found = entry
        if found is None:
            raise Unauthenticated("the token is unknown", reason="TOKEN_UNKNOWN")
        scope = required_scope(method)
        if scope is None or scope not in found.scopes:
            needed = f"the scope {scope}" if scope else "a scope that no token has"
            raise PermissionDenied(f"the token {found.name} lacks {needed}, which {method} needs")
        return found.name


def required_scope(method: str) -> str | None:
    """The scope that a method needs; None: nobody may call it."""
    return "admin" if method.startswith(_CHANNELZ) else METHOD_SCOPES.get(method)


def _presented(metadata: Iterable[tuple[str, str | bytes]]) -> bytes:
    """The digest of the call's token. Raises Unauthenticated."""
    values = [value for key, value in metadata if key == "authorization"]
    if not values:
        raise Unauthenticated(
            "the call carries no token: send the metadata authorization: Bearer TOKEN",
            reason="TOKEN_MISSING",
        )
    found = _BEARER.fullmatch(values[0]) if isinstance(values[0], str) else None
    if len(values) > 1 or found is None:
        raise Unauthenticated(
            "the call's metadata authorization must be one value, Bearer TOKEN",
            reason="TOKEN_MALFORMED",
        )
    return digest(found.group(1)).encode()


def _entries(setting: str, content: bytes) -> tuple[_Entry, ...]:
    entries = []
    for number, line in enumerate(content.decode(errors="replace").splitlines(), start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        fields = line.split()
        if len(fields) != 3 or not _SHA256.fullmatch(fields[1]) or not NAME.fullmatch(fields[2]):
            # Without the line itself: somebody may have put a token there in place of its hash.
            raise UnusableCredentials(
                f"{setting}: line {number} must be SCOPES SHA-256 NAME, as glimpse token new prints"
            )
        scopes = frozenset(fields[0].split(","))
        if not scopes <= set(SCOPES):
            raise UnusableCredentials(
                f"{setting}: line {number} has scopes other than {', '.join(SCOPES)}"
            )
        entries.append(_Entry(scopes, fields[1].encode(), fields[2]))
    if not entries:
        # As it may be meant, to let nobody in; one that was emptied by mistake looks the same.
        log.warning("%s: holds no token: each call is refused", setting)
    return tuple(entries)
