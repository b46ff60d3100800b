"""Why a peer cannot be reached, in one sentence: found by a look of our own, since gRPC tells it in
OpenSSL's words, and nothing at all where the peer refuses the caller's certificate."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from glimpse.errors import GlimpseError, Unavailable
from glimpse.transport.credentials import Credentials
from glimpse.transport.host_port import address_of

_LOOK_S = 1.0
_KEPT_S = 1.0

# Of OpenSSL: X509_V_ERR_… in x509_vfy.h.
_EXPIRED, _NOT_YET_VALID, _OTHER_NAME = (10,), (9,), (62, 64)
# What OpenSSL calls the first bytes of a peer that does not speak TLS, or that there are none.
_NO_TLS = ("WRONG_VERSION", "HTTP_REQUEST", "UNKNOWN_PROTOCOL", "RECORD", "PACKET_LENGTH", "EOF")


class Cause(NamedTuple):
    """Why a connection fails: a constant to switch on, and the sentence for people."""

    reason: str
    message: str


class Diagnosis:
    """Looks for why calls to one peer fail, after they did; thread-safe.

    `peer` is what messages call it; `target` and `credentials` are those of the channel. A look is
    one connection, which takes a second at most and is good for all that fails within another;
    who comes meanwhile is told what is known.
    """

    def __init__(self, peer: str, target: str, credentials: Credentials) -> None:
        self.peer = peer
        self._target = target
        self._credentials = credentials
        self._looking = threading.Lock()
        self._cause: Cause | None = None
        self._good_until_s = 0.0

    def explained(self, error: GlimpseError) -> GlimpseError:
        """`error`, or one that names the cause where it came from the connection and shows one."""
        if not isinstance(error, Unavailable) or error.reason:
            return error
        cause = self.cause()
        if cause is None:
            return error
        explained = Unavailable(cause.message, reason=cause.reason)
        explained.code, explained.retry_after_s = error.code, error.retry_after_s
        return explained

    def cause(self) -> Cause | None:
        """Why connections fail now; None where that cannot be seen."""
        if time.monotonic() >= self._good_until_s and self._looking.acquire(blocking=False):
            try:
                self._cause = self._look()
                self._good_until_s = time.monotonic() + _KEPT_S
            finally:
                self._looking.release()
        return self._cause

    def _look(self) -> Cause | None:
        address = address_of(self._target)
        connection = _connected(*address) if address is not None else None
        if address is None or connection is None:
            return None
        with connection:
            if self._credentials.tls_ca is None:
                return self._cause_in_plaintext(connection)
            return self._cause_in_tls(connection, address[0])

    def _cause_in_plaintext(self, connection: socket.socket) -> Cause | None:
        if not _speaks_tls(connection):
            return None
        ca, *_ = self._credentials.names
        return Cause(
            reason="TLS_REQUIRED",
            message=f"{self.peer} speaks TLS only: set {ca} to its authority's certificate",
        )

    def _cause_in_tls(self, connection: socket.socket, host: str) -> Cause | None:
        told = self._credentials
        try:
            context = _context(verify=True)
            context.load_verify_locations(told.tls_ca)
            if told.tls_cert is not None:
                context.load_cert_chain(told.tls_cert, told.tls_key, password="")
        except OSError:  # a file that is just being replaced
            return None
        try:
            with context.wrap_socket(connection, server_hostname=host) as secured:
                # gRPC's first frame; nothing, if the peer does not take our certificate.
                return None if secured.recv(1) else self._cause_in_refusal()
        except ssl.SSLCertVerificationError as error:
            return self._cause_in_certificate(error, host)
        except ssl.SSLError as error:
            return self._cause_in_handshake(error.reason or "")
        except OSError:
            return None

    def _cause_in_certificate(self, error: ssl.SSLCertVerificationError, host: str) -> Cause:
        """What is wrong with the certificate that the peer shows."""
        ca, *_ = self._credentials.names
        shows = f"{self.peer} shows a certificate that"
        if error.verify_code in _EXPIRED:
            return Cause(
                reason="SERVER_CERTIFICATE_EXPIRED",
                message=f"{self.peer} shows an expired certificate, its own or an authority's",
            )
        if error.verify_code in _NOT_YET_VALID:
            return Cause(
                reason="SERVER_CERTIFICATE_NOT_YET_VALID",
                message=f"{shows} is not valid yet: compare the clocks",
            )
        if error.verify_code in _OTHER_NAME:
            return Cause(
                reason="SERVER_CERTIFICATE_OF_ANOTHER_NAME", message=f"{shows} is not for {host}"
            )
        return Cause(
            reason="SERVER_CERTIFICATE_UNTRUSTED",
            message=f"{shows} no authority in {ca} has issued: {error.verify_message}",
        )

    def _cause_in_handshake(self, reason: str) -> Cause:
        """What the handshake failed at, by OpenSSL's name for it; an alert is the peer's word."""
        ca, *_ = self._credentials.names
        _, is_alert, alert = reason.partition("ALERT_")
        if "CERTIFICATE" in alert or alert == "UNKNOWN_CA":
            return self._cause_in_refusal()
        if not is_alert and any(name in reason for name in _NO_TLS):
            return Cause(
                reason="TLS_NOT_SPOKEN",
                message=f"{self.peer} does not speak TLS, which {ca} asks for",
            )
        words = (alert or reason).replace("_", " ").lower()
        return Cause(reason="TLS_FAILED", message=f"{self.peer}: the TLS handshake fails: {words}")

    def _cause_in_refusal(self) -> Cause:
        """Why the peer, whose certificate is good, does not go on with us. gRPC closes the
        connection without a word: a look at our certificate has to tell."""
        told = self._credentials
        _, cert, key, *_ = told.names
        if told.tls_cert is None or told.tls_key is None:
            return Cause(
                reason="CLIENT_CERTIFICATE_MISSING",
                message=f"{self.peer} asks for a certificate: set {cert} and {key}",
            )
        refuses = f"{self.peer} refuses the certificate in {cert}:"
        code = _verify_code(told.tls_cert, told.tls_key)
        if code in _EXPIRED:
            return Cause(reason="CLIENT_CERTIFICATE_EXPIRED", message=f"{refuses} it has expired")
        if code in _NOT_YET_VALID:
            return Cause(
                reason="CLIENT_CERTIFICATE_NOT_YET_VALID",
                message=f"{refuses} it is not valid yet: compare the clocks",
            )
        return Cause(
            reason="CLIENT_CERTIFICATE_UNTRUSTED",
            message=f"{refuses} it was issued by no authority that is trusted there",
        )


def _verify_code(cert: Path, key: Path) -> int:
    """OpenSSL's verdict on a certificate by itself, as if its authority were trusted: 0 is good."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    judge = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    shower = _context(verify=False)
    try:
        for context in (judge, shower):
            context.load_cert_chain(cert, key, password="")
        judge.load_verify_locations(cert)
        judge.verify_mode = ssl.CERT_REQUIRED
        judge.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        ends = (
            shower.wrap_bio(incoming, outgoing),
            judge.wrap_bio(outgoing, incoming, server_side=True),
        )
        for end in ends * 2:  # hello, its answer with a certificate, ours, the verdict on it
            with contextlib.suppress(ssl.SSLWantReadError):
                end.do_handshake()
    except ssl.SSLCertVerificationError as error:
        return error.verify_code
    except OSError:  # a file that is just being replaced
        pass
    return 0


def _context(verify: bool) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.set_alpn_protocols(["h2"])
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _speaks_tls(connection: socket.socket) -> bool:
    try:
        with _context(verify=False).wrap_socket(connection):
            return True
    except ssl.SSLError as error:
        return "ALERT" in (error.reason or "")
    except OSError:
        return False


def _connected(host: str, port: int) -> socket.socket | None:
    """A connection to the first of a name's addresses where somebody listens, if any."""
    ends_s = time.monotonic() + _LOOK_S
    for family, where in _addresses(host, port):
        connection = socket.socket(family)
        connection.settimeout(max(0.01, ends_s - time.monotonic()))
        try:
            connection.connect(where)
        except OSError:
            connection.close()
            continue
        return connection
    return None


def _addresses(host: str, port: int) -> Iterator[tuple[int, tuple[object, ...]]]:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError:
        return
    for family, _, _, _, where in found:
        yield family, where
