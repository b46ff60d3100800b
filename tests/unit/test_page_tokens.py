"""Page tokens: what was issued is read, anything else is refused."""

from __future__ import annotations

import hashlib

import pytest

from glimpse.errors import InvalidInput
from services.query.page_tokens import PageTokens

DIGEST = hashlib.sha256(b"a query").digest()
OTHER = hashlib.sha256(b"another query").digest()


def refusal(tokens, token, digest=DIGEST):
    with pytest.raises(InvalidInput) as caught:
        tokens.read(token, digest)
    assert caught.value.field == "page_token"
    return caught.value.reason


@pytest.mark.parametrize("offset", [0, 10, 16_383])
def test_token_gives_back_its_offset(offset):
    tokens = PageTokens("a key")
    assert tokens.read(tokens.issue(offset, DIGEST), DIGEST) == offset


def test_token_of_another_query_is_refused():
    tokens = PageTokens("a key")
    assert refusal(tokens, tokens.issue(10, OTHER)) == "PAGE_TOKEN_MISMATCH"


def test_replicas_with_one_key_read_each_others_tokens():
    assert PageTokens("a key").read(PageTokens("a key").issue(10, DIGEST), DIGEST) == 10


@pytest.mark.parametrize(("one", "another"), [("a key", "another key"), ("", "")])
def test_token_of_another_key_is_refused(one, another):
    token = PageTokens(one).issue(10, DIGEST)
    assert refusal(PageTokens(another), token) == "PAGE_TOKEN_INVALID"


def test_token_changed_in_any_place_is_refused():
    tokens = PageTokens("a key")
    token = tokens.issue(10, DIGEST)
    for place, character in enumerate(token[:-1]):
        changed = token[:place] + ("A" if character != "A" else "B") + token[place + 1 :]
        assert refusal(tokens, changed) == "PAGE_TOKEN_INVALID"


@pytest.mark.parametrize(
    "token", ["a", "====", "é", "not a token", "A" * 70, "A" * 71, "\0", "-_" * 999]
)
def test_what_is_no_token_is_refused(token):
    assert refusal(PageTokens("a key"), token) == "PAGE_TOKEN_INVALID"
