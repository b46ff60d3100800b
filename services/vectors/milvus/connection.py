"""The connection to one Milvus, and requests within a deadline."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import urlsplit

from pymilvus import AsyncMilvusClient

from glimpse.errors import FailedPrecondition, GlimpseError, NotFound
from glimpse.transport.channel import proxy_options
from glimpse.transport.credentials import Credentials
from glimpse.transport.diagnosis import Diagnosis
from glimpse.transport.host_port import split_host_port
from services.common.deadline import Deadline
from services.common.tasks import run_within
from services.vectors.milvus import errors
from services.vectors.milvus.lite_writes import LiteWrites
from services.vectors.milvus.metrics import MilvusMetrics
from services.vectors.milvus.request_client import RequestClient

# pymilvus pings every 10 s, which Milvus Lite takes for abuse: it cuts the connection, and with it
# the call that comes just then. A peer that is gone is noticed by the first call that it leaves
# unanswered, so nothing needs the pings.
_GRPC_OPTIONS = {
    "grpc.keepalive_time_ms": 300_000,
    # By default, a peer who lets somebody connect and then says nothing is given up after 20 s.
    "grpc.min_reconnect_backoff_ms": 5_000,
}

# What Milvus answers about a collection that was dropped, or dropped and made anew.
_TELL_OF_CHANGE = (NotFound, FailedPrecondition, errors.MilvusFailed)

# Far more than any call takes: what calls on an old channel get to end, and pymilvus to connect,
# which ends at the deadline of the call that waits for it.
_MAX_CALL_S = 600.0


@dataclass(frozen=True)
class Backend:
    """Which Milvus answers."""

    kind: Literal["lite", "server", "cloud"]
    version: str

    @property
    def index_kinds(self) -> tuple[str, ...]:
        """What a CollectionSpec may ask for; Milvus accepts kinds that it then never builds."""
        if self.kind == "cloud":
            return ("AUTO",)
        if self.kind == "lite":
            return ("AUTO", "FLAT", "IVF_FLAT", "IVF_SQ8", "HNSW", "HNSW_SQ")
        kinds = ("AUTO", "FLAT", "IVF_FLAT", "IVF_SQ8", "HNSW")
        if not self.version.endswith("-lite"):  # the Python package with the server in it
            kinds = (*kinds, "DISKANN")
        if not self.version.removeprefix("v").startswith(("2.3", "2.4")):
            kinds = (*kinds, "HNSW_SQ")
        return kinds


class Connection:
    """One gRPC channel to a Milvus, made at the first use and mended by pymilvus when it breaks.

    Made anew when the certificates' files change; the calls under way get the time to end. Owned
    by the event loop of its first use.
    """

    def __init__(
        self,
        uri: str,
        token: str,
        credentials: Credentials,
        metrics: MilvusMetrics,
        database: str = "",
    ) -> None:
        self.metrics = metrics
        self.database = database
        # pymilvus logs a traceback for every failed call, before the caller has judged it.
        logging.getLogger("pymilvus").setLevel(logging.CRITICAL)
        self._uri = uri
        self._token = token
        self._certificates = credentials.watch_tls()
        self._certificate_options = certificate_options(credentials)
        self._diagnosis = _diagnosis(uri, credentials)
        self._used: object = None
        self._retiring: set[asyncio.Task[None]] = set()
        self._connecting = asyncio.Lock()
        self.lite_writes = LiteWrites()
        self._connected: tuple[AsyncMilvusClient, Backend] | None = None

    async def get(self) -> tuple[AsyncMilvusClient, Backend]:
        """Raises one of errors.FOREIGN."""
        async with self._connecting:
            self._retire_if_outdated()
            if self._connected is None:
                await asyncio.to_thread(_import_scipy)
                client = RequestClient(
                    self._uri,
                    token=self._token,
                    db_name=self.database,
                    timeout=_MAX_CALL_S,
                    dedicated=True,
                    grpc_options=_GRPC_OPTIONS | dict(proxy_options(urlsplit(self._uri).netloc)),
                    **self._certificate_options,
                )
                try:
                    version = await client.get_server_version(timeout=_MAX_CALL_S)
                except BaseException:
                    await client.close()  # or pymilvus keeps it for good
                    raise
                self._connected = client, _backend(client, str(version))
            return self._connected

    async def failure(self, error: GlimpseError) -> str:
        """Why there is no connection: a mistake with TLS, if it can be seen, else the error."""
        cause = await asyncio.to_thread(self._diagnosis.cause) if self._diagnosis else None
        return cause.message if cause else str(error)

    async def close(self) -> None:
        connected, self._connected = self._connected, None
        if connected is not None:
            await connected[0].close()
        for task in tuple(self._retiring):
            task.cancel()
        await asyncio.gather(*self._retiring, return_exceptions=True)

    def _retire_if_outdated(self) -> None:
        newest = self._certificates.current() if self._certificates is not None else None
        if newest is self._used:
            return
        if self._connected is not None:
            task = asyncio.create_task(_close_later(self._connected[0]))
            self._retiring.add(task)
            task.add_done_callback(self._retiring.discard)
        self._used, self._connected = newest, None


async def _close_later(client: AsyncMilvusClient) -> None:
    try:
        await asyncio.sleep(_MAX_CALL_S)
    finally:
        await client.close()


def _diagnosis(uri: str, credentials: Credentials) -> Diagnosis | None:
    """None where the machine's own authorities are trusted, which are gRPC's to know."""
    parts = urlsplit(uri)
    address = parts.netloc.rpartition("@")[2]
    trusts_machine = parts.scheme == "https" and credentials.tls_ca is None
    if trusts_machine or not split_host_port(address)[1].isdecimal():
        return None
    return Diagnosis("Milvus", address, credentials)


def certificate_options(credentials: Credentials) -> dict[str, str]:
    """As pymilvus names them, which names the authorities' file by whether there is another."""
    if credentials.tls_ca is None:
        return {}
    if credentials.tls_cert is None:
        return {"server_pem_path": str(credentials.tls_ca)}
    return {
        "ca_pem_path": str(credentials.tls_ca),
        "client_pem_path": str(credentials.tls_cert),
        "client_key_path": str(credentials.tls_key),
    }


def _import_scipy() -> None:
    """What pymilvus would do within the first search, holding the event loop for that long."""
    with contextlib.suppress(ImportError):
        importlib.import_module("scipy.sparse")


def _backend(client: AsyncMilvusClient, version: str) -> Backend:
    if version.startswith("milvus_lite"):
        return Backend("lite", version)
    return Backend("server" if client.get_server_type() == "milvus" else "cloud", version)


class MilvusCall:
    """One call of the store: its requests to Milvus share a deadline, a collection, a filter.

    Errors speak of the collection by the name that the caller gave; requests go to `collection`,
    which is Milvus' own name of it. One that Milvus does not hold in memory (after a restart) is
    loaded by `load`, and the request sent once more. `forget` is called when an answer shows that
    the collection may not be what it was.
    """

    def __init__(
        self,
        connection: Connection,
        deadline: Deadline,
        name: str = "",
        expression: str = "",
        load: Callable[[MilvusCall], Awaitable[None]] | None = None,
        forget: Callable[[], None] = lambda: None,
        collection: str = "",
    ) -> None:
        """Without `collection`, the name is Milvus' own."""
        self._connection = connection
        self._deadline = deadline
        self._load = load
        self._forget = forget
        self.name = name
        self.collection = collection or name
        self.expression = expression

    async def backend(self) -> Backend:
        try:
            return (await self._connection.get())[1]
        except errors.FOREIGN as error:
            raise errors.translate(error, self._connection.database, self.name) from error

    async def __call__(self, method: str, *args: Any, **options: Any) -> Any:
        """The result of AsyncMilvusClient's `method`; raises GlimpseError."""
        try:
            return await self._send(method, *args, **options)
        except errors.NotLoaded:
            if self._load is None:
                raise
        except errors.MilvusFailed as error:
            if self.expression and await self._answers_without_filter():
                raise errors.invalid_filter(str(error)) from error
            raise
        await self._load(self.on(self.collection))
        return await self._send(method, *args, **options)

    def on(
        self,
        collection: str,
        expression: str = "",
        load: Callable[[MilvusCall], Awaitable[None]] | None = None,
        forget: Callable[[], None] = lambda: None,
    ) -> MilvusCall:
        """The same for requests to one of Milvus' collections."""
        return MilvusCall(
            self._connection, self._deadline, self.name, expression, load, forget, collection
        )

    async def find(self, method: str, name: str) -> Any:
        """The result of `method` for a collection that may not be there; None if it is not, which
        is no failure, in metrics neither."""
        connection = self._connection
        with connection.metrics.request(method, connection.database, name):
            try:
                return await self._answer(method, name)
            except NotFound:
                return None

    async def _send(self, method: str, *args: Any, **options: Any) -> Any:
        connection = self._connection
        with connection.metrics.request(method, connection.database, self.collection):
            try:
                return await self._answer(method, *args, **options)
            except GlimpseError as error:
                if isinstance(error, _TELL_OF_CHANGE):
                    self._forget()
                raise

    async def _answer(self, method: str, *args: Any, **options: Any) -> Any:
        try:
            left_s = self._deadline.left_s()
            # Here as well, because pymilvus connects anew outside the timeout it is given.
            return await run_within(left_s, self._request(method, *args, **options))
        except errors.FOREIGN as error:
            database = self._connection.database
            raise errors.translate(error, database, self.name, self.expression) from error

    async def _request(self, method: str, *args: Any, **options: Any) -> Any:
        client, backend = await self._connection.get()
        request = getattr(client, method)
        if backend.kind != "lite":
            return await request(*args, timeout=self._deadline.left_s(), **options)
        async with self._connection.lite_writes.turn(method, self.collection):
            return await request(*args, timeout=self._deadline.left_s(), **options)

    async def _answers_without_filter(self) -> bool:
        """Tells an unknown error that the filter causes from one of Milvus' own."""
        try:
            await self._send("query", self.collection, filter="", limit=1, output_fields=["id"])
        except GlimpseError:
            return False
        return True
