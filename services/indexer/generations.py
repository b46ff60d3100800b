"""The generations of collections: making, listing, switching and dropping them (decision 0049)."""

from __future__ import annotations

import contextlib
import logging

from glimpse import errors
from services.common.deadline import Deadline
from services.common.encoders import Encoders
from services.common.tasks import concurrently
from services.indexer.catalog import may_be_of_first_attempt
from services.indexer.records import GenerationInfo
from services.indexer.settings import IndexerSettings
from services.vectors.records import (
    CollectionSpec,
    IndexKind,
    Metric,
    StoredGeneration,
    now_ms,
)
from services.vectors.store import VectorStore

MAX_GENERATIONS = 16
_LAST_MS = 5_000
"""Of the time that writes are held, in which no switch begins or goes on: the clocks of those who
hold them may differ by a second or two, and what Milvus was told may take a moment to happen."""

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

    async def hold_writes(self, name: str, serving: int, hold_ms: int, deadline: Deadline) -> int:
        """Has writes to the generation that serves not be acknowledged for this long, by whichever
        indexer; returns until when, in milliseconds since 1970.

        What was acknowledged was written before; what was not is sent again if another generation
        serves by then, and else acknowledged. Raises FailedPrecondition where another generation
        than `serving` does.
        """
        spec = await self._store.get_spec(name, deadline=deadline)
        _check_expected(spec, serving)
        until_ms = now_ms() + hold_ms if hold_ms else 0
        await self._store.hold_writes(spec.address, until_ms, deadline=deadline)
        log.info("writes to %s are held for %.1f s", spec.address, hold_ms / 1000)
        return until_ms

    async def switch(
        self,
        name: str,
        number: int,
        expected: int | None,
        deadline: Deadline,
        *,
        held_until_ms: int = 0,
    ) -> GenerationInfo:
        """Has a generation serve; with what hold_writes returned, only while that holds them.

        Raises FailedPrecondition unless the `expected` one does now, or the one that is to already,
        and where writes are not held by that for long enough.
        """
        before = await self._store.get_spec(name, deadline=deadline)
        if before.generation != number:
            if expected is not None:
                _check_expected(before, expected)
            in_time = deadline
            if held_until_ms:
                in_time = deadline.within(_held_s(before, held_until_ms))
            await self._store.switch_generation(name, number, deadline=in_time)
            with contextlib.suppress(errors.GlimpseError):  # or it ends by itself
                await self._store.hold_writes(before.address, 0, deadline=deadline)
            log.info("generation %d serves %s, before %d", number, name, before.generation)
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
        if not same:
            return None
        found = await self._described(newest, True, deadline)
        return found if may_be_of_first_attempt(found.info) else None


def _check_expected(spec: CollectionSpec, expected: int) -> None:
    """Raises FailedPrecondition if another generation serves."""
    if spec.generation != expected:
        raise errors.FailedPrecondition(
            f"generation {spec.generation} serves collection {spec.name!r}, not {expected}",
            reason="ANOTHER_GENERATION_SERVES",
        )


def _held_s(spec: CollectionSpec, held_until_ms: int) -> float:
    """How long a switch may take; raises FailedPrecondition where there is no time for one, or
    others hold writes by now."""
    left_ms = held_until_ms - now_ms() - _LAST_MS
    if spec.held_until_ms != held_until_ms or left_ms <= 0:
        raise errors.FailedPrecondition(
            f"writes to {spec.address} are not held for long enough", reason="WRITES_NOT_HELD"
        )
    return left_ms / 1000
