"""Page tokens: where the next page of a query starts, signed; the query's digest is not its job."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import secrets
import struct

from glimpse.errors import InvalidInput

_FIELD = "page_token"
_BODY = struct.Struct(">I32s")  # offset of the next page, digest of the query
_SIGNATURE_BYTES = 16
_TOKEN_BYTES = _BODY.size + _SIGNATURE_BYTES


class PageTokens:
    """Issues and reads tokens under one key; an empty key is replaced by a random one."""

    def __init__(self, key: str) -> None:
        # Hashed, so that a key of any length and script gives HMAC's 32 bytes.
        self._key = hashlib.sha256(key.encode()).digest() if key else secrets.token_bytes(32)

    def issue(self, offset: int, digest: bytes) -> str:
        """A token for the page that starts at `offset` of the query with this SHA-256 `digest`."""
        body = _BODY.pack(offset, digest)
        return base64.urlsafe_b64encode(body + self._signature(body)).decode().rstrip("=")

    def read(self, token: str, digest: bytes) -> int:
        """The offset in a token that issue() gave for `digest`.

        Raises InvalidInput: reason PAGE_TOKEN_MISMATCH for a token of another query,
        PAGE_TOKEN_INVALID for what no replica with this key issued.
        """
        content = _decoded(token)
        body, signature = content[: _BODY.size], content[_BODY.size :]
        genuine = len(content) == _TOKEN_BYTES and hmac.compare_digest(
            signature, self._signature(body)
        )
        if not genuine:
            raise InvalidInput(
                _FIELD, "is not a token of this service", reason="PAGE_TOKEN_INVALID"
            )
        offset, issued_for = _BODY.unpack(body)
        if not hmac.compare_digest(issued_for, digest):
            raise InvalidInput(
                _FIELD,
                "belongs to another query: only options.limit may change between pages",
                reason="PAGE_TOKEN_MISMATCH",
            )
        return offset

    def _signature(self, body: bytes) -> bytes:
        return hmac.digest(self._key, body, "sha256")[:_SIGNATURE_BYTES]


def _decoded(token: str) -> bytes:
    try:
        padded = token.encode("ascii") + b"=" * (-len(token) % 4)
        return base64.b64decode(padded, altchars=b"-_", validate=True)
    except (UnicodeEncodeError, binascii.Error):
        return b""
