"""Page tokens: what was issued is read, anything else is refused."""

from __future__ import annotations

import base64
import hashlib
import hmac
import struct

import numpy as np
import pytest

from glimpse.errors import InvalidInput
from services.query.bounds import MAX_PAGE_TOKEN_CHARACTERS
from services.query.page_tokens import PageTokens, digest_of
from services.query.queries import (
    Given,
    IndexedImage,
    Options,
    PageOrigin,
    PictureFile,
    Query,
    Text,
    WeightedPart,
)
from services.vectors.records import Place

PLACE = Place(10, 0.123456, "a/picture.jpg")
ORIGIN = PageOrigin(3, 1_700_000_000_000)
DIGEST = hashlib.sha256(b"a query").digest()
OTHER = hashlib.sha256(b"another query").digest()


def refusal(tokens, token, digest=DIGEST):
    with pytest.raises(InvalidInput) as caught:
        tokens.read(token, digest)
    assert caught.value.field == "page_token"
    return caught.value.reason


@pytest.mark.parametrize(
    "place", [PLACE, Place(1, -1.0, "a"), Place(16_383, 1.0, "A.:/-_" * 21 + "zz")]
)
def test_token_gives_back_its_place_and_is_no_longer_than_is_taken(place):
    tokens = PageTokens("a key")
    token = tokens.issue(place, ORIGIN, DIGEST)
    assert tokens.read(token, DIGEST) == (place, ORIGIN)
    assert len(token) <= MAX_PAGE_TOKEN_CHARACTERS


def test_token_of_an_offset_is_refused_as_one_of_an_earlier_version():
    old = base64.urlsafe_b64encode(struct.pack(">I32s16s", 10, DIGEST, b"s" * 16)).decode()
    with pytest.raises(InvalidInput, match=r"earlier version.*first page") as caught:
        PageTokens("a key").read(old.rstrip("="), DIGEST)
    assert caught.value.reason == "PAGE_TOKEN_INVALID"


def test_token_of_another_query_is_refused():
    tokens = PageTokens("a key")
    assert refusal(tokens, tokens.issue(PLACE, ORIGIN, OTHER)) == "PAGE_TOKEN_MISMATCH"


def test_replicas_with_one_key_read_each_others_tokens():
    token = PageTokens("a key").issue(PLACE, ORIGIN, DIGEST)
    assert PageTokens("a key").read(token, DIGEST) == (PLACE, ORIGIN)


def test_token_of_a_release_without_generations_is_one_of_the_first_generation():
    body = struct.pack(">BId32s", 1, PLACE.rank, PLACE.score, DIGEST) + PLACE.id.encode()
    signature = hmac.digest(hashlib.sha256(b"a key").digest(), body, "sha256")[:16]
    token = base64.urlsafe_b64encode(body + signature).decode().rstrip("=")
    assert PageTokens("a key").read(token, DIGEST) == (PLACE, PageOrigin(0, 0))


@pytest.mark.parametrize(("one", "another"), [("a key", "another key"), ("", "")])
def test_token_of_another_key_is_refused(one, another):
    token = PageTokens(one).issue(PLACE, ORIGIN, DIGEST)
    assert refusal(PageTokens(another), token) == "PAGE_TOKEN_INVALID"


def test_token_changed_in_any_place_is_refused():
    tokens = PageTokens("a key")
    token = tokens.issue(PLACE, ORIGIN, DIGEST)
    for place, character in enumerate(token[:-1]):
        changed = token[:place] + ("A" if character != "A" else "B") + token[place + 1 :]
        assert refusal(tokens, changed) == "PAGE_TOKEN_INVALID"


@pytest.mark.parametrize(
    "token", ["a", "====", "é", "not a token", "A" * 70, "A" * 71, "\0", "-_" * 999]
)
def test_what_is_no_token_is_refused(token):
    assert refusal(PageTokens("a key"), token) == "PAGE_TOKEN_INVALID"


def one(part, weight=1.0, field="weighted_sum.terms[0]"):
    return Query("weighted_sum", (WeightedPart(field, part, weight),))


DIFFERENT = [
    ("c", one(Text("text", "dog")), Options()),
    ("d", one(Text("text", "dog")), Options()),
    ("c", one(Text("text", "cat")), Options()),
    ("c", one(Text("text", "dog"), 2.0), Options()),
    ("c", one(IndexedImage("image_id", "dog")), Options()),
    ("c", one(PictureFile("image", b"dog")), Options()),
    ("c", one(PictureFile("image", b"x" * 2**20)), Options()),
    ("c", one(PictureFile("image", b"x" * 2**20 + b"y")), Options()),
    ("c", one(Given("vector.values", np.ones(4, np.float32))), Options()),
    ("c", one(Given("vector.values", np.full(4, 2, np.float32))), Options()),
    ("c", one(Text("text", "dog")), Options(filter="width > 1")),
    ("c", one(Text("text", "dog")), Options(min_score=0.5)),
    ("c", one(Text("text", "dog")), Options(fields=("uri",))),
    ("c", one(Text("text", "dog")), Options(strong=True)),
    ("c", one(Text("text", "dog")), Options(prompt_template="a {}")),
    ("c", one(Text("text", "dog")), Options(include_query_images=True)),
]


async def test_different_queries_have_different_digests_and_equal_ones_the_same():
    digests = [await digest_of(*each) for each in DIFFERENT]
    assert len(set(digests)) == len(digests)
    assert digests == [await digest_of(*each) for each in DIFFERENT]


async def test_a_digest_holds_for_every_page_of_a_query():
    query = one(Text("text", "dog"))
    pages = [Options(), Options(limit=5), Options(limit=7, offset=300)]
    pages += [Options(after=PLACE), Options(after=PLACE, origin=ORIGIN)]
    assert len({await digest_of("c", query, page) for page in pages}) == 1
