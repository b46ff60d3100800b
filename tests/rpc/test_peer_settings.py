"""The settings with which a service, as a process, protects its calls to the encoder and Milvus."""

from __future__ import annotations

from glimpse.tokens import line, new_token
from tests.authority import Authority, write
from tests.processes import started
from tests.small_service import small_service


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
            ("-m", "tests.memory_service", "indexer"),
            ENCODER=encoder.target,
            ENCODER_TLS_CA_FILE=ca,
            ENCODER_TLS_CERT_FILE=caller.cert,
            ENCODER_TLS_KEY_FILE=caller.key,
            ENCODER_TOKEN_FILE=tmp_path / "token",
        )
        assert process.stderr
        read = ""
        while not read.endswith("INFO serving\n"):
            chunk = await process.stderr.readline()
            assert chunk, read
            read += chunk.decode()
        process.terminate()
        read += (await process.communicate())[1].decode()
    assert process.returncode == 0
    assert token not in read
