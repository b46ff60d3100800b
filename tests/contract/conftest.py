"""The three stores that must keep one contract, and a collection in each; the Milvus server talks
mTLS, lets in users alone, and has a database for it, as in production.

A fourth, `remote`, is there only where GLIMPSE_TEST_MILVUS_URI names a server that somebody has, as
`make contract` does; MILVUS_TOKEN and the like say how to reach it. Its collections get a prefix of
their own, and are dropped in the end.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from pymilvus import MilvusClient
from pymilvus.exceptions import MilvusException

from glimpse.errors import AlreadyExists
from glimpse.transport.credentials import PLAINTEXT, Credentials
from services.common.deadline import Deadline
from services.vectors.filters import Comparison
from services.vectors.metadata import Metadata
from services.vectors.milvus.connection import certificate_options
from services.vectors.milvus.store import MilvusStore
from services.vectors.records import CollectionSpec, Row
from services.vectors.store import VectorStore
from tests.authority import Authority, write
from tests.backends import MilvusLite, MilvusServer, has_milvus_server
from tests.contract.prefixed_store import PrefixedStore
from tests.memory_store import MemoryStore
from tests.milvus_rights import granted, kind_of
from tests.waiting import wait_until

T = 30.0  # seconds; enough for a slow machine, and never waited for in vain
DIMENSION = 8
PASSWORD = "password"
"""Of the users of the Milvus server."""

_REMOTE_URI = os.environ.get("GLIMPSE_TEST_MILVUS_URI", "")
_SERVERS = ["milvus", "remote"] if _REMOTE_URI else ["milvus"]

ON_MILVUS = pytest.mark.parametrize("backend", ["lite", *_SERVERS], indirect=True)
"""Marks tests of what the store in memory does not do: filters in Milvus' language, say."""

ON_SERVERS = pytest.mark.parametrize("backend", _SERVERS, indirect=True)
"""Marks tests of what Milvus Lite does not do either."""


@dataclass(frozen=True)
class Backend:
    name: str
    kind: Literal["memory", "lite", "milvus"]
    uri: str = ""
    process: MilvusLite | MilvusServer | None = None
    credentials: Credentials = PLAINTEXT
    token: str = ""
    prefix: str = ""
    database: str = ""

    def open(self) -> VectorStore:
        if self.kind == "memory":
            return MemoryStore()
        store = MilvusStore(self.uri, self.token, self.credentials, database=self.database)
        return PrefixedStore(store, self.prefix) if self.prefix else store

    def client(self) -> MilvusClient:
        """pymilvus' own client, for what a store does not do; it knows nothing of the prefix."""
        options: dict[str, Any] = {"timeout": T, "token": self.token, "db_name": self.database}
        return MilvusClient(self.uri, **options, **certificate_options(self.credentials))

    def with_database(self, name: str) -> Backend:
        """The same in a database of that name, which is made as soon as Milvus is there. Raises
        RuntimeError if it has ended."""

        def create() -> bool:
            if self.process is not None:
                self.process.check()
            try:
                with contextlib.closing(self.client()) as client:
                    client.create_database(name)
            except MilvusException:
                return False
            return True

        wait_until(create, f"Milvus did not create the database {name!r}")
        return replace(self, database=name)


def process_of(
    name: str,
    tmp_path_factory: pytest.TempPathFactory,
    tls: tuple[Path, Path, Path] | None = None,
    settings: dict[str, str] | None = None,
) -> MilvusLite | MilvusServer:
    directory = tmp_path_factory.mktemp(name)
    if name == "lite":
        return MilvusLite(directory)
    if not has_milvus_server():
        pytest.skip("no Milvus server: `make milvus-server` could not install it")
    return MilvusServer(directory, tls, settings)


@pytest.fixture(scope="package")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Backend]:
    """A Milvus server for all modules, as its start takes a quarter of a minute."""
    folder = tmp_path_factory.mktemp("certificates")
    authority = Authority()
    ca = authority.write(folder)
    own = write(folder, "milvus", authority.pair("localhost"))
    caller = write(folder, "store", authority.pair("store"))
    users = {"COMMON_SECURITY_AUTHORIZATIONENABLED": "true"}
    with running("milvus", tmp_path_factory, (own.cert, own.key, ca), users) as process:
        credentials = Credentials(ca, caller.cert, caller.key)
        token = "root:Milvus"  # who is there from the beginning
        backend = Backend("milvus", "milvus", process.uri, process, credentials, token)
        backend.with_database("first")  # waits until it answers; what fails here fails once
        create_users(backend)  # now: a server with much to do takes its time to know a grant
        yield backend


def create_users(backend: Backend) -> None:
    """Those of the services, in all databases, with the rights that jobs/milvus-users grants: it
    grants groups of them, which Milvus has from 2.5 on."""
    with contextlib.closing(backend.client()) as root:
        for user in ("indexer", "query"):
            root.create_role(user)
            for right in sorted(granted(user)):
                root.grant_privilege(user, kind_of(right), right, "*", db_name="*")
            root.create_user(user, PASSWORD)
            root.grant_role(user, user)


@pytest.fixture(scope="package")
def lite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Backend]:
    """One Milvus Lite for all modules, likewise."""
    with running("lite", tmp_path_factory) as process:
        yield Backend("lite", "lite", process.uri, process)


@pytest.fixture(scope="module", params=["memory", "lite", *_SERVERS])
def backend(request: pytest.FixtureRequest) -> Iterator[Backend]:
    if request.param == "memory":
        yield Backend("memory", "memory")
    elif request.param == "remote":
        yield from remote()
    elif request.param == "milvus":
        server: Backend = request.getfixturevalue("server")
        yield server.with_database(request.module.__name__.rpartition(".")[2])
    else:
        lite: Backend = request.getfixturevalue("lite")
        yield lite
        drop_collections(lite)


@contextlib.contextmanager
def running(
    name: str,
    tmp_path_factory: pytest.TempPathFactory,
    tls: tuple[Path, Path, Path] | None = None,
    settings: dict[str, str] | None = None,
) -> Iterator[MilvusLite | MilvusServer]:
    """Started, and killed in the end, as nobody needs what it holds; an orderly stop takes longer,
    at times half a minute."""
    process = process_of(name, tmp_path_factory, tls, settings)
    process.start()
    try:
        yield process
    finally:
        process.kill()
        shutil.rmtree(process.directory)


def remote() -> Iterator[Backend]:
    prefix = f"contract_{secrets.token_hex(4)}_"
    files = (os.environ.get(f"MILVUS_TLS_{each}_FILE") for each in ("CA", "CERT", "KEY"))
    backend = Backend(
        "remote",
        "milvus",
        _REMOTE_URI,
        credentials=Credentials(*(Path(file) if file else None for file in files)),
        token=os.environ.get("MILVUS_TOKEN", ""),
        prefix=prefix,
        database=os.environ.get("MILVUS_DATABASE", ""),
    )
    with contextlib.closing(backend.client()) as client:
        is_lite = client.get_server_version().startswith("milvus_lite")
    yield replace(backend, kind="lite") if is_lite else backend
    drop_collections(backend)


def drop_collections(backend: Backend) -> None:
    """Those that begin with its prefix."""
    with contextlib.closing(backend.client()) as client:
        for name in client.list_collections():
            if name.startswith(backend.prefix):
                client.drop_collection(name)


@pytest.fixture
async def store(backend: Backend) -> AsyncIterator[VectorStore]:
    store = backend.open()
    await store.ready(deadline=Deadline(60))
    yield store
    await store.close()


@pytest.fixture
async def collection(store: VectorStore) -> str:
    """The name of an empty collection of DIMENSION."""
    name = "pictures"
    try:
        await store.create_collection(spec(name), deadline=Deadline(T))
    except AlreadyExists:
        await store.delete_where(name, Comparison("id", ">=", ""), deadline=Deadline(T))
    return name


def spec(name: str, **changes) -> CollectionSpec:
    values = {"dimension": DIMENSION, "model_name": "demo", "model_fingerprint": "f1" * 32}
    return CollectionSpec(name=name, **{**values, **changes})


def axis(number: int) -> np.ndarray:
    """A unit vector along one axis."""
    return np.eye(DIMENSION, dtype=np.float32)[number]


def between(cosine: float) -> np.ndarray:
    """The unit vector with this cosine to axis 0."""
    return (cosine * axis(0) + np.sqrt(1 - cosine**2) * axis(1)).astype(np.float32)


def picture(id: str, vector: np.ndarray | None = None, **fields) -> Row:
    metadata = Metadata.of(fields.pop("metadata", {}))
    return Row(id=id, vector=axis(0) if vector is None else vector, metadata=metadata, **fields)
