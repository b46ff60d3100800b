"""Collections as callers see them, each tied to the model that fills it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
from dataclasses import replace

from glimpse import errors
from glimpse.pictures.preprocessing import told_difference
from services.common.deadline import Deadline
from services.common.encoder_client import EncoderModel
from services.common.encoders import Encoders
from services.common.tasks import concurrently
from services.indexer.records import ListedCollection, Target
from services.indexer.retry_budget import RetryBudget
from services.indexer.settings import IndexerSettings
from services.vectors.generation_names import parts_of
from services.vectors.records import (
    DECLARED,
    CollectionInfo,
    CollectionSpec,
    IndexKind,
    Metric,
    now_ms,
)
from services.vectors.store import VectorStore

# For all lists together: each collection takes Milvus four requests, for which others wait.
_MAX_DESCRIBED_AT_ONCE = 4
_DESCRIBE_TIMEOUT_S = 5.0
_DESCRIBING_SHARE = 0.8  # of the time that a call has left
_MAX_CALL_S = 300.0  # how long ago the first attempt of a call may have been

log = logging.getLogger(__name__)


class Catalog:
    """Makes, describes and drops collections, and checks them against the encoders' models.

    Errors are the store's and the encoder's; a deadline is that of a whole call.
    """

    def __init__(
        self,
        store: VectorStore,
        encoders: Encoders,
        settings: IndexerSettings,
    ) -> None:
        self._store = store
        self._encoders = encoders
        self._settings = settings
        self._describing = asyncio.Semaphore(_MAX_DESCRIBED_AT_ONCE)

    async def create(
        self,
        name: str,
        index_kind: IndexKind,
        metric: Metric,
        deadline: Deadline,
        *,
        repeated: bool = False,
    ) -> CollectionInfo:
        """Makes an empty collection for the model of the first encoder; AlreadyExists if the name
        is taken.

        A `repeated` call takes what its first attempt may have made.
        """
        model = await self._encoders.new_model(deadline.within(self._settings.encoder_timeout_s))
        spec = _spec_for(name, model, index_kind, metric)
        try:
            await self._create(spec, deadline)
        except errors.AlreadyExists:
            if not repeated or await self._store.get_spec(name, deadline=deadline) != spec:
                raise
            info = await self._store.describe_collection(name, deadline=deadline)
            if not may_be_of_first_attempt(info):
                raise
            return info
        return await self._store.describe_collection(name, deadline=deadline)

    async def describe(self, name: str, deadline: Deadline, *, exact: bool) -> CollectionInfo:
        """What it is now; with `exact`, its rows are counted."""
        return await self._store.describe_collection(name, deadline=deadline, exact=exact)

    async def describe_page(
        self, after: str, size: int, deadline: Deadline, *, exact: bool
    ) -> tuple[list[ListedCollection], str]:
        """Our collections whose names come after `after`, `size` at most; loads none of them.

        And the name that the next page comes after, empty if there is none.
        """
        names = await self._store.list_collections(deadline=deadline, after=after, limit=size + 1)
        # Those that hang leave time to tell of the others.
        soon = deadline.within(deadline.left_s() * _DESCRIBING_SHARE)
        listed = await concurrently(
            *(self._describe_listed(name, soon, exact) for name in names[:size])
        )
        last_name = names[size - 1] if len(names) > size else ""
        return [each for each in listed if each is not None], last_name

    async def _describe_listed(
        self, name: str, deadline: Deadline, exact: bool
    ) -> ListedCollection | None:
        """None for a collection that was dropped since it was listed."""
        try:
            async with self._describing:
                info = await self._store.describe_collection(
                    name, deadline=deadline.within(_DESCRIBE_TIMEOUT_S), load=False, exact=exact
                )
        except errors.NotFound:
            return None
        except errors.GlimpseError as error:
            return ListedCollection(name, error=errors.as_value(error))
        return ListedCollection(name, info)

    async def drop(
        self, name: str, confirm: str, deadline: Deadline, *, repeated: bool = False
    ) -> None:
        """Removes a collection for good; raises InvalidInput unless `confirm` repeats its name.

        A `repeated` call that finds nothing has done its work before.
        """
        if confirm != name:
            raise errors.InvalidInput("confirm", "must repeat the collection's name")
        try:
            await self._store.drop_collection(name, deadline=deadline)
        except errors.NotFound:
            if not repeated:
                raise
        log.info("dropped collection %s", name)

    async def target(
        self,
        name: str,
        *,
        create: bool,
        force: bool,
        max_wait_s: float = math.inf,
        keep_copies: bool = False,
    ) -> Target:
        """Where to index to; waits for peers that are away as streams do.

        By a collection's name, to the generation that serves by now; by a generation's address,
        rows of another one are carried over to it. Raises NotFound for what is unknown, unless it
        is a collection and `create`; ModelMismatch when a model that no encoder runs has filled it,
        or one whose pixels cannot be made here.
        """
        settings, carries = self._settings, parts_of(name)[1] is not None
        budget_s = min(settings.retry_budget_s, max_wait_s)
        milvus, encoder = RetryBudget("Milvus", budget_s), RetryBudget("the encoder", budget_s)
        spec = await self._found(name, milvus, create=create and not carries)
        if spec is None:
            model = await encoder.call(
                lambda: self._encoders.new_model(Deadline(settings.encoder_timeout_s))
            )
            _ = model.preprocessing  # refused before a collection is made for it
            spec = await self._made(_spec_for(name, model), milvus)
        model = await encoder.call(
            lambda: self._encoders.model(
                spec.model_fingerprint, Deadline(settings.encoder_timeout_s)
            )
        )
        _ = model.preprocessing
        if spec.model_fingerprint != model.fingerprint:
            raise errors.ModelMismatch(
                f"collection {name!r} was filled by model {spec.model_name!r} "
                f"({spec.model_fingerprint}); the encoder runs {model.name!r} "
                f"({model.fingerprint}): index into another collection, or drop this one first"
                f"{told_difference(spec.model_fingerprint, model.fingerprint)}"
            )
        return Target(name, model, force, max_wait_s, keep_copies, spec.address, carries)

    async def target_of_import(self, spec: CollectionSpec, *, create: bool) -> CollectionSpec:
        """Makes sure that the collection is there, and of the model that made the vectors; returns
        the generation that serves it.

        An empty fingerprint stands for a model of which nobody knows more than its name. Raises
        NotFound unless `create`, ModelMismatch, and InvalidInput for another dimension.
        """
        if not spec.model_fingerprint:
            spec = replace(spec, model_fingerprint=DECLARED + spec.model_name)
        milvus = RetryBudget("Milvus", self._settings.retry_budget_s)
        there = await self._found(spec.name, milvus, create=create)
        if there is None:
            there = await self._made(spec, milvus)
        if there.model_fingerprint != spec.model_fingerprint:
            raise errors.ModelMismatch(
                f"collection {spec.name!r} was filled by model {there.model_name!r} "
                f"({there.model_fingerprint}); the vectors to import are of {spec.model_name!r} "
                f"({spec.model_fingerprint}): import them into another collection"
                f"{told_difference(there.model_fingerprint, spec.model_fingerprint)}"
            )
        if there.dimension != spec.dimension:
            raise errors.InvalidInput(
                "options.dimension",
                f"must be the collection's, {there.dimension}; it is {spec.dimension}",
            )
        return there

    async def _found(
        self, name: str, milvus: RetryBudget, *, create: bool
    ) -> CollectionSpec | None:
        """What a collection is; None where there is none, but raises NotFound unless `create`."""
        try:
            return await milvus.call(lambda: self._spec(name))
        except errors.NotFound:
            if not create:
                raise
            return None

    async def _made(self, spec: CollectionSpec, milvus: RetryBudget) -> CollectionSpec:
        """Makes a collection; of two streams that make the same one, the second finds it made."""
        with contextlib.suppress(errors.AlreadyExists):
            await milvus.call(lambda: self._create(spec, Deadline(self._settings.milvus_timeout_s)))
        return await milvus.call(lambda: self._spec(spec.name))

    async def _spec(self, name: str) -> CollectionSpec:
        return await self._store.get_spec(name, deadline=Deadline(self._settings.milvus_timeout_s))

    async def _create(self, spec: CollectionSpec, deadline: Deadline) -> None:
        await self._store.create_collection(spec, deadline=deadline)
        log.info("created collection %s for model %s", spec.name, spec.model_name)


def may_be_of_first_attempt(info: CollectionInfo) -> bool:
    """Whether a call that is repeated may have made it: it is empty, and not old."""
    return not info.rows and now_ms() - info.created_at_ms <= 1000 * _MAX_CALL_S


def _spec_for(
    name: str, model: EncoderModel, index_kind: IndexKind = "AUTO", metric: Metric = "IP"
) -> CollectionSpec:
    return CollectionSpec(name, model.dimension, model.name, model.fingerprint, index_kind, metric)
