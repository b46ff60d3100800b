"""The settings of a service that calls the encoder and Milvus; how it calls them is elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, SecretStr

from glimpse.errors import InvalidInput
from glimpse.transport.credentials import Credentials
from glimpse.transport.host_port import check_target
from services.common.encoder_client import EncoderClient
from services.common.encoders import Encoders
from services.common.settings import ServiceSettings


def _target(value: str) -> str:
    try:
        check_target("", value)
    except InvalidInput:
        raise ValueError("must be HOST:PORT or dns:///NAME:PORT, such as 127.0.0.1:50051") from None
    return value


def _targets(value: str) -> str:
    """Checks each; the text as it is."""
    for target in _each(value):
        _target(target)
    return value


def _each(targets: str) -> list[str]:
    return [target.strip() for target in targets.split(",")] if targets.strip() else []


Target = Annotated[str, AfterValidator(_target)]
Targets = Annotated[str, AfterValidator(_targets)]


class PeerSettings(ServiceSettings):
    """What query and indexer have in common."""

    encoder: Target = Field(
        "127.0.0.1:50051",
        description=(
            "the encoder, whose model new collections get: HOST:PORT, or dns:///NAME:PORT for "
            "every address of a name"
        ),
    )
    encoders: Targets = Field(
        "",
        description=(
            "further encoders, as that one, with commas between them: what concerns a collection "
            "goes to one that runs its model"
        ),
    )
    encoder_tls_ca_file: Path | None = Field(
        None,
        description=(
            "PEM file of the authorities that an encoder's certificate must be issued by; "
            "turns TLS to encoders on; re-read when it changes"
        ),
    )
    encoder_tls_cert_file: Path | None = Field(
        None,
        description="PEM file of the certificate presented to encoders (mTLS); also re-read",
    )
    encoder_tls_key_file: Path | None = Field(
        None, description="PEM file of that certificate's key, unencrypted; also re-read"
    )
    encoder_token_file: Path | None = Field(
        None, description="file of the token for encoders, scope encode; also re-read"
    )
    milvus_uri: str = Field(
        "http://127.0.0.1:19530",
        pattern=r"^https?://.+",
        description="address of Milvus or Milvus Lite's server; https:// for TLS",
    )
    milvus_token: SecretStr = Field(
        SecretStr(""), description="USER:PASSWORD or API key for Milvus; empty: none"
    )
    milvus_database: str = Field(
        "",
        pattern=r"^([A-Za-z_][A-Za-z0-9_]{0,254})?$",
        description=(
            "database of Milvus that holds the collections; has to be there; empty: Milvus' default"
        ),
    )
    milvus_tls_ca_file: Path | None = Field(
        None,
        description=(
            "PEM file of the authorities that Milvus' certificate must be issued by, where the URI "
            "is https://; none: the public ones; re-read when it changes"
        ),
    )
    milvus_tls_cert_file: Path | None = Field(
        None,
        description="PEM file of the certificate presented to Milvus (mTLS); also re-read",
    )
    milvus_tls_key_file: Path | None = Field(
        None, description="PEM file of that certificate's key, unencrypted; also re-read"
    )

    def contradictions(self) -> Iterator[str]:
        yield from super().contradictions()
        if self.milvus_tls_ca_file is not None and not self.milvus_uri.startswith("https://"):
            yield (
                f"{self.prefix()}MILVUS_TLS_CA_FILE: needs {self.prefix()}MILVUS_URI to start with "
                f"https://, which is {self.milvus_uri!r}"
            )

    @property
    def milvus_address(self) -> str:
        """HOST:PORT of Milvus, and /DATABASE where one is set, for people: without what a URI may
        hold of a password."""
        address = urlsplit(self.milvus_uri).netloc.rpartition("@")[2]
        return f"{address}/{self.milvus_database}" if self.milvus_database else address

    @property
    def encoder_targets(self) -> list[str]:
        """All of them, each once, the one whose model new collections get first."""
        return list(dict.fromkeys((self.encoder, *_each(self.encoders))))

    def open_encoders(self) -> Encoders:
        """Channels to all of them. Raises UnusableCredentials of glimpse.errors."""
        return Encoders(
            [
                EncoderClient(target, self.max_message_bytes, self.encoder_credentials)
                for target in self.encoder_targets
            ]
        )

    @property
    def encoder_credentials(self) -> Credentials:
        """What calls to encoders are protected with."""
        prefix = f"{self.prefix()}ENCODER_"
        return Credentials(
            tls_ca=self.encoder_tls_ca_file,
            tls_cert=self.encoder_tls_cert_file,
            tls_key=self.encoder_tls_key_file,
            token_file=self.encoder_token_file,
            names=_names(prefix),
        )

    @property
    def milvus_credentials(self) -> Credentials:
        """The certificates for calls to Milvus; its token is no part of them."""
        return Credentials(
            tls_ca=self.milvus_tls_ca_file,
            tls_cert=self.milvus_tls_cert_file,
            tls_key=self.milvus_tls_key_file,
            names=_names(f"{self.prefix()}MILVUS_"),
        )


def _names(prefix: str) -> tuple[str, str, str, str, str]:
    tls = f"{prefix}TLS_"
    files = f"{tls}CA_FILE", f"{tls}CERT_FILE", f"{tls}KEY_FILE"
    return (*files, f"{prefix}TOKEN", f"{prefix}TOKEN_FILE")
