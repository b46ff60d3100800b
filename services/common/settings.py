"""Settings read once from the environment, checked all at once, printed by --help.

What they mean to a service stands in that service's own settings module.
"""

from __future__ import annotations

import ipaddress
import os
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Literal, NoReturn, TypeVar

from pydantic import AfterValidator, Field, SecretStr, ValidationError, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from glimpse.transport.host_port import is_loopback, split_host_port
from services.common.setting_problems import words


def _host_port(value: str) -> str:
    host, port = split_host_port(value)
    if not host or not port.isdigit() or int(port) > 65535:
        raise ValueError("must be HOST:PORT with a port from 0 to 65535, such as 127.0.0.1:50051")
    if ":" in host and not _is_bracketed_ipv6(value):
        raise ValueError("must have an IPv6 address in brackets, such as [::1]:50051")
    return value


def _is_bracketed_ipv6(address: str) -> bool:
    try:
        ipaddress.IPv6Address(split_host_port(address)[0])
    except ValueError:
        return False
    return address.startswith("[")


HostPort = Annotated[str, AfterValidator(_host_port)]


class ServiceSettings(BaseSettings):
    """What every service has. Sub-classes set `env_prefix` and the default addresses."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore", env_ignore_empty=True)

    listen: HostPort = Field(description="address of the gRPC port; port 0 selects a free one")
    metrics_listen: HostPort = Field(
        description="address of the HTTP port for /metrics; port 0 selects a free one"
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        "INFO", description="minimum severity of log lines"
    )
    log_format: Literal["json", "text"] = Field(
        "json", description="json for machines, text for people"
    )
    otlp_endpoint: str | None = Field(
        None,
        pattern=r"^https?://[^/]+:\d+$",
        description=(
            "OTLP endpoint (gRPC) for traces, such as http://127.0.0.1:4317; https:// for TLS; "
            "none: no tracing"
        ),
    )
    trace_ratio: float = Field(
        1.0,
        ge=0,
        le=1,
        description="share of calls traced if the caller has not decided",
    )
    max_message_bytes: int = Field(
        64 * 2**20,
        ge=2**20,
        le=2**30,
        description="largest gRPC message received or sent, in bytes",
    )
    default_timeout_s: float = Field(
        30.0, gt=0, le=3600, description="timeout of calls without a deadline"
    )
    drain_s: float = Field(
        0.0, ge=0, le=300, description="at shutdown, time between NOT_SERVING and refusing calls"
    )
    grace_s: float = Field(
        10.0, ge=0, le=600, description="at shutdown, time for running calls to finish"
    )
    max_connection_age_s: float = Field(
        0.0,
        ge=0,
        description="age at which a connection is closed, so that callers rebalance; 0: never",
    )
    reflection: bool = Field(True, description="whether gRPC server reflection is enabled")
    tls_cert_file: Path | None = Field(
        None,
        description=(
            "PEM file of the server's certificate, and those between it and its authority; "
            "turns TLS on; re-read when it changes"
        ),
    )
    tls_key_file: Path | None = Field(
        None, description="PEM file of that certificate's key, unencrypted; also re-read"
    )
    tls_client_ca_file: Path | None = Field(
        None,
        description=(
            "PEM file of authorities; set, callers need a certificate of one of them (mTLS); "
            "also re-read"
        ),
    )
    tokens_file: Path | None = Field(
        None,
        description=(
            "file of callers' tokens, lines as printed by `glimpse token new`; set, "
            "each call except health and reflection needs one; re-read when it changes"
        ),
    )
    insecure: bool = Field(
        False,
        description="whether to serve addresses other than loopback without TLS and without tokens",
    )
    health_listen: HostPort | None = Field(
        None,
        description="address of a further gRPC port, plaintext, that answers health checks only",
    )
    channelz: bool = Field(
        False,
        description="whether gRPC channelz is enabled: every peer's address; a token needs admin",
    )
    max_in_flight: int = Field(
        1024,
        ge=1,
        le=100_000,
        description="calls worked on at once; further calls wait for a place",
    )
    max_in_flight_per_caller: int = Field(
        0,
        ge=0,
        le=100_000,
        description=(
            "calls of one caller, waiting or worked on, at once; a caller is a token's name, else "
            "a certificate's, else an address; further calls get RESOURCE_EXHAUSTED; 0: any number"
        ),
    )
    max_calls_per_connection: int = Field(
        100,
        ge=0,
        le=100_000,
        description=(
            "calls open at once on one connection; further ones wait at the caller, before they "
            "are sent; 0: any number"
        ),
    )
    max_waiting_bytes: int = Field(
        64 * 2**20,
        ge=0,
        le=2**40,
        description=(
            "memory for calls that wait for a place: their messages and 32 KiB each; without room, "
            "or expected to come too late, a call gets RESOURCE_EXHAUSTED at once; 0: none waits"
        ),
    )
    max_metadata_bytes: int = Field(
        16 * 1024,
        ge=4096,
        le=2**20,
        description="largest metadata of a call, in bytes; more gets RESOURCE_EXHAUSTED",
    )

    @model_validator(mode="after")
    def _go_together(self) -> ServiceSettings:
        if lines := list(self.contradictions()):
            raise ValueError("\n".join(lines))
        return self

    def contradictions(self) -> Iterator[str]:
        """A line for each way in which settings do not go together; sub-classes add theirs."""
        prefix = self.prefix()
        if (self.tls_cert_file is None) != (self.tls_key_file is None):
            yield f"{prefix}TLS_CERT_FILE and {prefix}TLS_KEY_FILE: set both, or neither"
        if self.tls_client_ca_file is not None and self.tls_cert_file is None:
            yield f"{prefix}TLS_CLIENT_CA_FILE: needs {prefix}TLS_CERT_FILE"
        protected = self.tls_cert_file or self.tokens_file or is_loopback(self.listen)
        if not (protected or self.insecure):
            yield (
                f"{prefix}LISTEN: {self.listen} is reachable from other machines: "
                f"set {prefix}TLS_CERT_FILE or {prefix}TOKENS_FILE, "
                f"or {prefix}INSECURE=true to serve it unprotected"
            )

    @property
    def service(self) -> str:
        """The service's short name, such as "encoder"."""
        return type(self).prefix().rstrip("_").lower()

    @classmethod
    def prefix(cls) -> str:
        return cls.model_config.get("env_prefix", "")

    def effective(self) -> dict[str, object]:
        """Every setting by its environment variable's name, secrets masked."""
        values = self.model_dump()
        return {
            f"{self.prefix()}{name.upper()}": str(value) if isinstance(value, SecretStr) else value
            for name, value in values.items()
        }


Settings = TypeVar("Settings", bound=ServiceSettings)


def load(kind: type[Settings], arguments: Sequence[str] | None = None) -> Settings:
    """The settings of this process; exits with 0 after --help, with 2 on anything wrong."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if any(argument in ("-h", "--help") for argument in arguments):
        _print(describe(kind))
        raise SystemExit(0)
    if arguments:
        _refuse(
            f"unknown argument {arguments[0]!r}: settings are environment variables, see --help"
        )
    try:
        return kind()  # type: ignore[call-arg]
    except ValidationError as error:
        wrong = _wrong(kind, error)
        _refuse(*wrong.values(), *_contradictions(kind, wrong))


def _wrong(kind: type[ServiceSettings], error: ValidationError) -> dict[str, str]:
    """The fields that are wrong by themselves, each with a line about it."""
    found = {}
    for problem in error.errors():
        if problem["loc"]:
            field = str(problem["loc"][0])
            given = "" if _is_secret(kind, field) else f", not {problem['input']!r}"
            found[field] = f"{kind.prefix()}{field.upper()}: {words(problem)}{given}"
    return found


def _contradictions(kind: type[ServiceSettings], wrong: Iterable[str]) -> Iterator[str]:
    """A line for each contradiction between settings that are right by themselves.

    Pydantic gets to them only where all are: here those that are wrong have their defaults.
    """
    names = {f"{kind.prefix()}{field.upper()}" for field in wrong}
    try:
        kind(**{field: kind.model_fields[field].default for field in wrong})
    except ValidationError as error:
        for problem in error.errors():
            for line in words(problem).splitlines():
                if not problem["loc"] and names.isdisjoint(re.findall(r"\w+", line)):
                    yield line


def describe(kind: type[ServiceSettings]) -> str:
    """The text of --help: every setting with its meaning and default."""
    service = kind.prefix().rstrip("_").lower()
    lines = [
        f"usage: python -m services.{service}",
        "",
        (kind.__doc__ or "").strip().splitlines()[0],
        "",
        "Settings are environment variables:",
        "",
    ]
    for name, field in kind.model_fields.items():
        default = "required" if field.is_required() else f"default: {_shown(field.default)}"
        lines += [f"  {kind.prefix()}{name.upper()}", f"      {field.description} ({default})"]
    return "\n".join(lines)


def _shown(default: object) -> str:
    if isinstance(default, SecretStr):
        default = default.get_secret_value()
    return "none" if default in ("", None) else str(default)


def _is_secret(kind: type[ServiceSettings], field: str) -> bool:
    return "SecretStr" in str(kind.model_fields[field].annotation)


def _print(text: str) -> None:
    """`text` on standard output, whose reader may want its beginning only, as `head` does."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _refuse(*lines: str) -> NoReturn:
    print(*lines, sep="\n", file=sys.stderr)
    raise SystemExit(2)
