"""The generations of collections, and deletions, which go to all of them (decision 0049)."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Awaitable, Callable

from glimpse import errors
from services.common.deadline import Deadline
from services.common.encoders import Encoders
from services.common.tasks import concurrently
from services.indexer.records import GenerationInfo
from services.indexer.settings import IndexerSettings
from services.vectors.generation_names import parts_of
from services.vectors.records import CollectionSpec, IndexKind, Metric, StoredGeneration
from services.vectors.store import VectorStore

MAX_GENERATIONS = 16
_MAX_CALL_S = 300.0  # how long ago the first attempt of a call may have been
_MAX_ROUNDS = 5

log = logging.getLogger(__name__)


class Generations:
    """Makes, lists, switches and drops generations. Errors are the store's and the encoders'; a
    deadline is that of a whole call."""

    def __init__(self, store: VectorStore, encoders: Encoders, settings: IndexerSettings) -> None:
        self._store = store
        self._encoders = encoders
        self._settings = settings

    async def create(
        self,
        name: str,
        fingerprint: str,
        index_kind: IndexKind,
        metric: Metric,
        deadline: Deadline,
        *,
        repeated: bool = False,
    ) -> GenerationInfo:
        """Makes an empty generation for a model that an encoder runs; without a fingerprint, for
        that of new collections.

        A `repeated` call takes what its first attempt may have made. Raises FailedPrecondition
        where the collection has MAX_GENERATIONS.
        """
        soon = deadline.within(self._settings.encoder_timeout_s)
        if fingerprint:
            model = await self._encoders.model(fingerprint, soon)
        else:
            model = await self._encoders.new_model(soon)
        if fingerprint not in ("", model.fingerprint):
            raise errors.ModelMismatch(
                f"no encoder runs the model {fingerprint!r}; one runs {model.name!r} "
                f"({model.fingerprint})"
            )
        _ = model.preprocessing  # refused before a generation is made for it
        spec = CollectionSpec(
            name, model.dimension, model.name, model.fingerprint, index_kind, metric
        )
        present = await self._store.list_generations(name, deadline=deadline)
        if repeated and (found := await self._first_attempt(spec, present, deadline)):
            return found
        if len(present) >= MAX_GENERATIONS:
            raise errors.FailedPrecondition(
                f"collection {name!r} has {len(present)} generations: drop some first",
                reason="TOO_MANY_GENERATIONS",
            )
        made = await self._store.create_generation(spec, deadline=deadline)
        log.info("created generation %s for model %s", made.address, made.model_name)
        return await self._described(StoredGeneration(made, is_serving=False), True, deadline)

    async def list(self, name: str, exact: bool, deadline: Deadline) -> list[GenerationInfo]:
        """All that there are, by their numbers; with `exact`, their rows are counted. Raises
        NotFound where there is no such collection."""
        listed = await self._store.list_generations(name, deadline=deadline)
        if not listed:
            await self._store.get_spec(name, deadline=deadline)  # which says why
        return await concurrently(*(self._described(each, exact, deadline) for each in listed))

    async def switch(
        self, name: str, number: int, expected: int | None, deadline: Deadline
    ) -> GenerationInfo:
        """Has a generation serve; raises FailedPrecondition unless the `expected` one does now, or
        the one that is to already."""
        serving = (await self._store.get_spec(name, deadline=deadline)).generation
        if expected is not None and serving not in (expected, number):
            raise errors.FailedPrecondition(
                f"generation {serving} serves collection {name!r}, not {expected}",
                reason="ANOTHER_GENERATION_SERVES",
            )
        await self._store.switch_generation(name, number, deadline=deadline)
        log.info("collection %s is served by generation %d, before by %d", name, number, serving)
        spec = await self._store.get_spec(name, deadline=deadline)
        return await self._described(StoredGeneration(spec, is_serving=True), False, deadline)

    async def drop(
        self, name: str, number: int, deadline: Deadline, *, repeated: bool = False
    ) -> None:
        """Removes a generation that does not serve, for good. A `repeated` call that does not find
        it has done its work before."""
        try:
            await self._store.drop_generation(name, number, deadline=deadline)
        except errors.NotFound:
            if not repeated:
                raise
        log.info("dropped generation %d of collection %s", number, name)

    async def delete(
        self, name: str, remove: Callable[[str], Awaitable[int]], deadline: Deadline
    ) -> int:
        """Has `remove` delete from each generation of a collection, or from the one that the name
        names; returns how many rows the one that serves had.

        From the one that serves last, and from the others before and after: whoever copies a row
        meanwhile either comes before the last deletion, or sees that its source is gone. Again
        where another generation serves by the end.
        """
        if parts_of(name)[1] is not None:
            return await remove(name)
        for _ in range(_MAX_ROUNDS):
            listed = await self._store.list_generations(name, deadline=deadline)
            others = [each.spec.address for each in listed if not each.is_serving]
            await self._remove_from(others, remove)
            deleted = await remove(next((e.spec.address for e in listed if e.is_serving), name))
            await self._remove_from(others, remove)
            serving = await self._store.get_spec(name, deadline=deadline)
            if any(each.is_serving and each.spec.address == serving.address for each in listed):
                return deleted
        raise errors.Unavailable("the collection's generations change too often")

    async def _remove_from(
        self, addresses: list[str], remove: Callable[[str], Awaitable[int]]
    ) -> None:
        for address in addresses:
            with contextlib.suppress(errors.NotFound):  # dropped meanwhile
                await remove(address)

    async def _described(
        self, generation: StoredGeneration, exact: bool, deadline: Deadline
    ) -> GenerationInfo:
        spec = generation.spec
        info = await self._store.describe_collection(
            spec.address, deadline=deadline, load=False, exact=exact
        )
        return GenerationInfo(spec.generation, generation.is_serving, info)

    async def _first_attempt(
        self, spec: CollectionSpec, present: list[StoredGeneration], deadline: Deadline
    ) -> GenerationInfo | None:
        """What the first attempt of a call that is repeated may have made: the newest, empty."""
        newest = present[-1] if present else None
        if newest is None or newest.is_serving:
            return None
        made = newest.spec
        same = (made.model_fingerprint, made.index_kind, made.metric) == (
            spec.model_fingerprint,
            spec.index_kind,
            spec.metric,
        )
        if not same or time.time() - made.created_at_ms / 1000 > _MAX_CALL_S:
            return None
        found = await self._described(newest, True, deadline)
        return None if found.info.rows else found
