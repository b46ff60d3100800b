"""The options before a command: certificates and token for all of them, and --version."""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from glimpse import __version__

NAMES = ("--tls-ca", "--tls-cert", "--tls-key", "--token-file", "--token-file")
"""What glimpse.transport.credentials.Credentials are called here."""


def _file(name: str, variable: str, meaning: str) -> typer.models.OptionInfo:
    return typer.Option(name, envvar=variable, metavar="FILE", help=meaning)


@dataclass(frozen=True)
class Protection:
    """What calls are protected with, as glimpse.Client takes it; all None: plaintext."""

    tls_ca: Path | None = None
    tls_cert: Path | None = None
    tls_key: Path | None = None
    token: Path | None = None


_told: ContextVar[Protection] = ContextVar("told")


def _tell_version(asked: bool) -> None:
    if asked:
        print(f"glimpse {__version__}")
        raise typer.Exit


def options(
    tls_ca: Annotated[
        Path | None,
        _file(
            "--tls-ca",
            "GLIMPSE_TLS_CA",
            "Authorities that the services' certificates must be issued by, PEM; turns TLS on.",
        ),
    ] = None,
    tls_cert: Annotated[
        Path | None,
        _file("--tls-cert", "GLIMPSE_TLS_CERT", "The certificate to present to the services, PEM."),
    ] = None,
    tls_key: Annotated[
        Path | None, _file("--tls-key", "GLIMPSE_TLS_KEY", "That certificate's key, PEM.")
    ] = None,
    token: Annotated[
        Path | None,
        _file("--token-file", "GLIMPSE_TOKEN_FILE", "File of the token to send with each call."),
    ] = None,
    version: Annotated[
        bool,
        typer.Option(
            "--version", is_eager=True, callback=_tell_version, help="Show the version and exit."
        ),
    ] = False,
) -> None:
    """Search pictures by words."""
    _told.set(Protection(tls_ca, tls_cert, tls_key, token))


def chosen() -> Protection:
    """What the running command was told."""
    return _told.get(Protection())
