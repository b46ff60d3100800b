"""Stops under load: each replica of each service in turn, while callers of every kind call."""

from __future__ import annotations

import json
import random
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from glimpse.cli.progress import Counter as Progress
from glimpse.client import Client
from tests.first_day.callers import COLLECTION, Callers
from tests.first_day.replicas import Replicas, started
from tests.load import ghz
from tests.robustness.rolling import peers

SERVICES = ("encoder", "indexer", "query")

_GHZ_CALLERS = 40
_GHZ_S = 0.8
_UNDER_LOAD_S = (0.2, 0.5)
_RETRIABLE = ("OK", "UNAVAILABLE", "Unavailable")
_CALLS = {
    "encoder": ("glimpse.encoder.v1.Encoder.EncodeTexts", {"texts": ["{{newUUID}}"]}),
    "indexer": ("glimpse.indexer.v1.Indexer.GetCollection", {"collection": COLLECTION}),
    "query": (
        "glimpse.query.v1.Query.Search",
        {"collection": COLLECTION, "text": "{{newUUID}}"},
    ),
}


@dataclass
class Stops:
    """How calls ended, by service, kind of caller and status, while services were stopped."""

    stops: Counter[str] = field(default_factory=Counter)
    endings: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    errors: list[str] = field(default_factory=list)
    """Of glimpse's clients, who had another replica all the time."""

    @property
    def unretriable(self) -> int:
        """Endings that no caller tries again, and errors that clients let through."""
        bad = sum(n for (_, _, code), n in self.endings.items() if code not in _RETRIABLE)
        return bad + len(self.errors)

    def record(self) -> dict[str, object]:
        """For a report."""
        endings = {" ".join(key): count for key, count in sorted(self.endings.items())}
        return {"stops": dict(self.stops), "endings": endings, "errors": self.errors[:50]}


@dataclass(frozen=True)
class Written(ghz.Configuration):
    """A configuration of ghz's that lies in a folder of its own."""

    folder: Path

    @property
    def path(self) -> Path:
        return self.folder / f"{self.name}.json"


def measure(folder: Path, stops: int, services: Sequence[str] = SERVICES) -> Stops:
    """Stops replicas of each of the services `stops` times, one after the other.

    Where the encoder is none of them, one that computes nothing stands in for it.
    """
    found = Stops()
    with peers(folder) as settings:
        replicas = {name: Replicas(name, folder, settings) for name in ("indexer", "query")}
        if "encoder" in services:
            replicas["encoder"] = Replicas("encoder", folder, {"THREADS": "1"})
            settings["ENCODER"] = replicas["encoder"].target
        targets = {name: each.target for name, each in replicas.items()}
        with started(*replicas.values()):
            with Client(targets["query"], targets["indexer"], timeout_s=60) as client:
                client.create_collection(COLLECTION)
            for name in services:
                _stop_under_load(replicas[name], targets, stops, folder, found)
    return found


def _stop_under_load(
    replicas: Replicas, targets: dict[str, str], stops: int, folder: Path, found: Stops
) -> None:
    name = replicas.service
    configuration = _configuration(name, folder)
    rng = random.Random(name)
    progress = Progress(f"stopping {name} under load", stops, "stops")
    with Callers(name, targets) as callers, ThreadPoolExecutor(1) as pool, progress:
        for number in range(stops):
            victim = number % len(replicas.addresses)
            report = pool.submit(
                ghz.run,
                configuration,
                replicas.addresses[victim],
                folder / f"ghz-{name}",
                by_proto=True,
                html=False,
            )
            time.sleep(rng.uniform(*_UNDER_LOAD_S))  # somewhere in the midst of it
            replicas.stop(victim)
            replicas.start(victim)
            for code, count in report.result().statuses.items():
                found.endings[name, "ghz", code] += count
            replicas.await_serving()
            found.stops[name] += 1
            progress.step()
    for (kind, code), count in callers.endings.items():
        found.endings[name, kind, code] += count
    found.errors += [f"{name} stopped: {error}" for error in callers.errors]


def _configuration(service: str, folder: Path) -> Written:
    call, data = _CALLS[service]
    settings = {
        "call": call,
        "data": data,
        "insecure": True,
        "timeout": "20s",
        "concurrency": _GHZ_CALLERS,
        "duration": f"{_GHZ_S}s",
        "duration-stop": "wait",
        "rps": 1_000,
    }
    configuration = Written(f"stop-{service}", settings, folder)
    configuration.path.write_text(json.dumps(settings), encoding="utf-8")
    return configuration
