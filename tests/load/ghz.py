"""ghz as a process: where it is, one run of a configuration, and what its report says.

Which configurations there are, and how good is good enough, is not decided here.
"""

from __future__ import annotations

import json
import subprocess
import sysconfig
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from benchmarks.report import percentile
from tests import programs

ROOT = Path(__file__).parents[2]
CONFIGURATIONS = Path(__file__).parent / "configurations"

PROGRAM = "ghz"


@dataclass(frozen=True)
class Configuration:
    """One of the JSON files, as ghz reads it, and the gate that lies beside it."""

    name: str
    settings: Mapping[str, Any]

    @classmethod
    def read(cls, name: str) -> Configuration:
        text = (CONFIGURATIONS / f"{name}.json").read_text(encoding="utf-8")
        return cls(name, json.loads(text))

    @property
    def path(self) -> Path:
        return CONFIGURATIONS / f"{self.name}.json"

    @property
    def service(self) -> str:
        """Whom it calls: "encoder", "indexer" or "query"."""
        return str(self.settings["call"]).split(".")[1]

    @property
    def bodies(self) -> Path:
        """The file of the messages that it sends, relative to the repository."""
        return ROOT / self.settings["binary-file"]


class GhzReport:
    """What one run gave, from ghz's own JSON."""

    def __init__(self, content: Mapping[str, Any]) -> None:
        self._details = content["details"] or []
        self.seconds: float = content["total"] / 1e9

    @cached_property
    def statuses(self) -> dict[str, int]:
        """Calls by the name of their gRPC status, as ghz spells it ("OK", "ResourceExhausted")."""
        counts: dict[str, int] = {}
        for detail in self._details:
            counts[detail["status"]] = counts.get(detail["status"], 0) + 1
        return counts

    @property
    def count(self) -> int:
        return len(self._details)

    @property
    def per_s(self) -> float:
        """Calls that went well, per second."""
        return self.statuses.get("OK", 0) / self.seconds

    def ms(self, share: float) -> float:
        """A percentile of the calls that went well; NaN where none did."""
        return percentile(self._latencies_ms, share)

    def error_share(self, tolerated: frozenset[str] = frozenset()) -> float:
        """Of all calls, those that ended otherwise than OK or tolerated; 1 where there are none."""
        if not self._details:
            return 1.0
        bad = sum(n for status, n in self.statuses.items() if status not in tolerated | {"OK"})
        return bad / self.count

    def ok_per_s_by_step(self, step_s: float) -> list[float]:
        """Calls that went well, per second, in each `step_s` of the run by when they ended."""
        ended_s = sorted(
            datetime.fromisoformat(_without_nanoseconds(detail["timestamp"])).timestamp()
            for detail in self._details
            if detail["status"] == "OK"
        )
        if not ended_s:
            return []
        counts = [0] * (int((ended_s[-1] - ended_s[0]) / step_s) + 1)
        for moment_s in ended_s:
            counts[int((moment_s - ended_s[0]) / step_s)] += 1
        return [count / step_s for count in counts]

    @cached_property
    def _latencies_ms(self) -> list[float]:
        return [d["latency"] / 1e6 for d in self._details if d["status"] == "OK"]


def run(
    configuration: Configuration,
    target: str,
    output: Path,
    *,
    by_proto: bool = False,
    html: bool = True,
    **changes: str | int,
) -> GhzReport:
    """Runs ghz once against HOST:PORT; its JSON and HTML go to `output`.json and .html.

    `changes` are ghz's options with underscores, such as duration="2s" or load_start=20. The HTML
    is left out where build/go/ghz-html is missing, or it is not wanted. Raises RuntimeError with
    what ghz said when it could not run.
    """
    program = programs.find(PROGRAM)
    if program is None:
        raise RuntimeError(programs.missing(PROGRAM))
    output.parent.mkdir(parents=True, exist_ok=True)
    path = output.with_suffix(".json")
    command = [program, "--config", str(configuration.path), "--format", "json"]
    command += ["--output", str(path)]
    for option, value in changes.items():
        command.append(f"--{option.replace('_', '-')}={value}")
    if target.startswith("dns:///"):
        command.append("--lb-strategy=round_robin")
    if by_proto:
        command += _proto_options(configuration.service)
    done = subprocess.run([*command, target], cwd=ROOT, capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"ghz: {(done.stderr or done.stdout).strip()}")
    if html:
        _render_html(path)
    return GhzReport(json.loads(path.read_text(encoding="utf-8")))


def _proto_options(service: str) -> list[str]:
    """The contract's file, in place of the server's reflection."""
    googleapis = sysconfig.get_path("purelib")
    return [
        f"--proto=glimpse/{service}/v1/{service}.proto",
        f"--import-paths={ROOT / 'protos'},{googleapis}",
    ]


def _render_html(report: Path) -> None:
    program = ROOT / "build" / "go" / "ghz-html"
    if not program.exists():
        return
    with report.open("rb") as content, report.with_suffix(".html").open("wb") as page:
        subprocess.run([program], stdin=content, stdout=page, check=True)


def _without_nanoseconds(moment: str) -> str:
    """Go writes nine digits of a second, or fewer; Python 3.10 reads three or six."""
    if moment.endswith("Z"):
        moment = moment[:-1] + "+00:00"
    seconds, dot, rest = moment.partition(".")
    if not dot:
        return moment
    zone_at = next(i for i, letter in enumerate(rest) if letter in "+-")
    return f"{seconds}.{rest[:zone_at][:6].ljust(6, '0')}{rest[zone_at:]}"
