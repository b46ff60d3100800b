"""The vector store in Milvus: Milvus Lite's server, a Milvus server, Zilliz Cloud."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import time
from collections import defaultdict
from collections.abc import Callable, Coroutine, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from prometheus_client import CollectorRegistry

from glimpse.errors import (
    AlreadyExists,
    DeadlineExceeded,
    FailedPrecondition,
    GlimpseError,
    InvalidInput,
    NotFound,
    Unavailable,
)
from glimpse.transport.credentials import PLAINTEXT, Credentials
from services.common.deadline import Deadline
from services.common.peer_settings import PeerSettings
from services.common.tasks import concurrently, run_within
from services.vectors import bounds, filters, generation_names
from services.vectors.filters import AnyFilter
from services.vectors.milvus import errors, generations, row_requests, schema, vector_index
from services.vectors.milvus.connection import Connection, MilvusCall
from services.vectors.milvus.index_progress import IndexProgress
from services.vectors.milvus.known_collections import KnownCollections
from services.vectors.milvus.metrics import MilvusMetrics
from services.vectors.milvus.ranking import Search, Span
from services.vectors.records import (
    ALL_FIELDS,
    NOT_LOADED,
    CollectionInfo,
    CollectionSpec,
    Consistency,
    Place,
    Row,
    ScoredRow,
    StoredGeneration,
    estimated_bytes,
)

log = logging.getLogger(__name__)

_TRUSTED_FOR_S = 10.0  # a description, where the caller does not say
_READY_PAUSE_S = 0.2
_ASKED_AT_ONCE = 16  # collections whose descriptions are asked for
_SLACK_S = 0.1
"""By which a request's own deadline, which tells the metrics why it ends, comes before ours."""

Method = TypeVar("Method", bound=Callable[..., Coroutine[Any, Any, Any]])


def _bounded(method: Method) -> Method:
    """Ends the call at its deadline and `_SLACK_S`, whatever it waits for."""

    @functools.wraps(method)
    async def call(*args: Any, deadline: Deadline, **options: Any) -> Any:
        left_s = deadline.left_s()
        try:
            return await run_within(left_s + _SLACK_S, method(*args, deadline=deadline, **options))
        except asyncio.TimeoutError as error:
            raise DeadlineExceeded("Milvus did not answer in time") from error

    return call  # type: ignore[return-value]


def _renewed(method: Method) -> Method:
    """Calls once more where what was known of the collection's name shows to be over: another
    generation serves, and the one that did was dropped. Not for vectors, which are of one only."""

    @functools.wraps(method)
    async def call(self: MilvusStore, name: str, *args: Any, **options: Any) -> Any:
        was_known = self._known.knows(name)
        try:
            return await method(self, name, *args, **options)
        except NotFound:
            if not was_known:
                raise
        return await method(self, name, *args, **options)

    return call  # type: ignore[return-value]


class MilvusStore:
    """A VectorStore. Owned by the event loop of its first call; holds one connection.

    Its collections are those of `database`, which has to be there; "" is Milvus' default. Whatever
    is kept by a name here is kept by Milvus' own.
    """

    def __init__(
        self,
        uri: str,
        token: str = "",
        credentials: Credentials = PLAINTEXT,
        metrics: MilvusMetrics | None = None,
        database: str = "",
    ) -> None:
        metrics = metrics or MilvusMetrics(CollectorRegistry())
        self._connection = Connection(uri, token, credentials, metrics, database)
        self._known = KnownCollections()
        self._writes: defaultdict[str, int] = defaultdict(lambda: 1)
        self._settled_writes: defaultdict[str, int] = defaultdict(int)
        self._progress = IndexProgress()
        self._given_per_asked: dict[str, float] = {}  # rows of a list, by collection
        # Held while generations of a collection come, go or take over.
        self._arranging: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._settling: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        # Held while a collection is made, and while its index or its place in memory changes.
        self._changing: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    @classmethod
    def of(cls, settings: PeerSettings) -> MilvusStore:
        """The store that a service's settings name, with its figures among the process' metrics."""
        return cls(
            settings.milvus_uri,
            settings.milvus_token.get_secret_value(),
            settings.milvus_credentials,
            MilvusMetrics(),
            settings.milvus_database,
        )

    async def ready(self, *, deadline: Deadline) -> None:
        deadline.left_s()
        while True:
            try:
                # A server that starts knows its version before it can list anything.
                await self._ping(deadline=deadline)
                return
            except GlimpseError as error:
                is_late = time.monotonic() + _READY_PAUSE_S > deadline.at_s
                if is_late or isinstance(error, FailedPrecondition):
                    why = await self._connection.failure(error)
                    raise Unavailable(f"Milvus is not ready: {why}") from error
            await asyncio.sleep(_READY_PAUSE_S)

    @_bounded
    async def _ping(self, *, deadline: Deadline) -> None:
        await MilvusCall(self._connection, deadline)("list_collections")

    @_bounded
    async def create_collection(self, spec: CollectionSpec, *, deadline: Deadline) -> None:
        call = self._call(deadline, spec.name)
        bounds.check_spec(spec, (await call.backend()).index_kinds)
        async with self._changing[spec.name]:
            # Milvus takes a second collection of the same shape for the first, and says nothing.
            if await generations.is_taken(call):
                raise AlreadyExists(f"collection {spec.name!r} already exists")
            await generations.create(call, replace(spec, generation=0))

    @_bounded
    async def create_generation(
        self, spec: CollectionSpec, *, deadline: Deadline
    ) -> CollectionSpec:
        call = self._call(deadline, spec.name)
        bounds.check_spec(spec, (await call.backend()).index_kinds)
        generation_names.check_can_grow(spec.name)
        async with self._arranging[spec.name]:
            made = replace(spec, generation=await generations.free_number(call))
            await generations.create(call.on(_stored_name(made)), made)
        return made

    @_bounded
    async def list_generations(self, name: str, *, deadline: Deadline) -> list[StoredGeneration]:
        return await generations.listed(self._call(deadline, bounds.check_name(name)))

    @_bounded
    async def switch_generation(self, name: str, number: int, *, deadline: Deadline) -> None:
        call = self._call(deadline, bounds.check_name(name))
        async with self._arranging[name]:
            generation = await generations.get(call, number)
            # Before anybody searches it: loading takes seconds.
            milvus_name = _stored_name(generation.spec)
            async with self._changing[milvus_name]:
                await vector_index.load(call.on(milvus_name), generation.spec)
            try:
                await generations.serve(call, number)
            finally:
                self._known.forget(name)

    @_bounded
    async def hold_writes(self, name: str, until_ms: int, *, deadline: Deadline) -> None:
        call, known = await self._open(deadline, name, max_age_s=0)
        try:
            await generations.hold(call, known, until_ms)
        finally:
            self._known.forget(name)

    @_bounded
    async def drop_generation(self, name: str, number: int, *, deadline: Deadline) -> None:
        call = self._call(deadline, bounds.check_name(name))
        async with self._arranging[name]:
            generation = await generations.get(call, number)
            if generation.is_serving:
                raise FailedPrecondition(
                    f"generation {number} of collection {name!r} serves it",
                    reason="GENERATION_SERVES",
                )
            await self._drop(call, generation)

    @_bounded
    async def describe_collection(
        self, name: str, *, deadline: Deadline, load: bool = True, exact: bool = True
    ) -> CollectionInfo:
        call, known = await self._open(deadline, name, load=load, max_age_s=0)
        rows = _count_if_loaded(call) if exact else row_requests.estimate(call)
        index, (count, is_loaded) = await concurrently(vector_index.describe(call), rows)
        state = index.state if is_loaded else NOT_LOADED
        kind = index.kind or known.marks.index_kind
        return CollectionInfo(
            name=name,
            dimension=known.dimension,
            model_name=known.marks.model_name,
            model_fingerprint=known.marks.model_fingerprint,
            index_kind="AUTO" if kind == "AUTOINDEX" else kind,
            index_state=state,
            metric=known.marks.metric,
            rows=count,
            bytes=estimated_bytes(count, known.dimension),
            created_at_ms=known.marks.created_at_ms,
            indexed_rows=index.indexed(count),
            pending_rows=index.pending_rows,
            index_left_s=self._progress.left_s(known.milvus_name, index.pending_rows),
        )

    @_bounded
    async def get_spec(
        self, name: str, *, deadline: Deadline, max_age_s: float = 0.0
    ) -> CollectionSpec:
        return (await self._recall(self._call(deadline, name), max_age_s=max_age_s)).spec

    @_bounded
    async def list_collections(
        self, *, deadline: Deadline, after: str = "", limit: int | None = None
    ) -> list[str]:
        there = await MilvusCall(self._connection, deadline)("list_collections")
        names = sorted(name for name in generations.may_be_called(there) if name > after)
        ours: list[str] = []
        while names and (limit is None or len(ours) < limit):
            asked, names = names[:_ASKED_AT_ONCE], names[_ASKED_AT_ONCE:]
            soon = deadline.within(deadline.left_s() / 2)  # one that hangs leaves time for others
            are_ours = await concurrently(*(self._is_ours(name, soon) for name in asked))
            ours += [name for name, is_ours in zip(asked, are_ours, strict=True) if is_ours]
        return ours[:limit]

    async def _is_ours(self, name: str, deadline: Deadline) -> bool:
        try:
            await self._recall(self._call(deadline, name))
        except (NotFound, FailedPrecondition, InvalidInput):
            return False
        except GlimpseError:
            return True  # whoever asks for more of it is told what is wrong
        return True

    @_bounded
    async def drop_collection(self, name: str, *, deadline: Deadline) -> None:
        call = self._call(deadline, bounds.check_name(name))
        async with self._arranging[name]:
            present = await generations.listed(call)
            if not present:
                await self._recall(call, max_age_s=0)  # which says why
            for generation in sorted(present, key=lambda each: each.is_serving):
                if generation.is_serving:  # the last one: until then, it serves as before
                    await generations.end(call, generation)
                await self._drop(call, generation)
            self._known.forget(name)

    async def _drop(self, call: MilvusCall, generation: StoredGeneration) -> None:
        milvus_name = _stored_name(generation.spec)
        await call("drop_collection", milvus_name)
        self._known.forget(generation.spec.address)
        self._progress.forget(milvus_name)
        self._given_per_asked.pop(milvus_name, None)

    @_bounded
    async def upsert(self, name: str, rows: Sequence[Row], *, deadline: Deadline) -> None:
        dimension = np.size(rows[0].vector) if rows else None
        call, known = await self._open(deadline, name, dimension=dimension)
        unique = await bounds.unique_rows(rows, known.dimension)
        with self._writing(call.collection):
            await row_requests.write(call, unique)

    @_bounded
    @_renewed
    async def fetch(
        self,
        name: str,
        ids: Iterable[str],
        fields: Sequence[str],
        *,
        deadline: Deadline,
        consistency: Consistency = "strong",
    ) -> dict[str, dict[str, Any]]:
        bounds.check_fields(fields, ALL_FIELDS)
        wanted = bounds.unique_ids(ids)
        call, _ = await self._open(deadline, name)
        return await row_requests.fetch(call, wanted, fields, consistency)

    @_bounded
    @_renewed
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
        bounds.check_listed(limit, after_id)
        bounds.check_fields(fields, ALL_FIELDS)
        if ids is not None:
            wanted = bounds.unique_ids(ids)
            call, _ = await self._open(deadline, name)
            return await row_requests.list_some(call, wanted, limit, fields, after_id, consistency)
        call, _ = await self._open(deadline, name, filters.render(filter))
        return await row_requests.list_rows(
            call, limit, fields, after_id, consistency, self._given_per_asked
        )

    @_bounded
    @_renewed
    async def delete_ids(self, name: str, ids: Iterable[str], *, deadline: Deadline) -> int:
        wanted = bounds.unique_ids(ids)
        call, _ = await self._open(deadline, name)
        present = await row_requests.fetch(call, wanted, (), "strong")
        log.debug("deleting from %s: of %d ids, %d are there", name, len(wanted), len(present))
        # Whatever the read has found: a server may miss rows for a moment, as between the segment
        # that it took them into and the one that it writes them to.
        with self._writing(call.collection):
            await row_requests.delete_ids(call, wanted)
        return len(present)

    @_bounded
    @_renewed
    async def delete_where(self, name: str, filter: AnyFilter, *, deadline: Deadline) -> int:
        filters.check_given(filter)
        call, _ = await self._open(deadline, name, filters.render(filter))
        if (await call.backend()).kind == "lite":
            # It would read these ids itself, with everybody's writes waiting meanwhile.
            ids = await row_requests.ids_of(call)
            with self._writing(call.collection):
                await row_requests.delete_ids(call.on(call.collection), ids)
            return len(ids)
        # Counting also finds out whether the expression is right, which deleting does not.
        present = await row_requests.count(call, call.expression)
        if present:
            with self._writing(call.collection):
                # The expression is right, so no failure is a fault of it.
                await row_requests.delete(call.on(call.collection), call.expression)
        return present

    @_bounded
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
        span = Span(offset, limit, frozenset(exclude_ids), after)
        bounds.check_window(limit, span.start, len(exclude_ids))
        bounds.check_fields(fields, ALL_FIELDS)
        expression, dimension = filters.render(filter), np.shape(vectors)[-1]
        call, known = await self._open(deadline, name, expression, dimension=dimension)
        queries = bounds.check_queries(vectors, known.dimension)
        return await Search(call, span, fields, consistency).run(queries)

    @_bounded
    @_renewed
    async def count(self, name: str, filter: AnyFilter = "", *, deadline: Deadline) -> int:
        call, _ = await self._open(deadline, name, filters.render(filter))
        return await row_requests.count(call, call.expression)

    @_bounded
    @_renewed
    async def settle(self, name: str, *, deadline: Deadline) -> None:
        call, known = await self._open(deadline, name, load=False)
        backend, milvus_name = await call.backend(), known.milvus_name
        async with self._settling[milvus_name]:
            writes = self._writes[milvus_name]
            if self._settled_writes[milvus_name] == writes:
                return
            if backend.kind == "lite":
                async with self._changing[milvus_name]:
                    await vector_index.settle_lite(call, known.spec)
            else:
                await vector_index.settle(call)
            self._settled_writes[milvus_name] = writes

    async def close(self) -> None:
        await self._connection.close()

    @contextlib.contextmanager
    def _writing(self, name: str) -> Iterator[None]:
        """Tells settle that there is something to settle, once it is written, or may be."""
        try:
            yield
        finally:
            self._writes[name] += 1

    def _call(self, deadline: Deadline, name: str) -> MilvusCall:
        return MilvusCall(self._connection, deadline, bounds.check_address(name))

    async def _open(
        self,
        deadline: Deadline,
        name: str,
        expression: str = "",
        *,
        load: bool = True,
        max_age_s: float = _TRUSTED_FOR_S,
        dimension: int | None = None,
    ) -> tuple[MilvusCall, schema.Known]:
        """A call whose requests go to what the name means now, and what that is."""
        call = self._call(deadline, name)
        known = await self._recall(call, max_age_s=max_age_s, dimension=dimension)
        opened = call.on(
            known.milvus_name,
            expression,
            load=functools.partial(self._load, known) if load else None,
            forget=functools.partial(self._known.forget, name),
        )
        return opened, known

    async def _load(self, known: schema.Known, call: MilvusCall) -> None:
        async with self._changing[known.milvus_name]:
            await vector_index.load(call, known.spec)

    async def _recall(
        self, call: MilvusCall, *, max_age_s: float = _TRUSTED_FOR_S, dimension: int | None = None
    ) -> schema.Known:
        """What the name means; asks Milvus again where what is known is not of `dimension`."""
        known = await self._known.get(call, max_age_s)
        if dimension in (None, known.dimension):
            return known
        return await self._known.get(call, 0.0)


def _stored_name(spec: CollectionSpec) -> str:
    return generation_names.stored_name(spec.name, spec.generation)


async def _count_if_loaded(call: MilvusCall) -> tuple[int, bool]:
    """How many rows there are, and whether they are in memory; the call may load them."""
    try:
        return await row_requests.count(call), True
    except errors.NotLoaded:
        return (await row_requests.estimate(call))[0], False
