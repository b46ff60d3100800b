"""Settings: read once, refused all at once, never showing a secret."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import Field, SecretStr
from pydantic_settings import SettingsConfigDict

from services.common.settings import HostPort, ServiceSettings, describe, load
from services.encoder.settings import EncoderSettings
from services.indexer.settings import IndexerSettings
from services.query.settings import QuerySettings

ROOT = Path(__file__).resolve().parents[2]


class Settings(ServiceSettings):
    """Sample: a service for these tests."""

    model_config = SettingsConfigDict(env_prefix="SAMPLE_", frozen=True)

    listen: HostPort = Field("127.0.0.1:1", description="where it listens")
    metrics_listen: HostPort = Field("127.0.0.1:2", description="where its metrics are")
    token: SecretStr = Field(SecretStr(""), max_length=8, description="a secret")


def test_environment_overrides_defaults(monkeypatch):
    monkeypatch.setenv("SAMPLE_LISTEN", "127.0.0.1:4711")
    assert load(Settings, []).listen == "127.0.0.1:4711"


def test_defaults_are_loopback():
    assert load(Settings, []).listen.startswith("127.0.0.1:")


@pytest.mark.parametrize("address", ["50051", "host", "host:port", ":1", "host:70000"])
def test_address_without_host_or_port_is_refused(address, monkeypatch, capsys):
    monkeypatch.setenv("SAMPLE_LISTEN", address)
    with pytest.raises(SystemExit) as stopped:
        load(Settings, [])
    assert stopped.value.code == 2
    printed = capsys.readouterr().err
    assert printed.startswith("SAMPLE_LISTEN: must be HOST:PORT with a port from 0 to 65535")
    assert printed.endswith(f"not {address!r}\n")


def test_every_wrong_setting_is_named_at_once(monkeypatch, capsys):
    monkeypatch.setenv("SAMPLE_GRACE_S", "-1")
    monkeypatch.setenv("SAMPLE_LOG_LEVEL", "LOUD")
    with pytest.raises(SystemExit):
        load(Settings, [])
    printed = capsys.readouterr().err
    assert "SAMPLE_GRACE_S" in printed
    assert "SAMPLE_LOG_LEVEL" in printed
    assert "'WARNING'" in printed


def test_contradictions_are_named_beside_wrong_settings_unless_they_are_about_these(
    monkeypatch, capsys
):
    monkeypatch.setenv("SAMPLE_GRACE_S", "-1")
    monkeypatch.setenv("SAMPLE_LISTEN", "0.0.0.0:1")
    monkeypatch.setenv("SAMPLE_INSECURE", "perhaps")
    monkeypatch.setenv("SAMPLE_TLS_KEY_FILE", "/key.pem")
    with pytest.raises(SystemExit):
        load(Settings, [])
    printed = capsys.readouterr().err.splitlines()
    assert [line.partition(":")[0] for line in printed] == [
        "SAMPLE_GRACE_S",
        "SAMPLE_INSECURE",
        "SAMPLE_TLS_CERT_FILE and SAMPLE_TLS_KEY_FILE",
    ]


def test_secret_is_shown_neither_in_errors_nor_in_effective_settings(monkeypatch, capsys):
    monkeypatch.setenv("SAMPLE_TOKEN", "hunter2-and-more")
    with pytest.raises(SystemExit):
        load(Settings, [])
    assert "hunter2" not in capsys.readouterr().err
    monkeypatch.setenv("SAMPLE_TOKEN", "hunter2")
    assert "hunter2" not in str(load(Settings, []).effective())


def test_secret_is_not_shown_when_settings_contradict_each_other(monkeypatch, capsys):
    monkeypatch.setenv("SAMPLE_TOKEN", "hunter2")
    monkeypatch.setenv("SAMPLE_TLS_KEY_FILE", "/key.pem")
    monkeypatch.setenv("SAMPLE_TLS_CLIENT_CA_FILE", "/ca.pem")
    with pytest.raises(SystemExit):
        load(Settings, [])
    assert capsys.readouterr().err.splitlines() == [
        "SAMPLE_TLS_CERT_FILE and SAMPLE_TLS_KEY_FILE: set both, or neither",
        "SAMPLE_TLS_CLIENT_CA_FILE: needs SAMPLE_TLS_CERT_FILE",
    ]


def test_certificate_for_milvus_needs_a_milvus_with_tls(monkeypatch, capsys):
    monkeypatch.setenv("QUERY_MILVUS_TLS_CA_FILE", "/ca.pem")
    with pytest.raises(SystemExit):
        load(QuerySettings, [])
    assert capsys.readouterr().err == (
        "QUERY_MILVUS_TLS_CA_FILE: needs QUERY_MILVUS_URI to start with https://, "
        "which is 'http://127.0.0.1:19530'\n"
    )


def test_help_names_every_setting_with_its_meaning_and_default(capsys):
    with pytest.raises(SystemExit) as stopped:
        load(Settings, ["--help"])
    assert stopped.value.code == 0
    printed = capsys.readouterr().out
    for name, field in Settings.model_fields.items():
        assert f"SAMPLE_{name.upper()}" in printed
        assert str(field.description) in printed
    assert describe(Settings) == printed.rstrip("\n")


def test_unknown_argument_is_refused(capsys):
    with pytest.raises(SystemExit) as stopped:
        load(Settings, ["--listen=1"])
    assert stopped.value.code == 2
    assert "--listen=1" in capsys.readouterr().err


def test_settings_cannot_change_later():
    with pytest.raises(ValueError):
        load(Settings, []).listen = "127.0.0.1:3"


@pytest.mark.parametrize("kind", [EncoderSettings, IndexerSettings, QuerySettings])
@pytest.mark.parametrize("value", ["", "-1", "1e99", "nonsense", "9" * 5_000])
def test_a_wrong_setting_is_told_in_words_of_ours(kind, value, monkeypatch, capsys):
    for name in kind.model_fields:
        monkeypatch.setenv(f"{kind.prefix()}{name.upper()}", value or " ")
    with pytest.raises(SystemExit):
        load(kind, [])
    printed = capsys.readouterr().err
    assert len(printed.splitlines()) > 10
    assert re.findall(r"(?i)\b(input|string|valid|should)\b", printed) == []


@pytest.mark.parametrize("address", ["encoder", "http://encoder:50051", "dns:///encoder", ":50051"])
def test_an_encoder_without_a_port_is_refused(address, monkeypatch, capsys):
    monkeypatch.setenv("QUERY_ENCODER", address)
    with pytest.raises(SystemExit):
        load(QuerySettings, [])
    assert capsys.readouterr().err.startswith("QUERY_ENCODER: must be HOST:PORT or dns:///NAME")


def test_help_may_be_read_by_whoever_wants_its_beginning_only():
    command = f"{sys.executable} -m services.query --help | head -n 1"
    done = subprocess.run(["bash", "-c", command], cwd=ROOT, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("usage: python -m services.query\n", "")


def test_what_can_be_indexed_can_be_searched_by():
    indexed = IndexerSettings().max_file_bytes
    assert QuerySettings().max_image_bytes >= indexed
    assert EncoderSettings().max_file_bytes >= indexed
    assert EncoderSettings().max_image_pixels >= IndexerSettings().max_image_pixels
