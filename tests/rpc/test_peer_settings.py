"""The settings with which a service, as a process, protects its calls to the encoder and Milvus."""

from __future__ import annotations

import asyncio
import os
import sys

import pytest

from glimpse.tokens import line, new_token
from tests.authority import Authority, write
from tests.small_service import small_service


async def started(service, **settings):
    """The process of a service on free ports, without Milvus."""
    prefix = service.upper()
    values = {
        "LISTEN": "127.0.0.1:0",
        "METRICS_LISTEN": "127.0.0.1:0",
        "MILVUS_URI": "memory://",
        "LOG_FORMAT": "text",
        **settings,
    }
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        f"services.{service}",
        env={**os.environ, **{f"{prefix}_{name}": str(each) for name, each in values.items()}},
        stderr=asyncio.subprocess.PIPE,
    )


async def test_indexer_is_ready_once_a_protected_encoder_lets_it_in(tmp_path):
    authority = Authority()
    files = write(tmp_path, "encoder", authority.pair("localhost"))
    caller = write(tmp_path, "caller", authority.pair("indexer"))
    ca, token = authority.write(tmp_path), new_token()
    (tmp_path / "token").write_text(token)
    (tmp_path / "tokens").write_text(line(token, ["encode"], "indexer"))
    async with small_service(
        tls_cert_file=files.cert,
        tls_key_file=files.key,
        tls_client_ca_file=ca,
        tokens_file=tmp_path / "tokens",
    ) as encoder:
        process = await started(
            "indexer",
            ENCODER=encoder.target,
            ENCODER_TLS_CA_FILE=ca,
            ENCODER_TLS_CERT_FILE=caller.cert,
            ENCODER_TLS_KEY_FILE=caller.key,
            ENCODER_TOKEN_FILE=tmp_path / "token",
        )
        assert process.stderr
        read = ""
        while not read.endswith("INFO serving\n"):
            chunk = await asyncio.wait_for(process.stderr.readline(), 60)
            assert chunk, read
            read += chunk.decode()
        process.terminate()
        read += (await process.communicate())[1].decode()
    assert process.returncode == 0
    assert token not in read


@pytest.mark.parametrize("service", ["indexer", "query"])
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"ENCODER_TLS_CA_FILE": "/absent"},
            "ENCODER_TLS_CA_FILE: /absent cannot be read: no such file or directory",
        ),
        (
            {"ENCODER_TOKEN_FILE": "/absent"},
            "ENCODER_TOKEN_FILE: /absent cannot be read: no such file or directory",
        ),
        (
            {"MILVUS_URI": "https://127.0.0.1:1", "MILVUS_TLS_CA_FILE": "/absent"},
            "MILVUS_TLS_CA_FILE: /absent cannot be read: no such file or directory",
        ),
        (
            {"MILVUS_URI": "http://127.0.0.1:1", "MILVUS_TLS_CA_FILE": "/absent"},
            "MILVUS_TLS_CA_FILE: needs {prefix}_MILVUS_URI to start with https://, "
            "which is 'http://127.0.0.1:1'",
        ),
    ],
)
async def test_peers_credentials_that_cannot_be_used_end_the_start(service, settings, message):
    process = await started(service, LOG_LEVEL="ERROR", **settings)
    _, stderr = await process.communicate()
    assert process.returncode == 2
    prefix = service.upper()
    said = stderr.decode().removeprefix(f"{service}: ")
    assert said == f"{prefix}_{message.format(prefix=prefix)}\n"
