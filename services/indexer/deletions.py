"""Deletions of images from a collection, which go to all of its generations (decision 0049)."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable, Sequence

from glimpse import errors
from services.common.deadline import Deadline
from services.indexer.serving import is_held, not_held
from services.vectors import filters
from services.vectors.bounds import MAX_LISTED
from services.vectors.generation_names import parts_of
from services.vectors.records import StoredGeneration
from services.vectors.store import VectorStore

_MAX_ROUNDS = 5
_TRUSTED_FOR_S = 10.0  # what is known of a collection, until it is looked at

Removal = Callable[[str], Awaitable[int]]
"""Deletes from a generation, by its address, and returns how many rows were there."""


async def delete_ids(
    store: VectorStore, name: str, ids: Sequence[str], *, deadline: Deadline
) -> int:
    """Deletes from a collection, or from the one generation that the name names; returns how many
    there were in what serves. Errors are the store's."""

    async def remove(address: str) -> int:
        return await store.delete_ids(address, ids, deadline=deadline)

    if parts_of(name)[1] is not None:
        return await remove(name)
    serving = await store.get_spec(name, deadline=deadline, max_age_s=_TRUSTED_FOR_S)
    alone = [StoredGeneration(serving, is_serving=True)]  # as most are; looked at afterwards
    return await _delete(store, name, remove, alone, deadline)


async def delete_where(
    store: VectorStore, name: str, expression: str, *, deadline: Deadline
) -> int:
    """As delete_ids, for what a filter takes of what serves: the others lose the same ids, whatever
    they have of those images, which may be older. Where there are others, that goes page by page,
    and a call that ends early has deleted some."""

    async def remove(address: str) -> int:
        return await store.delete_where(address, expression, deadline=deadline)

    filters.check_given(expression)
    if parts_of(name)[1] is not None:
        return await remove(name)
    listed = await store.list_generations(name, deadline=deadline)
    if len(listed) == 1:
        return await _delete(store, name, remove, listed, deadline)
    deleted = 0
    while True:
        spec = await store.get_spec(name, deadline=deadline)
        rows = await store.list_rows(spec.address, MAX_LISTED, filter=expression, deadline=deadline)
        if rows:
            ids = [identity for identity, _ in rows]
            deleted += await delete_ids(store, name, ids, deadline=deadline)
            continue
        serving = await not_held(lambda: store.get_spec(name, deadline=deadline))
        if serving.address == spec.address:
            return deleted


async def _delete(
    store: VectorStore,
    name: str,
    remove: Removal,
    listed: list[StoredGeneration],
    deadline: Deadline,
) -> int:
    """Has `remove` delete from each of the generations that are `listed`.

    From the one that serves last, and from the others before and after: whoever copies a row
    meanwhile either comes before the last deletion, or sees that its source is gone. Returns when
    writes are not held; again where there are other generations by then, or another one serves.
    """
    deleted = 0
    for _ in range(_MAX_ROUNDS):
        others = [each.spec.address for each in listed if not each.is_serving]
        serving = [each.spec.address for each in listed if each.is_serving]
        await _remove_from(others, remove)
        deleted = max(deleted, await _remove_from(serving, remove))
        await _remove_from(others, remove)
        before, listed = listed, await store.list_generations(name, deadline=deadline)
        if any(each.is_serving and is_held(each.spec) for each in listed):
            await not_held(lambda: store.get_spec(name, deadline=deadline))
            listed = await store.list_generations(name, deadline=deadline)
        if not listed:
            await store.get_spec(name, deadline=deadline)  # which says why
        if listed == before:
            return deleted
    raise errors.Unavailable("the collection's generations change too often")


async def _remove_from(addresses: Sequence[str], remove: Removal) -> int:
    deleted = 0
    for address in addresses:
        with contextlib.suppress(errors.NotFound):  # dropped meanwhile
            deleted += await remove(address)
    return deleted
