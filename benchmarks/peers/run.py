"""`make bench-peers`: the same images and texts through the alternatives to glimpse.

Random weights in the shape of ViT-B/32, the same number of threads for all, everything loaded, then
measured in turn, again and again: the machine's moods hit all alike. What cannot be installed,
does not run, or takes too long on this processor appears with the reason.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from benchmarks import machine, recall, stacks
from benchmarks.peers.catalogue import (
    BUNDLED,
    PEERS,
    Environment,
    Model,
    Peer,
    environments,
    random_model,
)
from benchmarks.peers.loaded import Loaded
from benchmarks.report import Figure, Report, Spread, percentile, shown
from benchmarks.weights import random_vit_b_32
from demo.evaluate import queries
from glimpse.cli.console import say
from services.common.cpus import usable_cpus
from services.encoder.hardware import cpu_has_bf16

_OURS = "glimpse"
_COLUMNS = {
    "images_per_s": "images/s",
    "texts_per_s": "texts/s",
    "p50_ms": "p50 ms",
    "p99_ms": "p99 ms",
    "rss_mb": "memory MB",
    "start_s": "start s",
    "kept": "neighbours kept",
}
_HIGHER_IS_BETTER = frozenset({"images_per_s", "texts_per_s", "kept"})
_MIN_KEPT = 0.98  # with less, a peer is ahead of nobody


@dataclass
class Measured:
    """What one peer showed. `reason`: why it showed nothing."""

    reason: str = ""
    images_per_s: list[float] = field(default_factory=list)
    texts_per_s: list[float] = field(default_factory=list)
    p50_ms: list[float] = field(default_factory=list)
    p99_ms: list[float] = field(default_factory=list)
    rss_mb: list[float] = field(default_factory=list)
    start_s: list[float] = field(default_factory=list)
    kept: list[float] = field(default_factory=list)

    def median(self, column: str) -> float | None:
        values = getattr(self, column)
        return statistics.median(values) if values else None

    @property
    def keeps_enough(self) -> bool:
        """Of fp32's neighbours, as far as that was measured."""
        kept = self.median("kept")
        return kept is None or kept >= _MIN_KEPT


def measure(options: argparse.Namespace, weights: Path) -> dict[str, Measured]:
    """By name, in the table's order."""
    measured = {name: Measured() for name in options.only or PEERS}
    model = random_model(weights)
    kinds = environments([model, BUNDLED])
    loaded: dict[str, Loaded] = {}
    try:
        for name in measured:
            try:
                say(f"  {name}")
                if PEERS[name].needs_bf16 and not cpu_has_bf16():  # emulated, it takes for ever
                    raise RuntimeError("the processor has no bf16 instructions")
                kinds[PEERS[name].environment].install()
                loaded[name] = _load(PEERS[name], model, kinds, options.threads)
            except RuntimeError as error:
                measured[name].reason = str(error)
                say(f"  {name}: {error}")
        for number in range(options.rounds):
            say(f"Round {number + 1} of {options.rounds} ...")
            for name in list(loaded):
                try:
                    _round(loaded[name], measured[name], options.seconds)
                except RuntimeError as error:
                    measured[name] = Measured(reason=str(error))
                    loaded.pop(name).close()
        for name, peer in loaded.items():
            measured[name].rss_mb.append(peer.peak_rss_mb())
            measured[name].start_s.append(peer.start_s)
    finally:
        for peer in loaded.values():
            peer.close()
    for name in loaded:
        if PEERS[name].takes_any:
            say(f"Neighbours of {name} ...")
            try:
                measured[name].kept.append(_kept(PEERS[name], kinds, options.threads))
            except RuntimeError as error:
                say(f"  {error}")
    return measured


def _load(peer: Peer, model: Model, kinds: Mapping[str, Environment], threads: int) -> Loaded:
    return Loaded(peer, kinds[peer.environment].python, model, threads)


def _kept(peer: Peer, kinds: Mapping[str, Environment], threads: int) -> float:
    """The share of fp32's nearest pictures that it keeps on the bundled model."""
    folder = stacks.OUTPUT / "peer-vectors"
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / "pixels.npy", recall.pixels(BUNDLED.image_size))
    (folder / "texts.json").write_text(json.dumps(queries()))
    loaded = _load(peer, BUNDLED, kinds, threads)
    try:
        loaded.encode_all(folder)
    finally:
        loaded.close()
    return recall.kept(np.load(folder / "images.npy"), np.load(folder / "texts.npy"))


def _round(peer: Loaded, measured: Measured, seconds: float) -> None:
    measured.images_per_s.append(peer.run("images", seconds)["items_per_s"])
    measured.texts_per_s.append(peer.run("texts", seconds)["items_per_s"])
    latencies_ms = peer.run("text", seconds)["latencies_ms"]
    measured.p50_ms.append(percentile(latencies_ms, 0.5))
    measured.p99_ms.append(percentile(latencies_ms, 0.99))


def ahead(name: str, measured: dict[str, Measured]) -> list[str]:
    """The columns in which a peer beats the best of glimpse's rows; none where it keeps too few of
    fp32's neighbours, and only rows of glimpse count that keep enough."""
    found: list[str] = []
    if not measured[name].keeps_enough:
        return found
    for column in _COLUMNS:
        ours = [
            value
            for other, row in measured.items()
            if other.startswith(_OURS)
            and row.keeps_enough
            and (value := row.median(column)) is not None
        ]
        theirs = measured[name].median(column)
        if not ours or theirs is None or name.startswith(_OURS) or column == "kept":
            continue
        if theirs > max(ours) if column in _HIGHER_IS_BETTER else theirs < min(ours):
            found.append(column)
    return found


def table(measured: dict[str, Measured]) -> str:
    """Markdown: a row for each peer; where one is ahead, its last column says in what."""
    lines = [
        f"| | {' | '.join(_COLUMNS.values())} | better than glimpse's best in |",
        f"|---|{'---|' * len(_COLUMNS)}---|",
    ]
    for name, row in measured.items():
        what = PEERS[name].what
        if row.reason:
            lines.append(f"| {what} | not run: {row.reason} |{' |' * len(_COLUMNS)}")
            continue
        values = [shown(row.median(column)) for column in _COLUMNS]
        words = ", ".join(_COLUMNS[column].split()[0] for column in ahead(name, measured))
        lines.append(f"| {what} | {' | '.join(values)} | {words} |")
    return "\n".join(lines)


def figures(measured: dict[str, Measured]) -> list[Figure]:
    """Every cell of the table, with its spread."""
    found = []
    for name, row in measured.items():
        for column in _COLUMNS:
            values: Sequence[float] = getattr(row, column)
            spread = Spread.of(values) if values else None
            meaning = f"{PEERS[name].what}: {column}"
            value = spread.median if spread else None
            found.append(
                Figure(f"{name}.{column}", meaning, value, spread=spread, reason=row.reason)
            )
    return found


def main() -> int:
    """Writes build/bench/peers.json, prints the table."""
    options = _options()
    stacks.end_on_sigterm()
    weights = random_vit_b_32(stacks.OUTPUT)
    report = Report("peers", "make bench-peers", machine.describe())
    say("Installing and loading ...")
    measured = measure(options, weights)
    report.figures = figures(measured)
    report.details = {
        "table": table(measured),
        "rows": {name: asdict(row) for name, row in measured.items()},
        "options": dict(sorted(vars(options).items())),
    }
    report.write(stacks.OUTPUT / "peers.json")
    print(table(measured))
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers.run", description=__doc__)
    parser.add_argument("--only", nargs="*", choices=PEERS, help="some of the peers")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=3.0, help="of each measurement")
    parser.add_argument("--threads", type=int, default=usable_cpus())
    return parser.parse_args()


if __name__ == "__main__":
    raise SystemExit(main())
