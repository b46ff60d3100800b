"""The server's side of TLS: its certificate, whose certificates it takes, both read again when the
files change; the callers' side is in glimpse.transport.credentials."""

from __future__ import annotations

import grpc

from glimpse.transport.credentials import check_authorities, check_key_pair
from glimpse.transport.file_watcher import FileWatcher
from services.common.settings import ServiceSettings


def server_credentials(settings: ServiceSettings) -> grpc.ServerCredentials | None:
    """What to serve with, None for plaintext; with `tls_client_ca_file`, callers need certificates.

    New connections get the newest certificate, running ones stay as they are. Raises
    UnusableCredentials.
    """
    if settings.tls_cert_file is None or settings.tls_key_file is None:
        return None
    prefix = f"{settings.prefix()}TLS_"
    cert, key, ca = f"{prefix}CERT_FILE", f"{prefix}KEY_FILE", f"{prefix}CLIENT_CA_FILE"
    paths = {cert: settings.tls_cert_file, key: settings.tls_key_file}
    if settings.tls_client_ca_file is not None:
        paths[ca] = settings.tls_client_ca_file

    def parse(contents: dict[str, bytes]) -> grpc.ServerCertificateConfiguration:
        check_key_pair(cert, paths[cert], key, paths[key])
        if ca in contents:
            check_authorities(ca, contents[ca])
        pair = contents[key], contents[cert]
        return grpc.ssl_server_certificate_configuration([pair], contents.get(ca))

    files = FileWatcher(paths, parse)
    served = files.current()

    def newer() -> grpc.ServerCertificateConfiguration | None:
        """Called by gRPC, in threads of its own, before each handshake; None: no change."""
        nonlocal served
        newest = files.current()
        if newest is served:
            return None
        served = newest
        return newest

    return grpc.dynamic_ssl_server_credentials(
        served,
        newer,  # pyright: ignore[reportArgumentType] (None is documented, and not in the stub)
        require_client_authentication=ca in paths,
    )
