"""TLS on both sides: whose certificates are taken, whose are refused, and their replacement."""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
import time

import grpc
import pytest

from glimpse.cli.main import main
from glimpse.encoder.v1 import encoder_pb2, encoder_pb2_grpc
from glimpse.errors import Unavailable, UnusableCredentials
from glimpse.indexer.v1 import indexer_pb2, indexer_pb2_grpc
from glimpse.transport.channel import open_aio_channel, open_channel
from glimpse.transport.credentials import Credentials
from glimpse.transport.reloading_channel import ReloadingChannel
from tests.authority import Authority, replaced, write
from tests.small_service import small_service

T = 30.0
TEXTS = encoder_pb2.EncodeTextsRequest(texts=["hello"])


@pytest.fixture
def authority():
    return Authority()


@pytest.fixture
def server_files(authority, tmp_path):
    """Settings of a server that asks for certificates of `authority`, its own being a good one."""
    files = write(tmp_path, "server", authority.pair("localhost"))
    return {
        "tls_cert_file": files.cert,
        "tls_key_file": files.key,
        "tls_client_ca_file": authority.write(tmp_path),
    }


@pytest.fixture
def caller(authority, tmp_path):
    """What a caller needs for it."""
    files = write(tmp_path, "caller", authority.pair("caller"))
    return Credentials(tls_ca=authority.write(tmp_path), tls_cert=files.cert, tls_key=files.key)


async def call(target, credentials):
    channel = open_aio_channel(target, retry=False, credentials=credentials)
    try:
        return await encoder_pb2_grpc.EncoderStub(channel).EncodeTexts(TEXTS, timeout=T)
    finally:
        await channel.close()


async def refused(target, credentials):
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call(target, credentials)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    return str(caught.value.details())


async def test_both_sides_with_certificates_of_the_authority_talk(server_files, caller):
    async with small_service(**server_files) as service:
        assert await call(service.target, caller) == encoder_pb2.EncodeTextsResponse()


async def test_blocking_channel_talks_likewise(server_files, caller):
    async with small_service(**server_files) as service:
        channel = open_channel(service.target, credentials=caller)
        stub = encoder_pb2_grpc.EncoderStub(channel)
        await asyncio.to_thread(stub.EncodeTexts, TEXTS, timeout=T)
        channel.close()


@pytest.mark.parametrize(
    "kind", ["another authority", "expired", "not yet valid", "none", "plaintext"]
)
async def test_caller_without_a_good_certificate_is_refused(
    kind, server_files, caller, authority, tmp_path
):
    pair = {
        "another authority": lambda: Authority().pair("caller"),
        "expired": lambda: authority.pair("caller", from_days=-3, until_days=-2),
        "not yet valid": lambda: authority.pair("caller", from_days=2, until_days=3),
    }.get(kind)
    if pair is not None:
        files = write(tmp_path, "bad", pair())
        bad = Credentials(tls_ca=caller.tls_ca, tls_cert=files.cert, tls_key=files.key)
    else:
        bad = Credentials(tls_ca=caller.tls_ca) if kind == "none" else Credentials()
    async with small_service(**server_files) as service:
        await refused(service.target, bad)
        assert service.entered == 0
        await call(service.target, caller)


@pytest.mark.parametrize("kind", ["another authority", "expired", "not yet valid", "wrong name"])
async def test_server_without_a_good_certificate_is_not_talked_to(
    kind, server_files, caller, authority, tmp_path
):
    pair = {
        "another authority": lambda: Authority().pair("localhost"),
        "expired": lambda: authority.pair("localhost", from_days=-3, until_days=-2),
        "not yet valid": lambda: authority.pair("localhost", from_days=2, until_days=3),
        "wrong name": lambda: authority.pair("elsewhere", loopback=False),
    }[kind]()
    write(tmp_path, "server", pair)
    async with small_service(**server_files) as service:
        why = await refused(service.target, caller)
        assert ("Hostname" if kind == "wrong name" else "certificate") in why
        assert service.entered == 0


async def test_without_client_authorities_a_caller_needs_no_certificate(server_files, caller):
    del server_files["tls_client_ca_file"]
    async with small_service(**server_files) as service:
        await call(service.target, Credentials(tls_ca=caller.tls_ca))


def shown_certificate(port, caller, authority):
    context = ssl.create_default_context(cadata=authority.pem.decode())
    context.load_cert_chain(caller.tls_cert, caller.tls_key)
    context.set_alpn_protocols(["h2"])
    with (
        socket.create_connection(("127.0.0.1", port), timeout=T) as raw,
        context.wrap_socket(raw, server_hostname="localhost") as secured,
    ):
        return ssl.DER_cert_to_PEM_cert(secured.getpeercert(binary_form=True) or b"").strip()


async def test_replaced_server_certificate_reaches_new_connections_and_drops_no_call(
    server_files, caller, authority, tmp_path
):
    async with small_service(**server_files) as service:
        channel = open_aio_channel(service.target, retry=False, credentials=caller)
        stream = indexer_pb2_grpc.IndexerStub(channel).IndexImages()

        async def acknowledged(sequence):
            image = indexer_pb2.Image(sequence=sequence)
            await stream.write(indexer_pb2.IndexImagesRequest(image=image))
            return (await stream.read()).acknowledgement.sequence

        assert await acknowledged(1) == 1
        service.open.clear()
        unary = encoder_pb2_grpc.EncoderStub(channel).EncodeTexts(TEXTS, timeout=60)
        new = authority.pair("localhost")
        write(tmp_path, "server", new)
        ends_s = time.monotonic() + 30
        shown = ""
        while shown.encode() != new.cert.strip() and time.monotonic() < ends_s:
            shown = await asyncio.to_thread(shown_certificate, service.port, caller, authority)
            assert await acknowledged(2) == 2
        assert shown.encode() == new.cert.strip()
        service.open.set()
        await unary
        assert await acknowledged(3) == 3
        await channel.close()


async def test_key_that_does_not_fit_leaves_the_certificate_in_use(
    server_files, caller, authority, caplog
):
    async with small_service(**server_files) as service:
        replaced(server_files["tls_key_file"], authority.pair("localhost").key)
        ends_s = time.monotonic() + 30
        while "remains in use" not in caplog.text and time.monotonic() < ends_s:
            await call(service.target, caller)
        assert "SMALL_TLS_KEY_FILE: is not the key" in caplog.text


async def test_replaced_caller_certificate_is_shown_by_a_channel_that_stays(
    server_files, caller, authority, tmp_path
):
    async with small_service(**server_files) as service:
        channel = open_aio_channel(service.target, retry=False, credentials=caller)
        stream = indexer_pb2_grpc.IndexerStub(channel).IndexImages()
        await stream.write(indexer_pb2.IndexImagesRequest())
        await stream.read()
        new = authority.pair("caller")
        write(tmp_path, "caller", new)
        stub = encoder_pb2_grpc.EncoderStub(channel)
        ends_s = time.monotonic() + 30
        while service.certificate != new.cert and time.monotonic() < ends_s:
            await stub.EncodeTexts(TEXTS, timeout=T)
        assert service.certificate == new.cert
        await stream.write(indexer_pb2.IndexImagesRequest())
        assert (await stream.read()).HasField("acknowledgement")
        await channel.close()


class Recorded:
    """A channel that says when it is closed."""

    def __init__(self, channel, closed):
        self._channel, self._closed = channel, closed
        self.unary_unary = channel.unary_unary

    def close(self):
        self._closed.append(self)
        self._channel.close()


async def test_threads_that_share_a_channel_lose_no_call_while_it_is_renewed(
    server_files, caller, authority, tmp_path
):
    async with small_service(**server_files) as service:
        opened, closed, failures, stop = [], [], [], threading.Event()

        def open_one(tls):
            opened.append(Recorded(grpc.secure_channel(service.target, tls), closed))
            return opened[-1]

        channel = ReloadingChannel(open_one, caller)
        stub = encoder_pb2_grpc.EncoderStub(channel)

        def run():
            while not stop.is_set():
                try:
                    stub.EncodeTexts(TEXTS, timeout=T)
                except grpc.RpcError as error:
                    failures.append(error)

        threads = [threading.Thread(target=run) for _ in range(4)]
        for thread in threads:
            thread.start()
        new = authority.pair("caller")
        write(tmp_path, "caller", new)
        ends_s = time.monotonic() + 30
        while service.certificate != new.cert and time.monotonic() < ends_s:
            await asyncio.to_thread(stub.EncodeTexts, TEXTS, timeout=T)
        stop.set()
        for thread in threads:
            await asyncio.to_thread(thread.join)
        assert service.certificate == new.cert
        assert failures == []
        assert closed == opened[:-1] != []
        channel.close()
        assert closed == opened


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"tls_cert": "server.pem"}, "tls_cert and tls_key: give both, or neither"),
        ({"tls_cert": "server.pem", "tls_key": "server.key"}, "tls_cert: needs tls_ca"),
        ({"tls_ca": "absent.pem"}, "absent.pem cannot be read: no such file"),
        ({"tls_ca": "server.key"}, "tls_ca: contains no certificates in PEM"),
        (
            {"tls_ca": "ca.pem", "tls_cert": "server.pem", "tls_key": "caller.key"},
            "tls_key: is not the key of the certificate in tls_cert",
        ),
        (
            {"tls_ca": "ca.pem", "tls_cert": "server.pem", "tls_key": "ca.pem"},
            "tls_cert and tls_key: are not a certificate and an unencrypted key in PEM",
        ),
    ],
)
def test_unusable_files_are_told_apart(fields, message, server_files, caller, tmp_path):
    credentials = Credentials(**{name: tmp_path / value for name, value in fields.items()})
    with pytest.raises(UnusableCredentials) as caught:
        open_channel("localhost:1", credentials=credentials)
    assert message in str(caught.value)


async def test_clients_and_command_line_use_the_certificates_that_they_are_given(
    connect, server_files, caller, monkeypatch, capsys
):
    async with small_service(**server_files) as service:
        address = service.target

        def dropped(**certificates):
            with connect(address, address, **certificates) as client:
                client.drop_collection("pictures")

        files = {"tls_ca": caller.tls_ca, "tls_cert": caller.tls_cert, "tls_key": caller.tls_key}
        await asyncio.to_thread(dropped, **files)
        with pytest.raises(Unavailable):
            await asyncio.to_thread(dropped)
        command = ["status", "--query", address, "--indexer", address]
        for name, path in files.items():
            monkeypatch.setenv(f"GLIMPSE_{name.upper()}", str(path))
        assert await asyncio.to_thread(main, command) == 0
        assert "not healthy" not in capsys.readouterr().out
        monkeypatch.delenv("GLIMPSE_TLS_CA")
        assert await asyncio.to_thread(main, ["--tls-ca", "absent.pem", *command]) == 1
        printed = capsys.readouterr().err
        assert (
            printed == "glimpse: --tls-ca: absent.pem cannot be read: no such file or directory\n"
        )
