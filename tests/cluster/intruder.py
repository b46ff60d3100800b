"""A caller in a pod who should be let in once only: what each service tells it, case by case.

Runs as a file, with what the client's package brings. One line of JSON: by service and case, the
reason that an error gives, "" where the call was let in.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from glimpse import Client
from glimpse.errors import GlimpseError, NotFound

QUERY = "dns:///query.glimpse.svc.cluster.local:50053"
INDEXER = "dns:///indexer.glimpse.svc.cluster.local:50052"

_TLS, _TOKEN = Path("/glimpse/tls"), Path("/glimpse/token/token")
_OTHER = Path("/glimpse/other")  # of another authority; a token for the encoder only
_TRUST = {"tls_ca": _TLS / "ca.crt"}
_OWN = {**_TRUST, "tls_cert": _TLS / "tls.crt", "tls_key": _TLS / "tls.key"}
_OF_ANOTHER = {**_TRUST, "tls_cert": _OTHER / "tls.crt", "tls_key": _OTHER / "tls.key"}

CASES: dict[str, tuple[dict[str, Any], str]] = {
    "certificate and token": ({**_OWN, "token": _TOKEN}, ""),
    "plain text": ({}, "TLS_REQUIRED"),
    "no certificate": ({**_TRUST, "token": _TOKEN}, "CLIENT_CERTIFICATE_MISSING"),
    "certificate of another authority": (
        {**_OF_ANOTHER, "token": _TOKEN},
        "CLIENT_CERTIFICATE_UNTRUSTED",
    ),
    "no token": (_OWN, "TOKEN_MISSING"),
    "unknown token": ({**_OWN, "token": "glimpse_" + "x" * 43}, "TOKEN_UNKNOWN"),
    "token for the encoder only": (
        {**_OWN, "token": _OTHER / "token"},
        "SCOPE_MISSING",
    ),
}
"""What a caller has, and the reason that he should be given."""

_CALLS: dict[str, Callable[[Client], object]] = {
    "query": lambda client: client.search("absent", "a word"),
    "indexer": lambda client: client.get_collection("absent"),
}


def told(call: Callable[[Client], object], credentials: dict[str, Any]) -> str:
    with Client(QUERY, INDEXER, **credentials) as client:
        try:
            call(client)
        except NotFound:
            return ""
        except GlimpseError as error:
            return error.reason or type(error).__name__
    return ""


if __name__ == "__main__":
    print(
        json.dumps(
            {
                f"{service}: {case}": told(call, credentials)
                for service, call in _CALLS.items()
                for case, (credentials, _) in CASES.items()
            }
        )
    )
