"""Settings: read once, refused all at once, never showing a secret."""

from __future__ import annotations

import pytest
from pydantic import Field, SecretStr
from pydantic_settings import SettingsConfigDict

from services.common.settings import HostPort, ServiceSettings, describe, load
from services.query.settings import QuerySettings


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
