"""Stands for prometheus-adapter: an API with one metric of query's pods, which a test sets."""

from __future__ import annotations

import contextlib
import datetime
import http.server
import json
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from tests import authority
from tests.cluster.api import Api
from tests.cluster.control_plane import ControlPlane

GROUP, VERSION = "custom.metrics.k8s.io", "v1beta2"
METRIC = "glimpse_rpc_in_flight"

_ROOT = f"/apis/{GROUP}/{VERSION}"
_PODS = "api/v1/namespaces/glimpse/pods?labelSelector=app.kubernetes.io/name=query"


class Adapter(http.server.ThreadingHTTPServer):
    """Divides `total` evenly over query's pods."""

    def __init__(self, folder: Path, api: Api, total: int) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.total = total
        self._api, self._lock = api, threading.Lock()
        files = authority.write(folder, "adapter", authority.Authority().pair("localhost"))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(files.cert, files.key)
        self.socket = context.wrap_socket(self.socket, server_side=True)

    def answer(self, path: str) -> dict[str, Any] | None:
        """None: there is nothing of this path."""
        if path == _ROOT:
            resource = {"name": f"pods/{METRIC}", "namespaced": True, "kind": "MetricValueList"}
            resources = [{**resource, "singularName": "", "verbs": ["get"]}]
            version = f"{GROUP}/{VERSION}"
            return {"kind": "APIResourceList", "groupVersion": version, "resources": resources}
        if path == f"{_ROOT}/namespaces/glimpse/pods/*/{METRIC}":
            return {"kind": "MetricValueList", "apiVersion": f"{GROUP}/{VERSION}", **self._values()}
        return None

    def _values(self) -> dict[str, Any]:
        with self._lock:
            pods = self._api.ask("GET", _PODS)["items"]
        now = datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
        items = [
            {
                "describedObject": {"kind": "Pod", "name": pod["metadata"]["name"]},
                "metric": {"name": METRIC},
                "timestamp": now,
                "value": f"{self.total * 1000 // len(pods)}m",
            }
            for pod in pods
        ]
        return {"metadata": {}, "items": items}


class _Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        assert isinstance(self.server, Adapter)
        answer = self.server.answer(unquote(self.path.partition("?")[0]))
        body = json.dumps(answer or {}).encode()
        self.send_response(200 if answer else 404)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextlib.contextmanager
def served(plane: ControlPlane, total: int) -> Iterator[None]:
    """The metric is there, and gone afterwards."""
    api = plane.connect()
    with Adapter(plane.folder, api, total) as adapter:
        thread = threading.Thread(target=adapter.serve_forever)
        thread.start()
        registration = json.dumps(_registration(adapter.server_port))
        try:
            plane.kubectl("apply", "-f", "-", given=registration)
            yield
        finally:
            plane.kubectl("delete", "-f", "-", given=registration)
            adapter.shutdown()
            thread.join()
            api.close()


def _registration(port: int) -> dict[str, Any]:
    """The apiserver asks this machine, by a Service that is only a name."""
    service = {"name": "adapter", "namespace": "monitoring"}
    items = [
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": service,
            "spec": {"type": "ExternalName", "externalName": "localhost"},
        },
        {
            "apiVersion": "apiregistration.k8s.io/v1",
            "kind": "APIService",
            "metadata": {"name": f"{VERSION}.{GROUP}"},
            "spec": {
                "group": GROUP,
                "version": VERSION,
                "service": {**service, "port": port},
                "insecureSkipTLSVerify": True,
                "groupPriorityMinimum": 100,
                "versionPriority": 100,
            },
        },
    ]
    return {"apiVersion": "v1", "kind": "List", "items": items}
