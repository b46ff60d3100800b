"""How many pods, how much memory, and which part is full first, for so many images and searches.

A small simulation: searches arrive at random, and pass query, encoder and Milvus, each of which
takes the time that was measured for it. `--against` a file of `make capacity` simulates that run
instead, everything on one machine, and says how far the simulated knee is from the measured one.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.queueing import Make, Outcome, Pool, Station, knee, simulate
from benchmarks.report import Bar, Figure, Report, shown
from benchmarks.service_times import ServiceTimes, of_capacity, with_scale

_LOAD = 0.7  # of what a pod can do, as docs/sizing.md plans
_GIB = 2**30
_INDEX_BYTES = {"HNSW": 2_180, "HNSW_SQ": 644, "IVF_SQ8": 520, "DISKANN": 461}
_ATTRIBUTE_BYTES = 512
_MAX_BATCH_TEXTS = 64
_MAX_ROUNDS = 200
_OUTPUT = Path("build/bench/capacity_plan.json")


@dataclass
class Plan:
    """Pods of each part. A group of query nodes holds all images once, and serves its share."""

    query: int
    encoder: int
    nodes: int
    groups: int

    def stations(self, times: ServiceTimes, options: argparse.Namespace) -> Make:
        node_s = node_ms(times, options, self.nodes) / 1000
        new_share = options.new_texts

        def make() -> Sequence[Station]:
            return (
                Station("query", self.query, lambda _: times.query_ms / 1000),
                Station(
                    "encoder",
                    self.encoder,
                    lambda n: (times.encode_call_ms + n * times.encode_text_ms) * new_share / 1000,
                    _MAX_BATCH_TEXTS,
                ),
                # The nodes of a group work on each search at the same time, all as long.
                Station("Milvus", self.groups, lambda _: node_s),
            )

        return make


def node_ms(times: ServiceTimes, options: argparse.Namespace, nodes: int) -> float:
    """Of one search on each node of a group, whose cores share the node's segments."""
    segments = math.ceil(options.images / times.segment_rows / nodes)
    work_ms = times.milvus_ms + segments * times.segment_ms
    return work_ms / min(options.node_cores, max(segments, 1))


def smallest(times: ServiceTimes, options: argparse.Namespace) -> tuple[Plan, Outcome]:
    """The fewest pods that keep the objective. Raises ValueError where none do."""
    memory_bytes = options.images * (_INDEX_BYTES[options.index] + options.attribute_bytes) / _LOAD
    nodes = max(math.ceil(memory_bytes / (options.node_gib * _GIB)), 1)
    alone_ms = node_ms(times, options, nodes)
    while alone_ms > options.objective_ms / 2 and nodes < 100_000:
        nodes *= 2  # or one search alone takes too long
        alone_ms = node_ms(times, options, nodes)
    per_s, text_ms = options.searches, times.encode_call_ms / 8 + times.encode_text_ms
    plan = Plan(
        query=_pods(per_s * times.query_ms),
        encoder=_pods(per_s * options.new_texts * text_ms),
        nodes=nodes,
        groups=_pods(per_s * alone_ms),
    )
    for _ in range(_MAX_ROUNDS):
        outcome = simulate(plan.stations(times, options), per_s)
        if outcome.p99_ms <= options.objective_ms:
            return plan, outcome
        busiest = max(outcome.busy, key=lambda name: outcome.busy[name])
        field = {"query": "query", "encoder": "encoder", "Milvus": "groups"}[busiest]
        setattr(plan, field, math.ceil(1.1 * getattr(plan, field)) + 1)
    raise ValueError(f"no plan keeps p99 within {options.objective_ms:g} ms")


def _pods(busy_ms_per_s: float) -> int:
    return max(math.ceil(busy_ms_per_s / 1000 / _LOAD), 1)


def figures(times: ServiceTimes, options: argparse.Namespace) -> list[Figure]:
    """Pods, memory, and the knee of the plan."""
    plan, outcome = smallest(times, options)
    edge = knee(plan.stations(times, options), options.objective_ms, options.searches)
    assert edge is not None, "the plan keeps the objective at a lower rate"
    full = max(edge.busy, key=lambda name: edge.busy[name])
    nodes = plan.nodes * plan.groups
    per_day = options.images / options.ingest_days
    per_s = per_day / 86_400
    return [
        Figure("pods.query", "query pods, one core each", plan.query),
        Figure("pods.encoder", "encoder pods for searches", plan.encoder),
        Figure(
            "pods.encoder_ingest",
            f"encoder pods besides, for {per_s:,.0f} images/s: all within {options.ingest_days} d",
            math.ceil(per_s / options.encoder_images_per_s / _LOAD),
        ),
        Figure(
            "cores.indexer",
            "cores of indexers, for decoding these",
            math.ceil(per_s * options.decode_ms / 1000 / _LOAD),
        ),
        Figure(
            "pods.milvus",
            f"query nodes: {plan.groups} groups of {plan.nodes}, {options.node_gib} GiB and "
            f"{options.node_cores} cores each; memory alone asks for one group",
            nodes,
        ),
        Figure("memory_gb", "memory of the query nodes", nodes * options.node_gib * _GIB / 1e9),
        Figure("cores.milvus", "cores of the query nodes", nodes * options.node_cores),
        Figure("p99_ms", f"p99 at {options.searches:,.0f} searches/s", outcome.p99_ms),
        Figure(
            "knee_per_s",
            f"searches/s with p99 within {options.objective_ms:g} ms; bottleneck: {full} "
            f"({edge.busy[full]:.0%} busy)",
            edge.per_s,
        ),
        Figure("knee.p99_ms", "p99 at the knee", edge.p99_ms),
        *(
            Figure(f"knee.{name.lower()}", f"{name}, busy share at the knee", share)
            for name, share in edge.busy.items()
        ),
    ]


def one_machine(times: ServiceTimes, cores: int) -> Make:
    """Everything on the same cores, callers too, as `make capacity` has it."""

    def make() -> Sequence[Station]:
        pools = (Pool(cores),)
        loop = (*pools, Pool(1))  # the query process, before and after its calls to the others
        half_s = times.query_ms / 2 / 1000
        return (
            Station("caller", cores, lambda _: times.caller_ms / 1000, pools=pools),
            Station("query", 1, lambda _: half_s, pools=loop),
            Station(
                "encoder",
                1,
                lambda n: (times.encode_call_ms + n * times.encode_text_ms) / 1000,
                _MAX_BATCH_TEXTS,
                pools,
            ),
            Station("Milvus", cores, lambda _: times.milvus_ms / 1000, pools=pools),
            Station("query, answers", 1, lambda _: half_s, pools=loop),
        )

    return make


def against(path: Path, objective_ms: float) -> list[Figure]:
    """The simulated knee of a run of `make capacity` beside the measured one."""
    report = json.loads(path.read_text(encoding="utf-8"))
    cores, measured = report["machine"]["cores"], report.get("knee_per_s")
    times = of_capacity(report, cores)
    edge = knee(one_machine(times, cores), objective_ms, measured or 20.0)
    if edge is None or not measured:
        return [Figure("simulation_share", "knee", None, reason="there is no knee to compare")]
    return [
        Figure(
            "knee_per_s", f"simulated searches/s with p99 within {objective_ms:g} ms", edge.per_s
        ),
        Figure("measured_knee_per_s", f"of {path.name}", measured),
        Figure(
            "simulation_share",
            "simulated ÷ measured knee",
            edge.per_s / measured,
            Bar("at least", 0.8, 1.25),
        ),
    ]


def main(arguments: list[str] | None = None) -> int:
    """0; 2 where no number of pods keeps the objective."""
    options = _options(arguments)
    times = ServiceTimes()
    if options.scale:
        times = with_scale(times, json.loads(options.scale.read_text(encoding="utf-8")))
    report = Report("capacity-plan", "python -m benchmarks.capacity_plan", {}, has_bars=False)
    try:
        if options.against:
            report.figures = against(options.against, options.objective_ms)
        else:
            report.figures = figures(times, options)
    except ValueError as error:
        print(error)
        return 2
    given = {name: str(value) for name, value in sorted(vars(options).items())}
    report.details = {"options": given, "service_times": times.describe()}
    report.write(options.output)
    for figure in report.figures:
        bar = f"; bar {figure.bar}" if figure.bar else ""
        print(f"{shown(figure.value):>10}  {figure.key:22}  {figure.meaning}{figure.reason}{bar}")
    return 0


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.capacity_plan", description=__doc__)
    parser.add_argument("--images", type=float, default=1e6)
    parser.add_argument("--searches", type=float, default=100.0, help="per second")
    parser.add_argument("--objective-ms", type=float, default=100.0, help="that p99 must keep")
    parser.add_argument("--new-texts", type=float, default=0.5, help="share not searched lately")
    parser.add_argument("--index", choices=_INDEX_BYTES, default="HNSW")
    parser.add_argument("--attribute-bytes", type=int, default=_ATTRIBUTE_BYTES, help="per image")
    parser.add_argument("--node-gib", type=int, default=64, help="memory of a query node")
    parser.add_argument("--node-cores", type=int, default=16, help="cores of a query node")
    parser.add_argument("--ingest-days", type=float, default=30.0, help="to index all images in")
    parser.add_argument(
        "--encoder-images-per-s", type=float, default=50.0, help="of a pod; make bench-encoder"
    )
    parser.add_argument(
        "--decode-ms", type=float, default=1.6, help="of one picture; make bench-ingest"
    )
    parser.add_argument("--scale", type=Path, help="build/bench/scale.json: Milvus' times")
    parser.add_argument("--against", type=Path, help="build/load/capacity-milvus.json, to compare")
    parser.add_argument("--output", type=Path, default=_OUTPUT)
    return parser.parse_args(arguments)


if __name__ == "__main__":
    raise SystemExit(main())
