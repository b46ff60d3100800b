"""Who a caller is and whom it trusts: certificates and tokens."""

from __future__ import annotations

import os
import re
import ssl
from dataclasses import dataclass, field
from pathlib import Path

import grpc

from glimpse.errors import UnusableCredentials
from glimpse.transport.file_watcher import FileWatcher

_TOKEN = re.compile(r"[\x21-\x7e]{1,1024}")


@dataclass(frozen=True)
class Credentials:
    """How a channel is protected; without any of it, it is plaintext and anonymous.

    `tls_ca` is the file with the certificates that the server's must be issued by, and turns TLS
    on; `tls_cert` and `tls_key` are files for servers that ask for a certificate; `token` is sent
    with each call, or `token_file` is the file that it stands in. Files are PEM, and are read again
    when they change. `names` are what errors call these five, where not by their own names.
    """

    tls_ca: Path | None = None
    tls_cert: Path | None = None
    tls_key: Path | None = None
    token: str = field(default="", repr=False)
    token_file: Path | None = None
    names: tuple[str, str, str, str, str] = ("tls_ca", "tls_cert", "tls_key", "token", "token_file")

    def __bool__(self) -> bool:
        return any((self.tls_ca, self.tls_cert, self.tls_key, self.token, self.token_file))

    def check(self) -> None:
        """Raises UnusableCredentials for what no channel can be opened with."""
        self.watch_tls()
        self.watch_token()

    def watch_tls(self) -> FileWatcher[grpc.ChannelCredentials] | None:
        """gRPC's credentials, None for plaintext. Raises UnusableCredentials."""
        ca, cert, key, *_ = self.names
        if (self.tls_cert is None) != (self.tls_key is None):
            raise UnusableCredentials(f"{cert} and {key}: give both, or neither")
        if self.tls_ca is None:
            if self.tls_cert is not None:
                raise UnusableCredentials(f"{cert}: needs {ca}, which turns TLS on")
            return None
        paths = {ca: self.tls_ca}
        if self.tls_cert is not None and self.tls_key is not None:
            paths |= {cert: self.tls_cert, key: self.tls_key}

        def parse(contents: dict[str, bytes]) -> grpc.ChannelCredentials:
            check_authorities(ca, contents[ca])
            if cert in contents:
                check_key_pair(cert, paths[cert], key, paths[key])
            return grpc.ssl_channel_credentials(contents[ca], contents.get(key), contents.get(cert))

        return FileWatcher(paths, parse)

    def watch_token(self) -> FileWatcher[str] | str:
        """The token, "" for none. Raises UnusableCredentials."""
        *_, token, token_file = self.names
        if self.token and self.token_file is not None:
            raise UnusableCredentials(f"{token} and {token_file}: give one of them")
        if self.token_file is None:
            return _checked_token(token, self.token) if self.token else ""

        def parse(contents: dict[str, bytes]) -> str:
            content = contents[token_file].decode("ascii", errors="replace")
            return _checked_token(token_file, content.strip())

        return FileWatcher({token_file: self.token_file}, parse)


PLAINTEXT = Credentials()


def client_credentials(
    tls_ca: str | os.PathLike[str] | None = None,
    tls_cert: str | os.PathLike[str] | None = None,
    tls_key: str | os.PathLike[str] | None = None,
    token: str | os.PathLike[str] | None = None,
) -> Credentials:
    """Credentials as glimpse.Client takes them: a `token` that is a path is its file."""
    ca, cert, key = (None if path is None else Path(path) for path in (tls_ca, tls_cert, tls_key))
    names = ("tls_ca", "tls_cert", "tls_key", "token", "token")
    if token is None or isinstance(token, str):
        return Credentials(ca, cert, key, token=token or "", names=names)
    return Credentials(ca, cert, key, token_file=Path(token), names=names)


def check_authorities(name: str, content: bytes) -> None:
    """Raises UnusableCredentials unless `content` is certificates in PEM."""
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(
            cadata=content.decode("ascii")
        )
    except (ssl.SSLError, ValueError):
        raise UnusableCredentials(f"{name}: contains no certificates in PEM") from None


def check_key_pair(cert_name: str, cert: os.PathLike[str], key_name: str, key: Path) -> None:
    """Raises UnusableCredentials unless `key` is the unencrypted key of the certificate `cert`."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        # An empty password, for an encrypted key would else be asked for on the terminal.
        context.load_cert_chain(cert, key, password="")
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            problem = f"{key_name}: is not the key of the certificate in {cert_name}"
        else:
            problem = (
                f"{cert_name} and {key_name}: are not a certificate and an unencrypted key in PEM"
            )
        raise UnusableCredentials(problem) from None
    except OSError as error:
        why = (error.strerror or str(error)).lower()
        raise UnusableCredentials(f"{cert_name} and {key_name}: cannot be read: {why}") from error


def _checked_token(name: str, token: str) -> str:
    if not _TOKEN.fullmatch(token):
        raise UnusableCredentials(
            f"{name}: must hold one token, 1 to 1024 visible ASCII characters without spaces"
        )
    return token
