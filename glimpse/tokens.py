"""Bearer tokens: how one is made, and the line that stands for it in a service's tokens file; who
may do what with it is the service's decision.

A tokens file has one line for each token, `SCOPES SHA-256 NAME`, such as

    search,index 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08 web-backend

Empty lines and those that start with # do not count. Only the token's SHA-256 is kept: a token has
256 random bits, so that nobody finds it from its hash, and no slow hash is needed.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Sequence

SCOPES = ("search", "index", "admin", "encode")
"""What a token may allow: to search; to write, delete and list; to drop collections and look into
the server; to use the encoder, which only services do."""

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
"""What a token's name looks like; it stands in logs."""


def new_token() -> str:
    """A fresh token, 51 characters of ASCII."""
    return f"glimpse_{secrets.token_urlsafe(32)}"


def digest(token: str) -> str:
    """What is kept of a token: its SHA-256, 64 hexadecimal digits."""
    return hashlib.sha256(token.encode()).hexdigest()


def line(token: str, scopes: Sequence[str], name: str) -> str:
    """The token's line in a tokens file. Raises ValueError."""
    wrong = [scope for scope in scopes if scope not in SCOPES]
    if wrong or not scopes:
        given = repr(wrong[0]) if wrong else "nothing"
        raise ValueError(f"scopes: must be of {', '.join(SCOPES)}, not {given}")
    if not NAME.fullmatch(name):
        raise ValueError(
            "name: must be 1 to 64 ASCII letters, digits, dots, hyphens and underscores, the first "
            f"a letter or digit, not {name!r}"
        )
    return f"{','.join(scopes)} {digest(token)} {name}"
