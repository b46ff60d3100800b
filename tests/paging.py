"""Pages over a collection that changes meanwhile: which rows they leave out or repeat."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from random import Random

from glimpse.query.v1 import query_pb2 as pb
from glimpse.query.v1 import query_pb2_grpc
from services.common.deadline import Deadline
from services.vectors.metadata import Metadata
from services.vectors.records import ALL_FIELDS, Row
from services.vectors.store import VectorStore

_TIMEOUT_S = 60.0
_NEW = "-new"  # comes before every other id


@dataclass
class Walk:
    """One query, paged from beginning to end, while rows that were seen are deleted, and copies of
    them are written that come before what is still to be seen."""

    stub: query_pb2_grpc.QueryStub
    store: VectorStore
    request: pb.SearchRequest
    """Its limit is that of a page; options.consistency is set here, for it has to see the rows."""
    seed: int = 0
    max_changes: int = 3
    """Deletions and copies, each, after a page; the hit that it ended with is often among them."""

    async def errors(self) -> list[str]:
        """The ids that came not once; among them rows that were written before the page's place."""
        rng = Random(self.seed)
        expected = await self._all_ids()
        rows = await self._rows(expected)
        seen: Counter[str] = Counter()
        token = ""
        while True:
            page = await self._page(token)
            ids = [hit.id for hit in page.hits]
            seen.update(ids)
            token = page.next_page_token
            if not token:
                break
            await self._change(rng, [*seen], ids, rows)
        return sorted(id for id in {*expected, *seen} if seen[id] != (id in expected))

    async def _change(
        self,
        rng: Random,
        seen: list[str],
        page: list[str],
        rows: dict[str, Row],
    ) -> None:
        name = self.request.collection
        gone = rng.sample(page, min(self.max_changes, len(page) - 1))
        if rng.random() < 0.5:
            gone.append(page[-1])
        copies = [
            replace(rows[id], id=f"{_NEW}/{self.seed}/{rng.getrandbits(64):x}")
            for id in rng.choices(seen, k=self.max_changes)
            if id in rows
        ]
        await self.store.delete_ids(name, gone, deadline=Deadline(_TIMEOUT_S))
        await self.store.upsert(name, copies, deadline=Deadline(_TIMEOUT_S))

    async def _page(self, token: str, **changes: int) -> pb.SearchResponse:
        request = pb.SearchRequest()
        request.CopyFrom(self.request)
        request.options.consistency = pb.CONSISTENCY_STRONG
        request.page_token = token
        for name, value in changes.items():
            setattr(request.options, name, value)
        return await self.stub.Search(request, timeout=_TIMEOUT_S)

    async def _all_ids(self) -> list[str]:
        whole = await self._page("", limit=1_000)
        assert not whole.next_page_token, "more rows than one page holds"
        return [hit.id for hit in whole.hits]

    async def _rows(self, ids: list[str]) -> dict[str, Row]:
        fields = await self.store.fetch(
            self.request.collection, ids, ALL_FIELDS, deadline=Deadline(_TIMEOUT_S)
        )
        return {
            id: Row(id=id, **{**values, "metadata": Metadata.of(values["metadata"])})
            for id, values in fields.items()
        }
