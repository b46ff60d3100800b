"""A throw-away certificate authority: real certificates for tests, good ones and bad ones."""

from __future__ import annotations

import datetime
import ipaddress
import os
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

DAY = datetime.timedelta(days=1)


@dataclass(frozen=True)
class Pair:
    """A certificate and its key, PEM."""

    cert: bytes
    key: bytes


@dataclass(frozen=True)
class Files:
    """Where a pair was written."""

    cert: Path
    key: Path


class Authority:
    """Signs what it is asked to sign."""

    def __init__(self, name: str = "glimpse's test authority") -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _name(name)
        now = datetime.datetime.now(datetime.timezone.utc)
        certificate = (
            x509.CertificateBuilder()
            .subject_name(self._name)
            .issuer_name(self._name)
            .public_key(self._key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - 10 * DAY)
            .not_valid_after(now + 10 * DAY)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .sign(self._key, hashes.SHA256())
        )
        self.pem = certificate.public_bytes(serialization.Encoding.PEM)

    def pair(
        self, *names: str, from_days: int = -1, until_days: int = 1, loopback: bool = True
    ) -> Pair:
        """A certificate for DNS names (and 127.0.0.1), valid between two days from now."""
        key = ec.generate_private_key(ec.SECP256R1())
        now = datetime.datetime.now(datetime.timezone.utc)
        alternatives: list[x509.GeneralName] = [x509.DNSName(name) for name in names]
        if loopback:
            alternatives.append(x509.IPAddress(ipaddress.ip_address("127.0.0.1")))
        certificate = (
            x509.CertificateBuilder()
            .subject_name(_name(names[0]))
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now + from_days * DAY)
            .not_valid_after(now + until_days * DAY)
            .add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        return Pair(
            certificate.public_bytes(serialization.Encoding.PEM),
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            ),
        )

    def write(self, folder: Path) -> Path:
        """Writes the authority's certificate; returns its path."""
        return replaced(folder / "ca.pem", self.pem)


def write(folder: Path, name: str, pair: Pair) -> Files:
    """Writes a pair as NAME.pem and NAME.key, in place of what was there."""
    return Files(
        replaced(folder / f"{name}.pem", pair.cert), replaced(folder / f"{name}.key", pair.key)
    )


def replaced(path: Path, content: bytes) -> Path:
    """Replaces a file at once, as those who deliver certificates do."""
    new = path.with_suffix(f"{path.suffix}.new")
    new.write_bytes(content)
    os.replace(new, path)
    return path


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])
