"""A service that cannot start says why, a line for each problem, and ends with exit code 2."""

from __future__ import annotations

import json
import socket

import pytest

from services.query.settings import QuerySettings
from tests.processes import started

SERVICES = ("encoder", "indexer", "query")
PEERS = ("indexer", "query")


async def refusal(service, **settings):
    """The lines that it ends with."""
    process = await started(service, **{"LOG_LEVEL": "ERROR", **settings})
    _, stderr = await process.communicate()
    assert process.returncode == 2
    return stderr.decode().splitlines()


@pytest.fixture
def busy():
    """An address on which somebody listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


@pytest.mark.parametrize("service", SERVICES)
async def test_busy_port_is_one_line(service, busy):
    assert await refusal(service, LISTEN=busy) == [
        f"{service}: {service.upper()}_LISTEN: cannot listen on {busy}: the port is in use"
    ]


@pytest.mark.parametrize("name", ["METRICS_LISTEN", "HEALTH_LISTEN"])
async def test_busy_port_for_metrics_or_probes_is_one_line(name, busy):
    (line,) = await refusal("encoder", **{name: busy})
    assert line.startswith(f"encoder: ENCODER_{name}: cannot listen on {busy}: ")


@pytest.mark.parametrize("service", SERVICES)
async def test_unreadable_certificate_is_one_line(service):
    assert await refusal(service, TLS_CERT_FILE="/absent.pem", TLS_KEY_FILE="/absent.key") == [
        f"{service}: {service.upper()}_TLS_CERT_FILE: /absent.pem cannot be read: "
        "no such file or directory"
    ]


@pytest.mark.parametrize(
    ("service", "name", "others"),
    [("encoder", "TOKENS_FILE", {})]
    + [
        (service, name, {})
        for service in PEERS
        for name in ("ENCODER_TLS_CA_FILE", "ENCODER_TOKEN_FILE")
    ]
    + [(service, "MILVUS_TLS_CA_FILE", {"MILVUS_URI": "https://127.0.0.1:1"}) for service in PEERS],
)
async def test_unreadable_credentials_are_one_line(service, name, others):
    assert await refusal(service, **{name: "/absent"}, **others) == [
        f"{service}: {service.upper()}_{name}: /absent cannot be read: no such file or directory"
    ]


@pytest.mark.parametrize("service", SERVICES)
async def test_wrong_settings_are_a_line_each_with_what_they_take(service):
    prefix = service.upper()
    lines = await refusal(
        service, LISTEN="[::]:0", LOG_LEVEL="LOUD", TLS_KEY_FILE="/k", GRACE_S="x"
    )
    assert [line.partition(": ")[0] for line in lines] == [
        f"{prefix}_LOG_LEVEL",
        f"{prefix}_GRACE_S",
        f"{prefix}_TLS_CERT_FILE and {prefix}_TLS_KEY_FILE",
        f"{prefix}_LISTEN",
    ]
    assert "'DEBUG', 'INFO', 'WARNING' or 'ERROR', not 'LOUD'" in lines[0]
    assert f"or {prefix}_INSECURE=true" in lines[-1]


@pytest.mark.parametrize("service", PEERS)
async def test_address_that_is_no_milvus_is_one_line(service):
    (line,) = await refusal(service, MILVUS_URI="ftp://x")
    assert line.startswith(f"{service.upper()}_MILVUS_URI: ")
    assert "https?://" in line


@pytest.mark.parametrize(
    ("service", "misspelt", "meant"),
    [
        ("encoder", "MODELL", "ENCODER_MODEL"),
        ("indexer", "MILVUS_URL", "INDEXER_MILVUS_URI"),
        ("query", "MAX_INFLIGHT", "QUERY_MAX_IN_FLIGHT"),
    ],
)
async def test_a_name_that_is_no_setting_is_a_warning_with_the_one_that_is_meant(
    service, misspelt, meant, busy, monkeypatch
):
    # What Kubernetes sets by itself where there is a Service of that name, and another service's.
    monkeypatch.setenv(f"{service.upper()}_PORT_50053_TCP_ADDR", "10.0.0.1")
    monkeypatch.setenv(f"{service.upper()}_SERVICE_HOST", "10.0.0.1")
    monkeypatch.setenv("OTHER_MAX_INFLIGHT", "5")
    warning, _ = await refusal(service, LISTEN=busy, LOG_LEVEL="WARNING", **{misspelt: "5"})
    name = f"{service.upper()}_{misspelt}"
    assert warning.endswith(f"WARNING {name} is no setting of {service}: is {meant} meant?")


async def test_effective_settings_are_logged_first_without_their_secrets(busy):
    log, line = await refusal(
        "query",
        LISTEN=busy,
        LOG_LEVEL="INFO",
        LOG_FORMAT="json",
        MILVUS_TOKEN="root:hunter2",
        PAGE_TOKEN_KEY="hunter2",
    )
    logged = json.loads(log)["settings"]
    assert logged.keys() == {f"QUERY_{name.upper()}" for name in QuerySettings.model_fields}
    assert logged["QUERY_LISTEN"] == busy
    assert logged["QUERY_MILVUS_TOKEN"] == logged["QUERY_PAGE_TOKEN_KEY"] == "**********"
    assert "hunter2" not in log + line


# A service whose look at Milvus meets an error that nobody foresaw.
BROKEN_READINESS = """
import sys
from services.common.server import run_service
from services.common.settings import load
from tests.memory_store import MemoryStore
from services.{service}.main import serve
from services.{service}.settings import {settings}

class Store(MemoryStore):
    async def ready(self, *, deadline):
        raise ZeroDivisionError("a bug")

settings = load({settings})
sys.exit(run_service(settings, lambda: serve(settings, Store())))
"""


@pytest.mark.parametrize("service", PEERS)
async def test_a_readiness_that_fails_ends_the_service_instead_of_freezing_its_health(service):
    program = BROKEN_READINESS.format(service=service, settings=f"{service.capitalize()}Settings")
    process = await started(service, program=("-c", program))
    _, stderr = await process.communicate()
    assert process.returncode == 1
    assert "ZeroDivisionError('a bug')" in stderr.decode()
