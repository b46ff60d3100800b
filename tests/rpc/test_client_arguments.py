"""What is wrong with a call's arguments is found where they are given, by the argument's name."""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np
import pytest

from glimpse import AsyncClient, Client, ImageFile, Term, errors
from glimpse.query.v1 import query_pb2
from tests.scripted import NOBODY, Indexer, Query, numbered, serve


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        (("c", 5), {}, r"^text: must be str \| None, not int$"),
        ((5, "a dog"), {}, "^collection: must be str, not int$"),
        (("c", "a dog"), {"limit": "3"}, "^limit: must be int, not str$"),
        (("c", "a dog"), {"limit": True}, "^limit: must be int, not bool$"),
        (("c", "a dog"), {"strong": "no"}, "^strong: must be bool, not str$"),
        (("c", "a dog"), {"timeout_s": "5"}, "^timeout_s: must be float"),
        (("c", "a dog"), {"output_fields": "uri"}, r"^output_fields: must be Sequence\[str\], not"),
        (("c", "a dog"), {"output_fields": ["uri", 5]}, "not list of int, str$"),
        (("c", "a dog"), {"filter": {"width": 1}}, "^filter: must be str"),
        (("c",), {"terms": ["a dog"]}, r"^terms: must be Sequence\[Term\]"),
        (("c",), {"vector": [1.0, None]}, "^vector: must be a list of numbers$"),
    ],
)
def test_a_wrong_type_is_named(connect, arguments, options, message):
    with connect(NOBODY, NOBODY) as client, pytest.raises(TypeError, match=message):
        client.search(*arguments, **options)


def test_ids_are_a_list_of_texts_and_no_text(connect):
    with connect(NOBODY, NOBODY) as client:
        with pytest.raises(TypeError, match=r"^ids: "):
            client.delete("c", ids="abc")
        with pytest.raises(TypeError, match=r"^ids: "):
            client.get_images("c", [1, 2])
        with pytest.raises(TypeError, match=r"^ids: "):
            list(client.list_images("c", ids="abc"))
        with pytest.raises(ValueError, match=r"^give either ids or filter$"):
            list(client.list_images("c", "width > 1", ids=["a"]))
        with pytest.raises(TypeError, match=r"^queries: "):
            client.batch_search("c", "a dog")


def test_pictures_to_index_are_image_files(connect):
    with serve(indexer=Indexer()) as target, connect(NOBODY, target) as client:
        wrong = pytest.raises(TypeError, match=r"^images: must hold ImageFile, not PosixPath")
        with wrong, client.index("c", [Path("a.jpg")]) as ingest:
            list(ingest)
        with client.index("c", numbered(2)) as ingest:
            assert len(list(ingest)) == 2
    with pytest.raises(TypeError, match=r"^metadata: must be Mapping\[str, Any\], not str"):
        ImageFile(content=b"x", metadata="a dog")
    with pytest.raises(TypeError, match=r"^weight: must be float, not str"):
        Term(text="a dog", weight="1")


def test_numbers_of_numpy_and_paths_as_texts_are_taken(connect, tmp_path):
    (tmp_path / "p.jpg").write_bytes(b"picture")
    query = Query(query_pb2.SearchResponse())
    with serve(query=query) as target, connect(target, NOBODY) as client:
        vector = np.ones(3, np.float32)
        client.search("c", vector=vector, limit=np.int64(3), min_score=np.float32(0.5))
        client.search("c", image=str(tmp_path / "p.jpg"))
    assert list(query.requests[0].vector.values) == [1, 1, 1]
    assert query.requests[0].options.limit == 3
    assert query.requests[1].image == b"picture"
    assert ImageFile(path=str(tmp_path / "p.jpg")).read() == b"picture"


@pytest.mark.parametrize(
    "address",
    [
        "",
        "localhost",
        "http://localhost:50053",
        "::1:50053",
        "localhost:",
        "localhost:0",
        "a:70000",
    ],
)
def test_what_is_no_address_is_refused_at_once(connect, address):
    with pytest.raises(
        errors.InvalidInput, match=r"^query: must be HOST:PORT, such as 127"
    ) as caught:
        connect(address)
    assert caught.value.field == "query"
    with pytest.raises(errors.InvalidInput, match=r"^indexer: must be HOST:PORT"):
        connect(NOBODY, address)


@pytest.mark.parametrize(
    "address", ["[::1]:5", "dns:///glimpse:5", "ipv4:10.0.0.1:5,10.0.0.2:5", "unix:/run/glimpse"]
)
def test_every_form_that_leads_somewhere_is_taken(connect, address):
    with connect(address, address):
        pass


def test_constructor_names_what_is_of_a_wrong_type():
    for kind in (Client, AsyncClient):
        with pytest.raises(TypeError, match=r"^query: must be str, not int"):
            kind(50053)
        with pytest.raises(TypeError, match=r"^timeout_s: must be float, not str"):
            kind(NOBODY, timeout_s="5")


async def test_a_closed_client_says_so():
    with Client(NOBODY, NOBODY) as client:
        pass
    with pytest.raises(RuntimeError, match=r"this Client is closed"):
        client.search("c", "a dog")
    async with AsyncClient(NOBODY, NOBODY) as client:
        pass
    with pytest.raises(RuntimeError, match=r"this AsyncClient is closed"):
        await client.search("c", "a dog")
    with pytest.raises(RuntimeError, match=r"this AsyncClient is closed"):
        client.index("c", [])


def test_an_asyncio_client_may_be_made_before_its_loop_and_belongs_to_one():
    query = Query(query_pb2.SearchResponse(next_page_token="here"))
    with serve(query=query) as target:
        client = AsyncClient(target, NOBODY)

        async def search():
            return (await client.search("c", "a dog")).next_page_token

        async def search_and_close():
            try:
                return await search()
            finally:
                await client.close()

        assert asyncio.run(search_and_close()) == "here"
        again = AsyncClient(target, NOBODY)
        client = again
        assert asyncio.run(search()) == "here"
        with pytest.raises(RuntimeError, match=r"belongs to another event loop"):
            asyncio.run(search())


def test_a_name_that_cannot_be_resolved_is_told_as_such(connect):
    unresolved = pytest.raises(errors.Unavailable, match=r"its name cannot be resolved")
    with connect("no-such-host.invalid:5", NOBODY) as client, unresolved as caught:
        client.search("c", "a dog")
    assert caught.value.reason == "NAME_UNRESOLVED"
