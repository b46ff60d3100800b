"""A service that waits for its encoder says which mistake with TLS it waits for."""

from __future__ import annotations

import pytest

from glimpse.errors import Unavailable
from glimpse.transport.credentials import PLAINTEXT, Credentials
from services.common.deadline import Deadline
from services.common.encoder_client import EncoderClient
from tests.authority import Authority, write
from tests.small_service import small_service

NAMES = ("CA_FILE", "CERT_FILE", "KEY_FILE", "TOKEN", "TOKEN_FILE")


@pytest.mark.parametrize(
    ("stranger", "reason", "message"),
    [
        (False, "TLS_REQUIRED", "the encoder speaks TLS only"),
        (True, "SERVER_CERTIFICATE_UNTRUSTED", "no authority in CA_FILE has issued"),
    ],
)
async def test_asking_for_the_model_tells_the_mistake(stranger, reason, message, tmp_path):
    files = write(tmp_path, "server", Authority().pair("localhost"))
    credentials = Credentials(Authority().write(tmp_path), names=NAMES) if stranger else PLAINTEXT
    async with small_service(tls_cert_file=files.cert, tls_key_file=files.key) as service:
        client = EncoderClient(service.target, 2**20, credentials)
        with pytest.raises(Unavailable, match=message) as caught:
            await client.model(Deadline(20.0))
        await client.close()
    assert caught.value.reason == reason
