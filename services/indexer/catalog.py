"""Collections as callers see them, each tied to the model that fills it; images are not its job."""

from __future__ import annotations

import contextlib
import logging

from glimpse import errors
from services.common.deadline import Deadline
from services.common.encoder_client import EncoderModel
from services.indexer.metrics import IndexerMetrics
from services.indexer.records import Target
from services.indexer.retry_budget import RetryBudget
from services.indexer.settings import IndexerSettings
from services.indexer.stages import Encoder
from services.vectors.store import CollectionInfo, CollectionSpec, IndexKind, Metric, VectorStore

log = logging.getLogger(__name__)


class Catalog:
    """Makes, describes and drops collections, and checks them against the encoder's model.

    Errors are the store's and the encoder's; a deadline is that of a whole call.
    """

    def __init__(
        self,
        store: VectorStore,
        encoder: Encoder,
        settings: IndexerSettings,
        metrics: IndexerMetrics,
    ) -> None:
        self._store = store
        self._encoder = encoder
        self._settings = settings
        self._metrics = metrics

    async def create(
        self, name: str, index_kind: IndexKind, metric: Metric, deadline: Deadline
    ) -> CollectionInfo:
        """Makes an empty collection for the encoder's model; AlreadyExists if the name is taken."""
        model = await self._encoder.model(deadline.within(self._settings.encoder_timeout_s))
        await self._create(name, model, index_kind, metric, deadline)
        return await self._store.describe_collection(name, deadline=deadline)

    async def describe(self, name: str, deadline: Deadline) -> CollectionInfo:
        return await self._store.describe_collection(name, deadline=deadline)

    async def describe_all(self, deadline: Deadline) -> list[CollectionInfo]:
        """Every collection of ours, in the order of their names."""
        described = []
        for name in await self._store.list_collections(deadline=deadline):
            with contextlib.suppress(errors.NotFound):  # dropped since it was listed
                described.append(await self._store.describe_collection(name, deadline=deadline))
        return described

    async def drop(self, name: str, confirm: str, deadline: Deadline) -> None:
        """Removes a collection for good; raises InvalidInput unless `confirm` repeats its name."""
        if confirm != name:
            raise errors.InvalidInput("confirm", "must repeat the collection's name")
        await self._store.drop_collection(name, deadline=deadline)
        log.info("dropped collection %s", name)

    async def target(self, name: str, *, create: bool, force: bool) -> Target:
        """Where to index to; waits for peers that are away as streams do.

        Raises NotFound for an unknown collection unless `create`; ModelMismatch when another model
        than the encoder's has filled it.
        """
        milvus = RetryBudget("Milvus", self._settings.retry_budget_s)
        encoder = RetryBudget("the encoder", self._settings.retry_budget_s)
        settings = self._settings
        model = await encoder.call(
            lambda: self._encoder.model(Deadline(settings.encoder_timeout_s))
        )
        try:
            spec = await milvus.call(lambda: self._spec(name))
        except errors.NotFound:
            if not create:
                raise
            # Of two streams that make the same collection, the second finds it made.
            with contextlib.suppress(errors.AlreadyExists):
                await milvus.call(
                    lambda: self._create(
                        name, model, "AUTO", "IP", Deadline(settings.milvus_timeout_s)
                    )
                )
            spec = await milvus.call(lambda: self._spec(name))
        if spec.model_fingerprint != model.fingerprint:
            raise errors.ModelMismatch(
                f"collection {name!r} was filled by model {spec.model_name!r} "
                f"({spec.model_fingerprint}); the encoder runs {model.name!r} "
                f"({model.fingerprint})"
            )
        return Target(name, model, force)

    async def settle(self, name: str) -> None:
        """Makes what was written fast to search; a failure costs speed only and is logged."""
        if not self._settings.settle:
            return
        try:
            with self._metrics.store_latency_s.labels("settle").time():
                await self._store.settle(name, deadline=Deadline(self._settings.settle_timeout_s))
        except errors.GlimpseError as error:
            log.warning("collection %s is slow to search until it has settled: %s", name, error)

    async def _spec(self, name: str) -> CollectionSpec:
        return await self._store.get_spec(name, deadline=Deadline(self._settings.milvus_timeout_s))

    async def _create(
        self,
        name: str,
        model: EncoderModel,
        index_kind: IndexKind,
        metric: Metric,
        deadline: Deadline,
    ) -> None:
        spec = CollectionSpec(
            name, model.dimension, model.name, model.fingerprint, index_kind, metric
        )
        await self._store.create_collection(spec, deadline=deadline)
        log.info("created collection %s for model %s", name, model.name)
