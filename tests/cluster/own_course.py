"""The course on a node of our own: by docs/kubernetes.md, later with certificates and tokens."""

from __future__ import annotations

import argparse
import base64
import json
import socket
import ssl
import time
from collections.abc import Iterator
from pathlib import Path

from glimpse.tokens import line, new_token
from tests import authority
from tests.authority import Authority
from tests.cluster import documented, neighbours, tour
from tests.cluster.callers import NAMESPACE
from tests.cluster.course import MANIFESTS, Course, milvus_is_ready
from tests.cluster.documented import Documented
from tests.cluster.figures import BACK_S, CONTROL, ROTATION
from tests.cluster.issuer import Issuer, secret
from tests.cluster.kubectl import Kubectl
from tests.cluster.own_disturbances import OwnDisturbances
from tests.cluster.reach import wrong_edges
from tests.k8s.rules.network import SERVING
from tests.waiting import wait_until

_SECURE = MANIFESTS / "secure"
_SCOPES = ("search", "index", "admin")
_SEEN_S = 180.0  # a kubelet brings a changed Secret within a minute or two
_AFTERWARDS_S = 15.0  # for callers who come


class OwnCourse(Course):
    """Secrets, overlays/local and its ways to a search, then what production has between parts."""

    def __init__(self, kubectl: Kubectl, options: argparse.Namespace, folder: Path) -> None:
        super().__init__(kubectl, options)
        self.disturbances = OwnDisturbances(kubectl)
        folder.mkdir()
        self._documented = Documented(kubectl, folder)
        self._issuer = Issuer(kubectl)

    def run(self) -> None:
        self._documented.run("secrets")
        self.deploy(MANIFESTS / "node")
        milvus_is_ready(self.kubectl)
        self._documented.run("milvus")
        self._documented.run("first rolled out")
        self._tour()
        self._secure()
        self._make_place()
        self.disturb(
            [
                self.rest,
                self._intrude,
                self._rotate,
                self.replace_pods,
                self.replace_encoder,
                self._replace_too_soon,
            ]
        )
        self._documented.run("looks")

    def _tour(self) -> None:
        self.tell("who reaches whom; a Job, and its pictures")
        with neighbours.running(self.kubectl):
            self.findings.missing_pictures = tour.missing_pictures(self.kubectl, self._documented)
            self.findings.wrong_edges = wrong_edges(self.kubectl)
        pictures = self._documented.folder / "Pictures"
        pictures.mkdir()
        tour.draw(pictures)
        self._documented.with_ports("from outside")

    def _secure(self) -> None:
        self.tell(f"deploying {_SECURE.name}")
        self.kubectl("create", "namespace", "cert-manager")  # without anybody in it
        self._documented.run("production")
        self._issuer.issue()
        self.findings.changed_lines += self.changed_lines(_SECURE)
        self._documented.run("rolled out")
        self.await_deployed()
        self.tell("a Job with a certificate")
        tour.secure_job(self.kubectl, self._issuer)

    def _make_place(self) -> None:
        """The callers' namespace, with what the page has them ask for, and a token of theirs."""
        self.callers.make_place()
        self._documented.run("callers")
        page = documented.PAGE.read_text()
        self.kubectl("apply", "-f", "-", given=documented.certificate(page))
        self._issuer.issue()
        folder, token = self._documented.folder, new_token()
        known = folder / "tokens"
        known.write_text(f"{known.read_text()}{line(token, _SCOPES, NAMESPACE)}\n")
        pair = Authority("somebody else").pair("shop.shop.svc")
        other = (folder / "services.token").read_text().encode()  # for the encoder only
        others = {"tls.crt": pair.cert, "tls.key": pair.key, "token": other}
        for each in (
            secret(NAMESPACE, "token", {"token": token.encode()}),
            secret(NAMESPACE, "other", others),
        ):
            self.kubectl("create", "-f", "-", given=json.dumps(each))
        data = {"data": {"tokens": base64.b64encode(known.read_bytes()).decode()}}
        self.kubectl("patch", "secret/callers", "--namespace=glimpse", "--patch", json.dumps(data))

    def _intrude(self) -> None:
        self.tell("callers without a certificate, or a token")
        self.findings.wrongly_told = tour.wrongly_told(self.kubectl)

    def _rotate(self) -> None:
        """All certificates are others, and every pod shows its new one."""

        def renew() -> None:
            self._issuer.renew()
            pair = self._issuer.pair(NAMESPACE, "glimpse-caller")
            folder = self._documented.folder
            files = authority.write(folder, "caller", pair)
            context = ssl.create_default_context(cadata=self._issuer.authority.pem.decode())
            context.load_cert_chain(files.cert, files.key)
            context.set_alpn_protocols(["h2"])
            for name, address, port in self._pods():
                new = self._issuer.shown("glimpse", f"{name}-tls")
                wait_until(
                    lambda at=(address, port), name=name, new=new: shown(at, name, context) == new,
                    f"{name} at {address} does not show its new certificate",
                    _SEEN_S,
                    look_s=1.0,
                )
            time.sleep(_AFTERWARDS_S)

        self.during(ROTATION, renew)

    def _replace_too_soon(self) -> None:
        """The same callers, and a service that stops before they can know."""
        count = self.options.control_roll_outs
        if count:
            self.tell("having query stop within 5 s")
            self.disturbances.weaken("query")

            def disturb() -> None:
                self.repeat(count, self.disturbances.roll_out, "query")
                time.sleep(BACK_S)

            self.during(CONTROL, disturb)

    def _pods(self) -> Iterator[tuple[str, str, int]]:
        """Service, address and port of each."""
        for name, port in SERVING.items():
            label = f"--selector=app.kubernetes.io/name={name}"
            for pod in self.kubectl.get("pods", "--namespace=glimpse", label)["items"]:
                yield name, pod["status"]["podIP"], port


def shown(address: tuple[str, int], name: str, context: ssl.SSLContext) -> bytes | None:
    """The certificate of whoever listens, DER."""
    with (
        socket.create_connection(address, 10) as connection,
        context.wrap_socket(connection, server_hostname=name) as secured,
    ):
        return secured.getpeercert(binary_form=True)
