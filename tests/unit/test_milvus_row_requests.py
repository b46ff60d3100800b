"""How rows are cut into requests, and how these go."""

from __future__ import annotations

import asyncio
import json

import numpy as np
import pytest

from glimpse.errors import Unavailable
from services.vectors.metadata import Metadata
from services.vectors.milvus import row_requests
from services.vectors.milvus.connection import Backend
from services.vectors.records import Row
from tests.waiting import started


class Call:
    """Answers upserts once `open` is set; fails the one that holds the row `failing`."""

    collection = "pictures"

    def __init__(self, failing="", kind="server"):
        self.kind = kind
        self.most_under_way = 0
        self.open = asyncio.Event()
        self.failing = failing
        self.under_way = 0
        self.taken = []

    async def backend(self):
        return Backend(self.kind, "1")

    async def __call__(self, method, collection, request):
        assert (method, collection) == ("upsert", "pictures")
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        try:
            (ids,) = (
                list(column.scalars.string_data.data)
                for column in request.fields_data
                if column.field_name == "id"
            )
            if self.failing in ids:
                raise Unavailable("gone")
            await self.open.wait()
            self.taken += ids
            return {"upsert_count": len(ids)}
        finally:
            self.under_way -= 1


ROWS = [Row(id=f"p{i}", vector=np.zeros(2, np.float32)) for i in range(5_200)]


async def test_requests_of_one_write_go_side_by_side():
    call = Call()
    writing = await started(row_requests.write(call, ROWS))
    assert call.under_way == 6
    call.open.set()
    await writing
    assert sorted(call.taken) == sorted(row.id for row in ROWS)


async def test_requests_of_one_write_to_lite_leave_room_for_others_between_them():
    call = Call(kind="lite")
    call.open.set()
    await row_requests.write(call, ROWS)
    assert call.most_under_way == 1
    assert call.taken == [row.id for row in ROWS]


async def test_a_write_that_fails_leaves_no_request_under_way():
    call = Call(failing="p1")
    writing = await started(row_requests.write(call, ROWS))
    assert call.under_way == 5
    assert not writing.done()
    call.open.set()
    with pytest.raises(Unavailable):
        await writing
    assert call.under_way == 0
    assert len(call.taken) == 4_200


def test_a_batch_of_large_rows_is_cut_by_their_size_and_keeps_the_order():
    vector = np.zeros(32_768, np.float32)
    metadata = Metadata.of({"k": "v" * 16_000})
    rows = [Row(f"{i}", vector, uri="犬" * 2_048, metadata=metadata) for i in range(70)]

    batches = list(row_requests.batches(rows))

    assert [row for batch in batches for row in batch] == rows
    sizes = [sum(vector.nbytes + 3 * 2_048 + 16_000 for _ in batch) for batch in batches]
    assert 2**21 < max(sizes) < 2**22


def test_many_small_rows_are_cut_by_their_number():
    rows = [Row(f"{i}", np.zeros(4, np.float32)) for i in range(2_001)]
    assert [len(batch) for batch in row_requests.batches(rows)] == [1_000, 1_000, 1]


class Listing:
    """A server that gives the rows behind an id, in pieces of any size, before it gives none."""

    collection, expression = "pictures", ""

    def __init__(self, *ids, piece):
        self.ids, self.piece = ids, piece
        self.limits = []

    async def backend(self):
        return Backend("server", "v2.3.5")

    async def __call__(self, method, collection, *, filter, limit, **options):
        assert (method, collection, options["reduce_stop_for_best"]) == ("query", "pictures", True)
        self.limits.append(limit)
        behind = json.loads(filter.removeprefix("id > "))
        rest = [identity for identity in self.ids if identity > behind]
        return [{"id": identity} for identity in rest[: self.piece]]


async def listed(server, limit, after_id="", given=None):
    given = {} if given is None else given
    rows = await row_requests.list_rows(server, limit, (), after_id, "strong", given)
    return "".join(identity for identity, _ in rows)


async def test_a_server_that_gives_more_than_was_asked_for_is_asked_for_fewer():
    """Each of its segments gives as many: rows beyond the limit would be read in vain."""
    given = {}
    server = Listing(*"abcdefghijkl", piece=9)
    assert await listed(server, 3, given=given) == "abc"
    server.piece = 3
    assert await listed(server, 3, "c", given) == "def"
    assert server.limits == [3, 1]
    server.piece = 1  # its segments were merged
    assert await listed(server, 3, "f", given) == "g"
    server.piece = 3
    assert await listed(server, 3, "g", given) == "hij"
    assert server.limits == [3, 1, 1, 3]


async def test_a_short_answer_of_a_server_says_nothing_of_its_segments():
    given = {}
    server = Listing("a", "b", "c", "d", "e", piece=2)
    assert await listed(server, 4, given=given) == "ab"
    assert await listed(server, 4, "b", given) == "cd"
    assert server.limits == [4, 4]
