"""The three stores that must keep one contract, and a collection in each; the Milvus server talks
mTLS, as in production."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from pymilvus import MilvusClient

from glimpse.errors import AlreadyExists
from glimpse.transport.credentials import PLAINTEXT, Credentials
from services.common.deadline import Deadline
from services.vectors.filters import Comparison
from services.vectors.milvus.store import MilvusStore
from services.vectors.records import CollectionSpec, Row
from services.vectors.store import VectorStore
from tests.authority import Authority, write
from tests.backends import MilvusLite, MilvusServer, has_milvus_server
from tests.memory_store import MemoryStore

T = 30.0  # seconds; enough for a slow machine, and never waited for in vain
DIMENSION = 8

TEXT_FILTERS = pytest.mark.parametrize("backend", ["lite", "milvus"], indirect=True)
"""Marks tests of filters in Milvus' language, which the store in memory does not read."""


@dataclass(frozen=True)
class Backend:
    name: str
    uri: str
    process: MilvusLite | MilvusServer | None
    credentials: Credentials = PLAINTEXT

    def open(self) -> VectorStore:
        if self.process is None:
            return MemoryStore()
        return MilvusStore(self.uri, "", self.credentials)

    def client(self) -> MilvusClient:
        """pymilvus' own client, for what a store does not do."""
        files = self.credentials
        if not files:
            return MilvusClient(self.uri, timeout=T)
        names = {"ca_pem_path": files.tls_ca, "client_pem_path": files.tls_cert}
        names["client_key_path"] = files.tls_key
        return MilvusClient(self.uri, timeout=T, **{name: str(p) for name, p in names.items()})


def process_of(
    name: str, tmp_path_factory: pytest.TempPathFactory, tls: tuple[Path, Path, Path] | None = None
) -> MilvusLite | MilvusServer:
    directory = tmp_path_factory.mktemp(name)
    if name == "lite":
        return MilvusLite(directory)
    if not has_milvus_server():
        pytest.skip("no Milvus server: `make milvus-server` could not install it")
    return MilvusServer(directory, tls)


@pytest.fixture(scope="module", params=["memory", "lite", "milvus"])
def backend(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Backend]:
    if request.param == "memory":
        yield Backend("memory", "", None)
        return
    credentials, tls = PLAINTEXT, None
    if request.param == "milvus":
        folder = tmp_path_factory.mktemp("certificates")
        authority = Authority()
        ca = authority.write(folder)
        server = write(folder, "milvus", authority.pair("localhost"))
        caller = write(folder, "store", authority.pair("store"))
        credentials, tls = Credentials(ca, caller.cert, caller.key), (server.cert, server.key, ca)
    process = process_of(request.param, tmp_path_factory, tls)
    process.start()
    yield Backend(request.param, process.uri, process, credentials)
    process.stop()
    shutil.rmtree(process.directory)


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
    return Row(id=id, vector=axis(0) if vector is None else vector, **fields)
