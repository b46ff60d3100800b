"""Milvus behind TLS, as the vector store reaches it; Milvus Lite has none, a proxy adds it."""

from __future__ import annotations

import asyncio
import contextlib
import ssl

import pytest

from glimpse.errors import GlimpseError
from glimpse.transport.credentials import Credentials
from services.common.deadline import Deadline
from services.vectors.milvus.store import MilvusStore
from tests.authority import Authority, write
from tests.backends import MilvusLite

T = 20.0


@contextlib.asynccontextmanager
async def proxy(port, context):
    """Ends TLS in front of a port; yields its own port and the certificates that were shown."""
    shown = []

    async def copy(reader, writer):
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            while content := await reader.read(65536):
                writer.write(content)
                await writer.drain()
        writer.close()

    async def serve(reader, writer):
        shown.append(writer.get_extra_info("ssl_object").getpeercert(binary_form=True))
        try:
            inner = await asyncio.open_connection("127.0.0.1", port)
        except ConnectionRefusedError:
            writer.close()
            return
        await asyncio.gather(copy(reader, inner[1]), copy(inner[0], writer))

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    yield server.sockets[0].getsockname()[1], shown
    server.close()


@pytest.fixture
async def milvus(tmp_path):
    lite = MilvusLite(tmp_path)
    lite.start()
    yield lite
    await asyncio.to_thread(lite.stop)


async def test_store_shows_its_certificate_and_its_replacement(milvus, tmp_path):
    authority = Authority()
    server = write(tmp_path, "server", authority.pair("localhost"))
    caller = write(tmp_path, "caller", authority.pair("caller"))
    ca = authority.write(tmp_path)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(ca))
    context.load_cert_chain(server.cert, server.key)
    context.verify_mode = ssl.CERT_REQUIRED
    context.set_alpn_protocols(["h2"])
    async with proxy(int(milvus.uri.rpartition(":")[2]), context) as (port, shown):
        uri = f"https://127.0.0.1:{port}"
        store = MilvusStore(uri, "", Credentials(ca, caller.cert, caller.key))
        await store.ready(deadline=Deadline(T))
        new = authority.pair("caller")
        write(tmp_path, "caller", new)
        while ssl.PEM_cert_to_DER_cert(new.cert.decode()) not in shown:
            assert await store.list_collections(deadline=Deadline(T)) == []
        await store.close()
        for stranger in (Credentials(ca), Credentials(Authority().write(tmp_path / ".."))):
            store = MilvusStore(uri, "", stranger)
            with pytest.raises(GlimpseError):
                await store.list_collections(deadline=Deadline(T))
            await store.close()
        plaintext = MilvusStore(uri.replace("https", "http"))
        with pytest.raises(GlimpseError, match="Milvus is not ready: Milvus speaks TLS only"):
            await plaintext.ready(deadline=Deadline(2.0))
        await plaintext.close()
