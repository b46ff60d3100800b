"""Stands for cert-manager: makes the Secret of each Certificate in a cluster, and renews it."""

from __future__ import annotations

import json
import ssl
from collections.abc import Callable, Mapping
from typing import Any

from tests.authority import Authority, Pair
from tests.cluster.kubectl import Kubectl

_NAME = "glimpse"  # of the ClusterIssuer that certificates ask for


class Issuer:
    """One authority, which all of them are of."""

    def __init__(self, kubectl: Kubectl) -> None:
        self._kubectl = kubectl
        self.authority = Authority(_NAME)
        self._pairs: dict[tuple[str, str], Pair] = {}

    def issue(self) -> None:
        """Makes those Secrets that are not there yet."""
        self._make(lambda place: place not in self._pairs)

    def renew(self) -> None:
        """Makes all of them anew, with other keys."""
        self._make(lambda place: True)

    def pair(self, namespace: str, secret: str) -> Pair:
        """The newest."""
        return self._pairs[namespace, secret]

    def shown(self, namespace: str, secret: str) -> bytes:
        """What is shown by whoever has read the newest: a certificate, DER."""
        return ssl.PEM_cert_to_DER_cert(self.pair(namespace, secret).cert.decode())

    def _make(self, is_due: Callable[[tuple[str, str]], bool]) -> None:
        found = self._kubectl.get("certificates.cert-manager.io", "--all-namespaces")["items"]
        ours = [each for each in found if each["spec"]["issuerRef"]["name"] == _NAME]
        secrets = []
        for certificate in ours:
            spec, namespace = certificate["spec"], certificate["metadata"]["namespace"]
            place = namespace, spec["secretName"]
            if is_due(place):
                self._pairs[place] = pair = self.authority.pair(*spec["dnsNames"], loopback=False)
                contents = {"ca.crt": self.authority.pem, "tls.crt": pair.cert, "tls.key": pair.key}
                secrets.append(secret(*place, contents))
        if secrets:
            given = json.dumps({"apiVersion": "v1", "kind": "List", "items": secrets})
            self._kubectl("apply", "-f", "-", given=given)


def secret(namespace: str, name: str, contents: Mapping[str, bytes]) -> dict[str, Any]:
    """A Secret of text files."""
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "namespace": namespace},
        "stringData": {key: content.decode() for key, content in contents.items()},
    }
