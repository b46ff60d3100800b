"""A Milvus server that asks for certificates, and callers who have none that it takes."""

from __future__ import annotations

import pytest

from glimpse.errors import GlimpseError
from glimpse.transport.credentials import Credentials
from services.common.deadline import Deadline
from services.vectors.milvus.store import MilvusStore
from tests.authority import Authority, write
from tests.contract.conftest import T

pytestmark = pytest.mark.parametrize("backend", ["milvus"], indirect=True)


@pytest.fixture(params=["no certificate", "a stranger's certificate", "another authority"])
def refused(request, backend, tmp_path):
    ours, stranger = backend.credentials, Authority()
    theirs = write(tmp_path, "stranger", stranger.pair("store"))
    return {
        "no certificate": Credentials(ours.tls_ca),
        "a stranger's certificate": Credentials(ours.tls_ca, theirs.cert, theirs.key),
        "another authority": Credentials(stranger.write(tmp_path), ours.tls_cert, ours.tls_key),
    }[request.param]


async def test_milvus_with_tls_lets_in_nobody_without_its_authoritys_certificate(backend, refused):
    store = MilvusStore(backend.uri, backend.token, refused)
    with pytest.raises(GlimpseError):
        await store.ready(deadline=Deadline(3.0))
    await store.close()
    # It was not down: who may come in comes in.
    store = MilvusStore(backend.uri, backend.token, backend.credentials)
    await store.ready(deadline=Deadline(T))
    await store.close()


async def test_milvus_with_tls_does_not_talk_plaintext(backend):
    store = MilvusStore(backend.uri.replace("https://", "http://"), backend.token)
    with pytest.raises(GlimpseError):
        await store.ready(deadline=Deadline(3.0))
    await store.close()
