"""A service that cannot start says why, a line for each problem, and ends with exit code 2."""

from __future__ import annotations

import contextlib
import json
import socket

import pytest

from glimpse.cli.ports import free_ports
from services.query.settings import QuerySettings
from tests.clip_models import saved
from tests.processes import environment, started
from tests.zygote import Zygote

SERVICES = ("encoder", "indexer", "query")
PEERS = ("indexer", "query")


@pytest.fixture(scope="module")
def zygotes():
    """By service: to import one takes much longer than to be refused by it."""
    with contextlib.ExitStack() as running:
        yield {service: running.enter_context(Zygote(service)) for service in SERVICES}


@pytest.fixture
def refusal(zygotes, tmp_path):
    """Starts a service; returns the lines that it ends with."""

    def refused(service: str, **settings: object) -> list[str]:
        log = tmp_path / f"{service}.log"
        values = environment(service, **{"LOG_LEVEL": "ERROR", **settings})
        pid = zygotes[service].start(values, log)
        assert zygotes[service].await_end(pid) == 2
        return log.read_text().splitlines()

    return refused


@pytest.fixture
def busy():
    """An address on which somebody listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


@pytest.mark.parametrize("service", SERVICES)
def test_busy_port_is_one_line(service, busy, refusal):
    assert refusal(service, LISTEN=busy) == [
        f"{service}: {service.upper()}_LISTEN: cannot listen on {busy}: the port is in use"
    ]


@pytest.mark.parametrize("name", ["METRICS_LISTEN", "HEALTH_LISTEN"])
def test_busy_port_for_metrics_or_probes_is_one_line(name, busy, refusal):
    (line,) = refusal("encoder", **{name: busy})
    assert line.startswith(f"encoder: ENCODER_{name}: cannot listen on {busy}: ")


@pytest.mark.parametrize("service", SERVICES)
def test_unreadable_certificate_is_one_line(service, refusal):
    assert refusal(service, TLS_CERT_FILE="/absent.pem", TLS_KEY_FILE="/absent.key") == [
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
def test_unreadable_credentials_are_one_line(service, name, others, refusal):
    assert refusal(service, **{name: "/absent"}, **others) == [
        f"{service}: {service.upper()}_{name}: /absent cannot be read: no such file or directory"
    ]


@pytest.mark.parametrize("service", SERVICES)
def test_wrong_settings_are_a_line_each_with_what_they_take(service, refusal):
    prefix = service.upper()
    lines = refusal(service, LISTEN="[::]:0", LOG_LEVEL="LOUD", TLS_KEY_FILE="/k", GRACE_S="x")
    assert [line.partition(": ")[0] for line in lines] == [
        f"{prefix}_LOG_LEVEL",
        f"{prefix}_GRACE_S",
        f"{prefix}_TLS_CERT_FILE and {prefix}_TLS_KEY_FILE",
        f"{prefix}_LISTEN",
    ]
    assert "'DEBUG', 'INFO', 'WARNING' or 'ERROR', not 'LOUD'" in lines[0]
    assert f"or {prefix}_INSECURE=true" in lines[-1]


@pytest.mark.parametrize("service", PEERS)
def test_address_that_is_no_milvus_is_one_line(service, refusal):
    (line,) = refusal(service, MILVUS_URI="ftp://x")
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
def test_a_name_that_is_no_setting_is_a_warning_with_the_one_that_is_meant(
    service, misspelt, meant, busy, monkeypatch, refusal
):
    # What Kubernetes sets by itself where there is a Service of that name, and another service's.
    monkeypatch.setenv(f"{service.upper()}_PORT_50053_TCP_ADDR", "10.0.0.1")
    monkeypatch.setenv(f"{service.upper()}_SERVICE_HOST", "10.0.0.1")
    monkeypatch.setenv("OTHER_MAX_INFLIGHT", "5")
    warning, _ = refusal(service, LISTEN=busy, LOG_LEVEL="WARNING", **{misspelt: "5"})
    name = f"{service.upper()}_{misspelt}"
    assert warning.endswith(f"WARNING {name} is no setting of {service}: is {meant} meant?")


def test_effective_settings_are_logged_first_without_their_secrets(busy, refusal):
    log, line = refusal(
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


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    return saved(tmp_path_factory.mktemp("clip") / "tiny.pt", seed=8)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (
            {"MODEL": "ViT-Z/99"},
            "ENCODER_MODEL: 'ViT-Z/99' is neither a file, a folder nor a model",
        ),
        ({"MODEL": __file__}, "contains more than weights"),
        (
            {"ACTIVATION": ""},
            "nothing in the file says which activation the model was trained with",
        ),
        ({"PRECISION": "fp16"}, "ENCODER_PRECISION: fp16 needs a GPU"),
        (
            {"PRECISION": "int8", "MIN_INT8_COSINE": 1, "MIN_INT8_NEIGHBOURS": 0},
            "on these weights, and ENCODER_MIN_INT8_COSINE is 1.0; take auto",
        ),
    ],
)
def test_a_model_that_cannot_be_had_is_one_clear_line(weights, settings, words, refusal):
    usual = {"MODEL": weights, "ACTIVATION": "quick_gelu", "DEVICE": "cpu"}
    (line,) = refusal("encoder", **usual | settings)
    assert words in line


def test_no_network_says_which_file_to_put_where(tmp_path, refusal):
    url = f"http://127.0.0.1:{free_ports(1)[0]}"
    said = "\n".join(refusal("encoder", MODEL="ViT-B/32", CACHE_DIR=tmp_path, WEIGHTS_URL=url))
    for part in ("ViT-B-32.pt", str(tmp_path), "40d365715913c9da98579312b702a82c18be219c"):
        assert part in said


def test_queues_that_hold_less_than_one_call_are_refused(refusal):
    said = "\n".join(refusal("encoder", MAX_TEXTS=100, MAX_QUEUED_TEXTS=50))
    assert "ENCODER_MAX_QUEUED_TEXTS: must be at least ENCODER_MAX_TEXTS" in said


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
