"""The vector store in Milvus: Milvus Lite's server, a Milvus server, Zilliz Cloud."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import time
from collections import defaultdict
from collections.abc import Callable, Coroutine, Iterable, Iterator, Sequence
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
from services.vectors import bounds, filters
from services.vectors.filters import AnyFilter
from services.vectors.milvus import errors, row_requests, schema, vector_index
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
    estimated_bytes,
)

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


class MilvusStore:
    """A VectorStore. Owned by the event loop of its first call; holds one connection.

    Its collections are those of `database`, which has to be there; "" is Milvus' default.
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
        call = MilvusCall(self._connection, deadline, bounds.check_name(spec.name))
        bounds.check_spec(spec, (await call.backend()).index_kinds)
        async with self._changing[spec.name]:
            # Milvus takes a second collection of the same shape for the first, and says nothing.
            with contextlib.suppress(NotFound):
                await call("describe_collection", spec.name)
                raise AlreadyExists(f"collection {spec.name!r} already exists")
            marks = schema.Marks(
                model_name=spec.model_name,
                model_fingerprint=spec.model_fingerprint,
                index_kind=spec.index_kind,
                metric=spec.metric,
                created_at_ms=time.time_ns() // 1_000_000,
            )
            await call(
                "create_collection",
                spec.name,
                schema=schema.schema_of(spec, marks),
                consistency_level="Bounded",
                properties={schema.MARKS: marks.to_json()},
            )
            await vector_index.build_and_load(call, marks)

    @_bounded
    async def describe_collection(
        self, name: str, *, deadline: Deadline, load: bool = True, exact: bool = True
    ) -> CollectionInfo:
        call = self._call(deadline, name, load=load)
        known = await self._recall(call, max_age_s=0)
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
            index_left_s=self._progress.left_s(name, index.pending_rows),
        )

    @_bounded
    async def get_spec(
        self, name: str, *, deadline: Deadline, max_age_s: float = 0.0
    ) -> CollectionSpec:
        known = await self._recall(self._call(deadline, name), max_age_s=max_age_s)
        marks = known.marks
        return CollectionSpec(
            name=name,
            dimension=known.dimension,
            model_name=marks.model_name,
            model_fingerprint=marks.model_fingerprint,
            index_kind=marks.index_kind,
            metric=marks.metric,
        )

    @_bounded
    async def list_collections(
        self, *, deadline: Deadline, after: str = "", limit: int | None = None
    ) -> list[str]:
        there = await MilvusCall(self._connection, deadline)("list_collections")
        names = sorted(name for name in there if name > after)
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
        call = self._call(deadline, name)
        await self._recall(call, max_age_s=0)
        await call("drop_collection", name)
        self._known.forget(name)
        self._progress.forget(name)
        self._given_per_asked.pop(name, None)

    @_bounded
    async def upsert(self, name: str, rows: Sequence[Row], *, deadline: Deadline) -> None:
        call = self._call(deadline, name)
        known = await self._recall(call, dimension=np.size(rows[0].vector) if rows else None)
        unique = await bounds.unique_rows(rows, known.dimension)
        with self._writing(name):
            await row_requests.write(call, unique)

    @_bounded
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
        call = self._call(deadline, name)
        await self._recall(call)
        return await row_requests.fetch(call, wanted, fields, consistency)

    @_bounded
    async def list_rows(
        self,
        name: str,
        limit: int,
        fields: Sequence[str] = (),
        *,
        deadline: Deadline,
        filter: AnyFilter = "",
        after_id: str = "",
        consistency: Consistency = "strong",
    ) -> list[tuple[str, dict[str, Any]]]:
        bounds.check_listed(limit, after_id)
        bounds.check_fields(fields, ALL_FIELDS)
        call = self._call(deadline, name, filters.render(filter))
        await self._recall(call)
        return await row_requests.list_rows(
            call, limit, fields, after_id, consistency, self._given_per_asked
        )

    @_bounded
    async def delete_ids(self, name: str, ids: Iterable[str], *, deadline: Deadline) -> int:
        wanted = bounds.unique_ids(ids)
        call = self._call(deadline, name)
        await self._recall(call)
        present = list(await row_requests.fetch(call, wanted, (), "strong"))
        with self._writing(name):
            await row_requests.delete_ids(call, present)
        return len(present)

    @_bounded
    async def delete_where(self, name: str, filter: AnyFilter, *, deadline: Deadline) -> int:
        filters.check_given(filter)
        expression = filters.render(filter)
        call = self._call(deadline, name, expression)
        await self._recall(call)
        if (await call.backend()).kind == "lite":
            # It would read these ids itself, with everybody's writes waiting meanwhile.
            ids = await row_requests.ids_of(call)
            with self._writing(name):
                await row_requests.delete_ids(self._call(deadline, name), ids)
            return len(ids)
        # Counting also finds out whether the expression is right, which deleting does not.
        present = await row_requests.count(call, expression)
        if present:
            with self._writing(name):
                await row_requests.delete(call, expression)
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
        call = self._call(deadline, name, filters.render(filter))
        known = await self._recall(call, dimension=np.shape(vectors)[-1])
        queries = bounds.check_queries(vectors, known.dimension)
        return await Search(call, span, fields, consistency).run(queries)

    @_bounded
    async def count(self, name: str, filter: AnyFilter = "", *, deadline: Deadline) -> int:
        call = self._call(deadline, name, filters.render(filter))
        await self._recall(call)
        return await row_requests.count(call, call.expression)

    @_bounded
    async def settle(self, name: str, *, deadline: Deadline) -> None:
        call = MilvusCall(self._connection, deadline, bounds.check_name(name))
        known = await self._recall(call)
        backend = await call.backend()
        async with self._settling[name]:
            writes = self._writes[name]
            if self._settled_writes[name] == writes:
                return
            if backend.kind == "lite":
                async with self._changing[name]:
                    await vector_index.settle_lite(call, known.marks)
            else:
                await vector_index.settle(call)
            self._settled_writes[name] = writes

    async def close(self) -> None:
        await self._connection.close()

    @contextlib.contextmanager
    def _writing(self, name: str) -> Iterator[None]:
        """Tells settle that there is something to settle, once it is written, or may be."""
        try:
            yield
        finally:
            self._writes[name] += 1

    def _call(
        self, deadline: Deadline, name: str, expression: str = "", *, load: bool = True
    ) -> MilvusCall:
        name = bounds.check_name(name)
        load_if_wanted = self._load if load else None
        return MilvusCall(
            self._connection, deadline, name, expression, load_if_wanted, self._known.forget
        )

    async def _load(self, call: MilvusCall) -> None:
        known = await self._recall(call)
        async with self._changing[call.collection]:
            await vector_index.load(call, known.marks)

    async def _recall(
        self, call: MilvusCall, *, max_age_s: float = _TRUSTED_FOR_S, dimension: int | None = None
    ) -> schema.Known:
        """What the collection is; asks Milvus again where what is known is not of `dimension`."""
        known = await self._known.get(call, max_age_s)
        if dimension in (None, known.dimension):
            return known
        return await self._known.get(call, 0.0)


async def _count_if_loaded(call: MilvusCall) -> tuple[int, bool]:
    """How many rows there are, and whether they are in memory; the call may load them."""
    try:
        return await row_requests.count(call), True
    except errors.NotLoaded:
        return (await row_requests.estimate(call))[0], False
