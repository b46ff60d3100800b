"""What the manifests say is what runs: their commands, variables, probes and grace periods."""

import http.server
import os
import shutil
import threading

import pytest

from glimpse import Client, tokens
from glimpse.errors import PermissionDenied, Unavailable
from tests import photographs
from tests.authority import Authority
from tests.backends import MilvusLite
from tests.k8s.kubelet import Node, PodFailed, stop
from tests.k8s.manifests import deployment

MILVUS = "glimpse-milvus.glimpse-milvus:19530"
# What outlives DNS answers is more than a test has time for.
SHORT_DRAINS = {"INDEXER_DRAIN_S": "1", "QUERY_DRAIN_S": "1"}
# As for the other tests of the whole stack: another model than the bundled one, if told so.
MODEL = {"ENCODER_MODEL": os.environ["ENCODER_MODEL"]} if "ENCODER_MODEL" in os.environ else {}
CHANGES = SHORT_DRAINS | MODEL


@pytest.fixture
def make_node(tmp_path):
    nodes = []

    def make(name, changes=CHANGES, addresses=None):
        nodes.append(Node(deployment(name), tmp_path / "node", addresses or {}, changes))
        return nodes[-1]

    yield make
    for node in nodes:
        node.kill()


@pytest.fixture
def milvus(tmp_path):
    server = MilvusLite(tmp_path / "milvus")
    server.start()
    yield server
    server.stop()


def pod_of(node, name):
    return next(pod for pod in node.manifests.pods if pod.name == name)


def test_local_overlay_indexes_searches_and_stops_as_its_manifests_say(make_node, milvus):
    node = make_node("local, indexing a volume", addresses={MILVUS: milvus.uri})
    pods = [node.start(pod) for pod in node.manifests.services]
    for running in pods:
        running.await_probe("startupProbe")
    for running in pods:
        running.await_probe("readinessProbe")

    job = pod_of(node, "bulk-index")
    pictures = node.volume(job, job.main.mounts["/pictures"])
    shown = photographs.carried()[:6]
    for path in shown:
        shutil.copy(path, pictures)
    assert f"{len(shown)} indexed, 0 unchanged, 0 failed" in node.run(job.main)
    assert f"0 indexed, {len(shown)} unchanged, 0 failed" in node.run(job.main)  # made anew

    with Client(f"127.0.0.1:{node.port('query', 50053)}", timeout_s=30) as client:
        by_picture = client.search("images", image=shown[0], limit=3)
        assert by_picture.hits[0].uri.endswith(shown[0].name)
        assert len(client.search("images", "a cat", limit=3).hits) == 3
    assert all(running.probe("livenessProbe") for running in pods)

    ended = stop(*pods)
    assert {name: code for name, (code, _) in ended.items()} == {
        "encoder": 0,
        "indexer": 0,
        "query": 0,
    }


def test_a_wrong_setting_is_the_last_line_of_its_pod(make_node):
    node = make_node("local", changes={"QUERY_MAX_IN_FLIGHT": "many"})
    running = node.start(pod_of(node, "query"))
    with pytest.raises(PodFailed, match=r"exit code 2: QUERY_MAX_IN_FLIGHT: .*'many'"):
        running.await_probe("startupProbe")


def test_weights_with_another_checksum_stop_the_encoders_pod(make_node):
    class Store(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            body = b"not the weights"
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Store) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        node = make_node("production", changes={"ENCODER_WEIGHTS_URL": url})
        with pytest.raises(PodFailed, match=r"encoder/weights: exit code 2: .*ViT-B/32.*SHA-256"):
            node.start(pod_of(node, "encoder"))
        server.shutdown()


def test_productions_query_runs_with_its_secrets_and_is_probed_beside_tls(make_node):
    node = make_node("production", changes=SHORT_DRAINS, addresses={MILVUS: "https://127.0.0.1:1"})
    pod = pod_of(node, "query")
    certificate = node.manifests.find("Certificate", "query")["spec"]
    authority, token = Authority(), tokens.new_token()
    pair = authority.pair(*certificate["dnsNames"])
    secrets = {
        "query-tls": {"tls.crt": pair.cert, "tls.key": pair.key, "ca.crt": authority.pem},
        "callers": {"tokens": tokens.line(token, ["search"], "shop").encode() + b"\n"},
        "encoder-caller": {"token": tokens.new_token().encode()},
    }
    for volume in pod.main.mounts.values():
        for key, value in secrets[volume["secret"]["secretName"]].items():
            (node.volume(pod, volume) / key).write_bytes(value)

    running = node.start(pod)
    running.await_probe("startupProbe")
    assert running.probe("livenessProbe")
    assert not running.probe("readinessProbe")  # there is no Milvus
    tls = node.volume(pod, pod.main.mounts["/etc/glimpse/tls"])
    query = f"127.0.0.1:{node.port('query', 50053)}"
    shown = {"tls_ca": tls / "ca.crt", "tls_cert": tls / "tls.crt", "tls_key": tls / "tls.key"}
    with Client(query, **shown) as client, pytest.raises(PermissionDenied):
        client.search("images", "a cat")
    with Client(query, token=token, **shown) as client, pytest.raises(Unavailable):
        client.search("images", "a cat")
    assert stop(running)["query"][0] == 0
