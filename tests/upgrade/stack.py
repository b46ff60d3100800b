"""The processes of a run: a store, encoders, an indexer, queries; each of them can be killed."""

from __future__ import annotations

import sys
from pathlib import Path
from signal import SIGTERM

from pymilvus import MilvusClient

from glimpse.cli.ports import free_ports
from glimpse.cli.probes import is_milvus_ready, is_serving, model_at
from tests.backends import MilvusLite, MilvusServer, Process
from tests.waiting import wait_until

ROOT = Path(__file__).resolve().parents[2]


class Stack:
    """Store, two encoders of either model, indexer, two replicas of query; each can be killed and
    started anew."""

    def __init__(self, folder: Path, kind: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        store = (MilvusServer if kind == "milvus" else MilvusLite)(folder / "store")
        addresses = [f"127.0.0.1:{port}" for port in free_ports(7)]
        encoders, indexer, queries = addresses[:4], addresses[4], addresses[5:]
        self.new, self.indexer, self.query = encoders[2], indexer, "ipv4:" + ",".join(queries)
        further = ",".join(encoders[1:])
        peers = {"ENCODER": encoders[0], "ENCODERS": further, "MILVUS_URI": store.uri}
        self.store = store
        self.processes: dict[str, Process] = {
            f"old-{number}": self._encoder("old", number, encoders[number]) for number in range(2)
        }
        self.processes |= {
            f"new-{number}": self._encoder("new", number, encoders[2 + number])
            for number in range(2)
        }
        self.processes |= {
            "indexer": self._service("indexer", "indexer", indexer, peers),
            **{
                f"query-{number}": self._service(f"query-{number}", "query", address, peers)
                for number, address in enumerate(queries)
            },
        }
        names = [f"{model}-{number}" for model in ("old", "new") for number in range(2)]
        self._encoders = dict(zip(names, encoders, strict=True))
        self._addresses = {"indexer": indexer, **{f"query-{n}": a for n, a in enumerate(queries)}}

    def start(self) -> None:
        self.store.start()
        wait_until(lambda: is_milvus_ready(self.store.uri), "no Milvus", 120.0)
        for process in self.processes.values():
            process.start()
        for name in self._addresses:
            self.await_serving(name)

    def stop(self) -> None:
        for process in (*self.processes.values(), self.store):
            process.stop()

    def await_serving(self, name: str) -> None:
        if name in self._addresses:
            address = self._addresses[name]
            wait_until(lambda: is_serving(address), f"{name} does not serve", 120.0)
        else:
            address = self._encoders[name]
            wait_until(lambda: model_at(address) is not None, f"{name} does not serve", 120.0)

    def reload(self) -> None:
        """Has the store forget what only its memory has."""
        client = MilvusClient(self.store.uri)
        for name in client.list_collections():
            client.release_collection(name)
            client.load_collection(name)
        client.close()

    def encoded(self, model: str) -> int:
        """How many pictures a model's encoders have encoded for indexing so far."""
        logs = self.folder.glob(f"{model}-*.calls")
        return sum(sum(map(int, log.read_text().split())) for log in logs)

    def _encoder(self, model: str, number: int, address: str) -> Process:
        name, port = f"{model}-{number}", address.rpartition(":")[2]
        log = str((self.folder / f"{name}.calls").absolute())
        return self._process(name, ["tests.upgrade.encoder", port, model, log], {})

    def _service(self, name: str, service: str, address: str, peers: dict[str, str]) -> Process:
        settings = {"LISTEN": address, "METRICS_LISTEN": "127.0.0.1:0", "LOG_FORMAT": "text"}
        if service == "query":
            settings["PAGE_TOKEN_KEY"] = "key"
        environment = {f"{service.upper()}_{k}": v for k, v in {**settings, **peers}.items()}
        return self._process(name, [f"services.{service}"], environment)

    def _process(self, name: str, module: list[str], environment: dict[str, str]) -> Process:
        folder = self.folder / name
        folder.mkdir(exist_ok=True)
        environment = environment | {"PYTHONPATH": str(ROOT)}
        return Process([sys.executable, "-m", *module], folder, SIGTERM, environment)
