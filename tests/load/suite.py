"""The set of configurations, run one after the other against services that are up."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks import stacks
from benchmarks.report import Figure, Spread
from glimpse.cli.console import say
from glimpse.cli.ports import Ports
from tests.load import bodies, ghz
from tests.load.gates import Gate, figures
from tests.load.ghz import Configuration, GhzReport

# In the order in which they run: the ramp takes its rates from search-32.
NAMES = (
    "search-1",
    "search-8",
    "search-32",
    "search-ramp",
    "search-mix",
    "batch-search",
    "encode-texts",
    "encode-images",
    "index-images",
)
RAMP = "search-ramp"
_RAMP_AFTER = "search-32"
# Rates of the ramp's steps: quarters of what 32 callers in a closed loop reach, up to one and a
# half of it.
_RAMP_STEP, _RAMP_STEPS = 0.25, 6
_CALIBRATIONS = 3


@dataclass(frozen=True)
class SuiteOptions:
    """`seconds` 0: as long as each configuration says. `by_proto`: contracts from protos/, not
    from the servers' reflection. `seed` decides every body; `store`, which gates apply."""

    output: Path
    world: bodies.World
    store: str
    seconds: float = 0.0
    by_proto: bool = False
    seed: int = 1


class Suite:
    """Runs configurations against addresses by service; its figures grow with each."""

    def __init__(self, addresses: Mapping[str, str], options: SuiteOptions) -> None:
        self.addresses = addresses
        self.options = options
        self.figures: list[Figure] = []
        self.reports: dict[str, GhzReport] = {}
        self._seed = options.seed

    def run(self, names: Sequence[str] = NAMES) -> None:
        """Calibrates, then runs each. Raises RuntimeError where ghz cannot."""
        reference = Spread.of(self._calibrate())
        self.figures.append(
            Figure(
                "reference.per_s",
                "calls per second to an encoder that computes nothing, 8 callers: what gRPC, "
                "Python and ghz reach on this machine",
                reference.median,
                spread=reference,
            )
        )
        for name in names:
            say(f"  {name}")
            configuration = Configuration.read(name)
            report = self.run_one(configuration, **self._ramp() if name == RAMP else {})
            self.reports[name] = report
            gate = Gate.beside(configuration, self.options.store)
            items = bodies.items_per_call(configuration.bodies.stem, self.options.world)
            self.figures += figures(configuration, gate, report, reference.median, items)
            if name == RAMP:
                self.figures += self._steps(report)

    def run_one(self, configuration: Configuration, **changes: str | int) -> GhzReport:
        """One run against its service, with bodies that no run before it has sent."""
        target = self.addresses[configuration.service]
        return self._send(configuration, target, self.options.by_proto, **changes)

    def _send(
        self, configuration: Configuration, target: str, by_proto: bool, **changes: str | int
    ) -> GhzReport:
        self._seed += 1
        bodies.write(configuration.bodies, self._seed, self.options.world)
        if self.options.seconds:
            changes = {"duration": f"{self.options.seconds}s", **changes}
        return ghz.run(
            configuration,
            target,
            self.options.output / configuration.name,
            by_proto=by_proto,
            **changes,
        )

    def _calibrate(self) -> list[float]:
        """Rates of the calibration's runs, against a stub, which has no reflection."""
        calibration = Configuration.read("calibration")
        with stub_encoder(self.options.world.image_size) as address:
            return [
                self._send(calibration, address, by_proto=True).per_s for _ in range(_CALIBRATIONS)
            ]

    def _ramp(self) -> dict[str, str | int]:
        """The ramp's rates, from what the machine has just reached; as they stand without that."""
        before = self.reports.get(_RAMP_AFTER)
        changes: dict[str, str | int] = {}
        if before is not None:
            step = max(round(before.per_s * _RAMP_STEP), 1)
            changes = {"load_start": step, "load_step": step, "load_end": step * _RAMP_STEPS}
        if self.options.seconds:
            step_s = self.options.seconds / _RAMP_STEPS
            changes["load_step_duration"] = f"{round(step_s * 1000)}ms"
        return changes

    def _steps(self, report: GhzReport) -> list[Figure]:
        rates = report.ok_per_s_by_step(1.0)
        meaning = "most searches answered in one second of the ramp"
        return [Figure(f"{RAMP}.saturation_per_s", meaning, max(rates, default=0.0))]


@contextlib.contextmanager
def stub_encoder(image_size: int) -> Iterator[str]:
    """An encoder that computes nothing, as a process; the value is its address."""
    port = Ports.free().encoder
    address = f"127.0.0.1:{port}"
    stub = ["benchmarks.stub_encoder", str(port), str(image_size)]
    with stacks.running_process(stub, address):
        yield address
