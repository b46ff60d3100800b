"""Page tokens: the hit that a page ended with, where it came from, and the digest of its query,
signed."""

from __future__ import annotations

import asyncio
import base64
import binascii
import dataclasses
import hashlib
import hmac
import secrets
import struct
from collections.abc import Sequence

from glimpse.errors import InvalidInput
from services.query.queries import Given, Options, PageOrigin, Part, PictureFile, Query, Text
from services.vectors.bounds import MAX_WINDOW
from services.vectors.records import Place

_FIELD = "page_token"
# Version, rank and score of the place, digest, number and time of the generation; its id follows.
_HEAD = struct.Struct(">BId32sIQ")
_VERSION = 2
_FIRST_HEAD = struct.Struct(">BId32s")  # of version 1, when collections had one generation
_SIGNATURE_BYTES = 16
_OLD_BYTES = 52  # of a token of offset and digest, whose first byte was 0
# What is longer is hashed in a thread: 256 KiB take a millisecond.
_MAX_INLINE_BYTES = 256 * 1024


class PageTokens:
    """Issues and reads tokens under one key; an empty key is replaced by a random one."""

    def __init__(self, key: str) -> None:
        # Hashed, so that a key of any length and script gives HMAC's 32 bytes.
        self._key = hashlib.sha256(key.encode()).digest() if key else secrets.token_bytes(32)

    def issue(self, place: Place, origin: PageOrigin, digest: bytes) -> str:
        """A token for the page behind `place` of the query with this SHA-256 `digest`."""
        generation, created_at_ms = origin.generation, origin.created_at_ms
        head = _HEAD.pack(_VERSION, place.rank, place.score, digest, generation, created_at_ms)
        body = head + place.id.encode("ascii")
        return base64.urlsafe_b64encode(body + self._signature(body)).decode().rstrip("=")

    def read(self, token: str, digest: bytes) -> tuple[Place, PageOrigin]:
        """The place in a token that issue() gave for `digest`, and where it came from.

        Raises InvalidInput: reason PAGE_TOKEN_MISMATCH for a token of another query,
        PAGE_TOKEN_INVALID for what no replica with this key and of this version issued.
        """
        content = _decoded(token)
        body, signature = content[:-_SIGNATURE_BYTES], content[-_SIGNATURE_BYTES:]
        if len(content) == _OLD_BYTES and content[0] == 0:
            raise _invalid("is of an earlier version of this service: begin with the first page")
        form = _HEAD if body[:1] == bytes((_VERSION,)) else _FIRST_HEAD
        if len(body) < form.size or not hmac.compare_digest(signature, self._signature(body)):
            raise _invalid("is not a token of this service")
        _, rank, score, issued_for, *of = form.unpack_from(body)
        if not hmac.compare_digest(issued_for, digest):
            raise InvalidInput(
                _FIELD,
                "belongs to another query: only options.limit may change between pages",
                reason="PAGE_TOKEN_MISMATCH",
            )
        place = Place(rank, score, body[form.size :].decode("ascii"))
        return place, PageOrigin(*of) if of else PageOrigin(0, 0)

    def resume(self, token: str, digest: bytes, options: Options) -> Options:
        """The options of the page that the token stands for; raises InvalidInput as read() does."""
        if options.offset:
            raise InvalidInput("options.offset", f"must be 0 where {_FIELD} is set")
        place, origin = self.read(token, digest)
        limit = min(options.limit, MAX_WINDOW - place.rank)
        return dataclasses.replace(options, after=place, origin=origin, limit=limit)

    def _signature(self, body: bytes) -> bytes:
        return hmac.digest(self._key, body, "sha256")[:_SIGNATURE_BYTES]


async def digest_of(collection: str, query: Query, options: Options) -> bytes:
    """SHA-256 of all that must stay the same from page to page: not of limit and offset."""
    contents = [_content_of(term.part) for term in query.terms]
    if sum(map(len, contents)) > _MAX_INLINE_BYTES:
        return await asyncio.to_thread(_digest, collection, query, options, contents)
    return _digest(collection, query, options, contents)


def _digest(
    collection: str, query: Query, options: Options, contents: Sequence[bytes | memoryview]
) -> bytes:
    same = dataclasses.replace(options, limit=1, offset=0, after=None, origin=None)
    digest = hashlib.sha256(repr((collection, same)).encode())
    for term, content in zip(query.terms, contents, strict=True):
        digest.update(repr((term.part.field, term.weight)).encode())
        digest.update(hashlib.sha256(content).digest())
    return digest.digest()


def _content_of(part: Part) -> bytes | memoryview:
    """What the part looks for, without copying what is large."""
    if isinstance(part, PictureFile):
        return part.content
    if isinstance(part, Given):
        return part.vector.data.cast("B")
    return (part.text if isinstance(part, Text) else part.id).encode()


def _invalid(problem: str) -> InvalidInput:
    return InvalidInput(_FIELD, problem, reason="PAGE_TOKEN_INVALID")


def _decoded(token: str) -> bytes:
    try:
        padded = token.encode("ascii") + b"=" * (-len(token) % 4)
        return base64.b64decode(padded, altchars=b"-_", validate=True)
    except (UnicodeEncodeError, binascii.Error):
        return b""
