"""`make capacity`: how many searches per second until p99 breaks the objective, and what is full.

The rate of an open loop rises until the objective breaks, then the gap is halved. What saturated is
read from the services' own metrics, taken before and after each rate.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import time
import urllib.request
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from benchmarks import stacks
from benchmarks.report import Figure, Report
from glimpse.cli.console import say
from tests import programs
from tests.load import bodies, ghz
from tests.load.ghz import Configuration, GhzReport
from tests.load.run import NO_GHZ, OUTPUT, describe_machine, filled_stack, model_of
from tests.load.suite import Suite, SuiteOptions

_GROWTH = 1.5
_HALVINGS = 3
# A part that is busy for this share of the time answers ever later.
FULL = 0.85
# Milvus' searches take so many times longer than at the first, low rate: it has a queue.
SLOWED = 2.0


@dataclass(frozen=True)
class Usage:
    """What was busy between two looks at the metrics, as shares of the time between them.

    encoder_device: the encoder's own count of when its device worked. query_loop: processor time of
    the query process, whose Python runs on one core at a time. milvus_ms: of one search, as query
    saw it. processors: all of the machine's, where everything runs on one; NaN elsewhere.
    """

    encoder_device: float
    query_loop: float
    milvus_ms: float
    processors: float

    def saturated(self, milvus_ms_at_first: float) -> list[str]:
        """What was full, for people; nothing where no figure says so."""
        found = []
        if self.encoder_device >= FULL:
            found.append(f"encoder device time ({self.encoder_device:.0%} busy)")
        if self.query_loop >= FULL:
            found.append(f"query loop ({self.query_loop:.0%} of a core)")
        if self.milvus_ms >= SLOWED * milvus_ms_at_first:
            found.append(f"Milvus ({self.milvus_ms:.1f} ms, {milvus_ms_at_first:.1f} ms at first)")
        if self.processors >= FULL:
            found.append(f"this machine's processors ({self.processors:.0%} busy)")
        return found


class Meter:
    """Reads the services' metrics, and the machine's processors; addresses are of /metrics."""

    def __init__(self, encoder: str, query: str) -> None:
        self._encoder, self._query = encoder, query
        self._before: dict[str, float] = {}

    def start(self) -> None:
        """Begins what usage() looks back on."""
        self._before = self._read()

    def usage(self) -> Usage:
        """Since start()."""
        return usage_between(self._before, self._read())

    def _read(self) -> dict[str, float]:
        query, encoder = _metrics(self._query), _metrics(self._encoder)
        busy_s, all_s = _processors_s()
        return {
            "at_s": time.perf_counter(),
            "device_s": encoder.get("glimpse_encoder_busy_seconds_total", 0.0),
            "loop_s": query["process_cpu_seconds_total"],
            "search_s": query.get("glimpse_query_stage_seconds_sum{search}", 0.0),
            "searches": query.get("glimpse_query_stage_seconds_count{search}", 0.0),
            "processors_busy_s": busy_s,
            "processors_s": all_s,
        }


def usage_between(before: Mapping[str, float], after: Mapping[str, float]) -> Usage:
    """From two readings of a Meter."""
    grown = {name: after[name] - before[name] for name in after}
    return Usage(
        encoder_device=grown["device_s"] / grown["at_s"],
        query_loop=grown["loop_s"] / grown["at_s"],
        milvus_ms=1000 * grown["search_s"] / grown["searches"] if grown["searches"] else 0.0,
        processors=grown["processors_busy_s"] / grown["processors_s"],
    )


def _metrics(address: str) -> dict[str, float]:
    """Samples summed by name; a histogram's by stage as well, as NAME{STAGE}."""
    with urllib.request.urlopen(f"http://{address}/metrics", timeout=10) as answer:
        text = answer.read().decode()
    found: dict[str, float] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            names = [sample.name]
            if "stage" in sample.labels:
                names.append(f"{sample.name}{{{sample.labels['stage']}}}")
            for name in names:
                found[name] = found.get(name, 0.0) + sample.value
    return found


def _processors_s() -> tuple[float, float]:
    """Seconds that the machine's processors were busy, and that they had, since it started."""
    fields = Path("/proc/stat").read_text(encoding="ascii").splitlines()[0].split()[1:9]
    ticks = [int(field) for field in fields]
    idle = ticks[3] + ticks[4]  # idle, and waiting for disks
    per_s = os.sysconf("SC_CLK_TCK")
    return (sum(ticks) - idle) / per_s, sum(ticks) / per_s


@dataclass(frozen=True)
class Step:
    """One rate: what was asked for, what came back, what was busy."""

    asked_per_s: int
    per_s: float
    p99_ms: float
    error_share: float
    usage: Usage

    def keeps(self, objective_ms: float) -> bool:
        """All calls went well, and in time; NaN does not."""
        return self.error_share == 0 and self.p99_ms <= objective_ms


class Finder:
    """Looks for the knee; its steps grow with each rate that it tries."""

    def __init__(self, suite: Suite, meter: Meter, objective_ms: float, seconds: float) -> None:
        self._suite, self._meter = suite, meter
        self._objective_ms, self._seconds = objective_ms, seconds
        self._configuration = Configuration.read("search-ramp")
        self.steps: list[Step] = []

    def find(self, start_per_s: int) -> None:
        """Tries rates until the knee lies between two that are close together."""
        good, bad = 0, start_per_s
        while self._try(bad):
            good, bad = bad, max(round(bad * _GROWTH), bad + 1)
        for _ in range(_HALVINGS):
            middle = (good + bad) // 2
            if middle in (good, bad):
                break
            good, bad = (middle, bad) if self._try(middle) else (good, middle)

    @property
    def knee(self) -> Step | None:
        """The highest rate that kept the objective; None where none did."""
        kept = [step for step in self.steps if step.keeps(self._objective_ms)]
        return max(kept, key=lambda step: step.asked_per_s, default=None)

    @property
    def beyond(self) -> Step:
        """The lowest rate that broke it."""
        broken = [step for step in self.steps if not step.keeps(self._objective_ms)]
        return min(broken, key=lambda step: step.asked_per_s)

    def _try(self, per_s: int) -> bool:
        self._meter.start()
        report: GhzReport = self._suite.run_one(
            self._configuration,
            duration=f"{self._seconds}s",
            load_schedule="const",
            rps=per_s,
        )
        step = Step(per_s, report.per_s, report.ms(0.99), report.error_share(), self._meter.usage())
        self.steps.append(step)
        kept = step.keeps(self._objective_ms)
        say(
            f"  {per_s}/s asked, {step.per_s:.0f}/s answered, p99 {step.p99_ms:.0f} ms: "
            f"{'kept' if kept else 'broken'}"
        )
        return kept


def figures(finder: Finder, objective_ms: float) -> list[Figure]:
    """The knee, and what was full just beyond it."""
    knee, beyond = finder.knee, finder.beyond
    full = beyond.usage.saturated(finder.steps[0].usage.milvus_ms)
    why = ", ".join(full) or "nothing that the metrics show"
    return [
        Figure(
            "knee_per_s",
            f"searches/s with p99 within {objective_ms:g} ms and no error; at "
            f"{beyond.asked_per_s}/s p99 is {beyond.p99_ms:.0f} ms; bottleneck: {why}",
            knee.asked_per_s if knee else None,
            reason="" if knee else "the first rate broke the objective already",
        ),
        Figure(
            "knee.p99_ms",
            "p99 at the knee",
            knee.p99_ms if knee else None,
            reason="" if knee else "no knee",
        ),
        Figure("beyond.encoder_device", "encoder device, busy share", beyond.usage.encoder_device),
        Figure("beyond.query_loop", "query process, share of a core", beyond.usage.query_loop),
        Figure("beyond.milvus", "milliseconds of one search in Milvus", beyond.usage.milvus_ms),
        Figure("beyond.processors", "all CPUs, busy share", beyond.usage.processors),
    ]


def main(arguments: list[str] | None = None) -> int:
    """0; 3 where ghz is not here."""
    options = _options(arguments)
    if programs.find(ghz.PROGRAM) is None:
        print(programs.missing(ghz.PROGRAM), file=sys.stderr)
        return NO_GHZ
    stacks.end_on_sigterm()
    output = options.output.absolute()
    command = f"make capacity STORE={options.store}"
    report = Report(f"capacity-{options.store}", command, describe_machine())
    with contextlib.ExitStack() as running:
        stack = running.enter_context(filled_stack(options.store, options.rows))
        world = bodies.World(options.rows, model_of(stack.addresses["encoder"]).image_size)
        suite = Suite(stack.addresses, SuiteOptions(output / report.name, world, options.store))
        ports = stack.options.ports
        meter = Meter(f"127.0.0.1:{ports.encoder_metrics}", f"127.0.0.1:{ports.query_metrics}")
        finder = Finder(suite, meter, options.objective_ms, options.seconds)
        say(f"Searching for the rate at which p99 passes {options.objective_ms:g} ms ...")
        finder.find(options.start)
    report.figures = figures(finder, options.objective_ms)
    report.details = {"steps": [asdict(step) for step in finder.steps], "rows": options.rows}
    report.write(output / f"{report.name}.json")
    print(report.table())
    return 0


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.load.capacity", description=__doc__)
    parser.add_argument("--store", choices=stacks.STORES, default="lite")
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--objective-ms", type=float, default=100.0, help="that p99 must keep")
    parser.add_argument("--start", type=int, default=20, help="searches/s of the first rate")
    parser.add_argument("--seconds", type=float, default=8.0, help="of each rate")
    parser.add_argument("--output", type=Path, default=OUTPUT, help="folder of the reports")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    raise SystemExit(main())
