"""The interface of the vector store; how rows are stored is the backends' job."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from services.common.deadline import Deadline
from services.vectors.filters import AnyFilter
from services.vectors.records import (
    CollectionInfo,
    CollectionSpec,
    Consistency,
    Place,
    Row,
    ScoredRow,
    StoredGeneration,
)


class VectorStore(Protocol):
    """Collections of rows, searched by vector.

    Every call takes a `deadline`, and ends before it. Besides the errors that a method names, every
    one raises InvalidInput (a bound is broken; names the field), NotFound (reason
    COLLECTION_NOT_FOUND), FailedPrecondition (reason FOREIGN_COLLECTION: a collection that we did
    not make; or a backend that does not write until somebody has mended it), Unavailable (the
    backend is gone, or failed), Overloaded (a quota of the backend) and DeadlineExceeded.

    `filter` is a typed filter or a Milvus expression over uri, width, height, format,
    indexed_at_ms, content_sha256, id and metadata["…"]; a wrong one raises InvalidInput("filter")
    with the reason. `fields` are names of ALL_FIELDS; the id always comes.

    A collection has generations, of which one serves: the one that its name means. Calls that
    belong together, such as a vector's and its search's, go to one by CollectionSpec.address,
    which means it whichever serves when they come.
    """

    async def ready(self, *, deadline: Deadline) -> None:
        """Waits until the backend answers; Unavailable if it does not before the deadline."""
        ...

    async def create_collection(self, spec: CollectionSpec, *, deadline: Deadline) -> None:
        """Makes a collection that can be searched at once; AlreadyExists if the name is taken."""
        ...

    async def create_generation(
        self, spec: CollectionSpec, *, deadline: Deadline
    ) -> CollectionSpec:
        """Makes a further, empty generation of a collection; it does not serve.

        `spec` is as of a new collection; the number of what was made is behind those of all that
        are there. AlreadyExists where the name of another collection is in the way.
        """
        ...

    async def list_generations(self, name: str, *, deadline: Deadline) -> list[StoredGeneration]:
        """A collection's generations, by their numbers; none if there is no such collection."""
        ...

    async def switch_generation(self, name: str, number: int, *, deadline: Deadline) -> None:
        """Has a generation serve from now on, in one step; it is in memory then.

        NotFound (GENERATION_NOT_FOUND) if it is not there. Other processes go on with the one that
        served for as long as they trust what they know, see get_spec.
        """
        ...

    async def hold_writes(self, name: str, until_ms: int, *, deadline: Deadline) -> None:
        """Has get_spec say, from then on, until when writes to what serves are not to be
        acknowledged, in milliseconds since 1970; whoever writes has to ask. Stops no write.

        By a generation's address, those to that one. 0, as any time that is over, ends it.
        """
        ...

    async def drop_generation(self, name: str, number: int, *, deadline: Deadline) -> None:
        """Drops a generation; FailedPrecondition (GENERATION_SERVES) for the one that serves,
        NotFound (GENERATION_NOT_FOUND) if it is not there."""
        ...

    async def describe_collection(
        self, name: str, *, deadline: Deadline, load: bool = True, exact: bool = True
    ) -> CollectionInfo:
        """With `exact`, counts the rows, for which the collection is brought into memory only with
        `load`; without, nothing is counted, loaded, or waited for."""
        ...

    async def get_spec(
        self, name: str, *, deadline: Deadline, max_age_s: float = 0.0
    ) -> CollectionSpec:
        """What serves was made of; far cheaper than describe_collection, which counts.

        The backend was asked at most `max_age_s` before this call; callers whom that suits share a
        question that is under way. A call on the collection whose answer shows that it was dropped,
        or made anew with another dimension, makes the store forget what it knew.
        """
        ...

    async def list_collections(
        self, *, deadline: Deadline, after: str = "", limit: int | None = None
    ) -> list[str]:
        """The names of our collections, sorted, each once, however many generations it has; those
        that others made are left out.

        Of those that come after the name `after`, the first `limit`. One of which the backend
        cannot say whose it is counts as ours.
        """
        ...

    async def drop_collection(self, name: str, *, deadline: Deadline) -> None:
        """Drops a collection with all its generations."""
        ...

    async def upsert(self, name: str, rows: Sequence[Row], *, deadline: Deadline) -> None:
        """Writes rows, replacing those of the same id; of one id given twice, the last stays.

        Returns when the backend has taken them all. Writing again after an error does no harm.
        Raises InvalidInput, and writes nothing, if any row breaks a bound (see bounds.py).
        """
        ...

    async def fetch(
        self,
        name: str,
        ids: Iterable[str],
        fields: Sequence[str],
        *,
        deadline: Deadline,
        consistency: Consistency = "strong",
    ) -> dict[str, dict[str, Any]]:
        """The asked fields by id; ids that are not there are absent.

        Strong, the default, sees everything written before the call, and costs a Milvus server
        about 200 ms.
        """
        ...

    async def list_rows(
        self,
        name: str,
        limit: int,
        fields: Sequence[str] = (),
        *,
        deadline: Deadline,
        filter: AnyFilter = "",
        ids: Iterable[str] | None = None,
        after_id: str = "",
        consistency: Consistency = "strong",
    ) -> list[tuple[str, dict[str, Any]]]:
        """Ids, and the asked fields, of the first rows behind an id, in the order of ids: `limit`
        at most, and none only where there are no more. Metadata as JSON text. With `ids`, of their
        rows alone; then there is no filter.

        Strong, the default, sees everything written before the call; bounded, everything written
        before the last strong call on the collection, as its memory has one replica. `limit` is at
        most `bounds.MAX_LISTED`.
        """
        ...

    async def delete_ids(self, name: str, ids: Iterable[str], *, deadline: Deadline) -> int:
        """Deletes by id; returns how many of them were there."""
        ...

    async def delete_where(self, name: str, filter: AnyFilter, *, deadline: Deadline) -> int:
        """Deletes what the filter takes; returns how many. An empty filter is InvalidInput."""
        ...

    async def search(
        self,
        name: str,
        vectors: NDArray[np.float32],
        limit: int,
        *,
        deadline: Deadline,
        filter: AnyFilter = "",
        offset: int = 0,
        after: Place | None = None,
        fields: Sequence[str] = (),
        consistency: Consistency = "bounded",
        exclude_ids: Sequence[str] = (),
    ) -> list[list[ScoredRow]]:
        """For each of the vectors [Q, dimension], the best hits after `offset`, best first; or
        those behind the place `after`, whatever was written or deleted before it.

        Ordered by (-score, id), except where more than 64 rows up to the end of a group of equal
        scores would have to be read for that: of such a group come first, by id, those rows that
        are among the best 64 that the backend gives, then those among the best 256, and so on,
        fourfold, up to `bounds.MAX_WINDOW`. Pages by offset neither repeat nor lose a row while the
        backend gives the same answer to the same request: as long as the collection stays as it is.
        Pages by `after` do so whatever happens to other rows, except within such a group.
        offset, or the place's rank, + limit + the number of exclude_ids is at most
        `bounds.MAX_WINDOW`; rows beyond that many of the best ones are on no page.
        """
        ...

    async def count(self, name: str, filter: AnyFilter = "", *, deadline: Deadline) -> int:
        """How many rows the filter takes, exactly; all of them if it is empty."""
        ...

    async def settle(self, name: str, *, deadline: Deadline) -> None:
        """Makes what was written fast to search: call it once after a bulk of upserts.

        Returns when every row is found through the index, which may take as long as building it;
        raises FailedPrecondition where rows are not found until somebody has mended the backend;
        a server goes on with that when the call has ended before. May be called at any time and
        concurrently; does nothing if nothing was written since. On Milvus Lite it may hold searches
        back while an index is built.
        """
        ...

    async def close(self) -> None: ...


async def find_rows(
    store: VectorStore, name: str, ids: Sequence[str], fields: Sequence[str], deadline: Deadline
) -> dict[str, dict[str, Any]]:
    """The asked fields by id; ids that are not there are absent.

    Sees everything that was written before the call, and is slow only for ids written just now.
    """
    if not ids:
        return {}
    rows = await store.fetch(name, ids, fields, deadline=deadline, consistency="bounded")
    late = [identity for identity in ids if identity not in rows]
    if late:
        rows |= await store.fetch(name, late, fields, deadline=deadline, consistency="strong")
    return rows
