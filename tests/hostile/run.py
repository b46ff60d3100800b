"""A run: a stack with something in it, well-behaved callers, and attack after attack; what the
callers saw meanwhile, and what is left of the services afterwards. Which attacks is not its job.

One thread drives it and attacks; the neighbours are a process, and each service is one.
"""

from __future__ import annotations

import json
import shutil
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random

from benchmarks.cpu_time import Usage
from glimpse.cli.stack import Stack
from glimpse.client import Client
from glimpse.results import ImageFile
from tests.hostile import ties
from tests.hostile.attacks import Attack, Calls
from tests.hostile.contracts import ATTACKED, NEIGHBOURS, well_formed_messages
from tests.hostile.neighbours import Neighbours
from tests.robustness.fuzz import Victim
from tests.robustness.messages import METHODS, picture

SERVICES = ("encoder", "indexer", "query")
ENVIRONMENT = {f"{name.upper()}_LOG_FORMAT": "json" for name in SERVICES}
"""For the stack: logs as machines read them, so that what does not belong there can be told."""

NOTICED_MS = 100.0
"""A wait that people notice, and that no attack should cause."""

_CALM_TIMEOUT_S = 10.0
_CALM_LOOK_S = 0.1
_CALM_CORES = 0.3  # more than usual, and a service still works on what it was attacked with
_RESTART_TIMEOUT_S = 30.0
_PICTURES = 100
_COLLECTIONS = 50  # with the four that are used
_WARM_UP_S = 5.0
_SETTLE_LOOKS, _SETTLE_LOOK_S = 20, 0.25
_BUGS = ("INTERNAL", "UNKNOWN", "DATA_LOSS")


@dataclass(frozen=True)
class Result:
    """What an attack did. waits_ms: of each well-behaved caller, the longest."""

    name: str
    seconds: float
    waits_ms: dict[str, float]
    outcomes: Counter[str]
    troubles: Counter[str]
    busy_s: dict[str, float]
    log_bytes: int
    is_stuck: bool
    bugs: int

    @property
    def worst_ms(self) -> float:
        return max(self.waits_ms.values())

    @property
    def worst_caller(self) -> str:
        return max(self.waits_ms, key=self.waits_ms.__getitem__)

    def record(self) -> dict[str, object]:
        """For a report."""
        return {
            **vars(self),
            "waits_ms": {name: round(wait) for name, wait in self.waits_ms.items()},
            "outcomes": dict(self.outcomes),
            "troubles": dict(self.troubles),
            "worst_ms": round(self.worst_ms),
            "worst_caller": self.worst_caller,
        }

    def __str__(self) -> str:
        answers = ", ".join(f"{name} {n}" for name, n in self.outcomes.most_common(3))
        busiest = max(self.busy_s.keys() - {"others"}, key=self.busy_s.__getitem__)
        stuck = " STUCK" if self.is_stuck else ""
        return (
            f"{self.worst_ms:7,.0f} ms{stuck}  {self.worst_caller:24}  {self.name}  ({answers}; "
            f"{busiest} {self.busy_s[busiest]:.1f} s busy)"
        )


@dataclass
class Outcome:
    """A whole run. Memory in bytes, by service; faults are what is wrong with the services."""

    seed: int
    results: list[Result] = field(default_factory=list)
    usual_ms: dict[str, float] = field(default_factory=dict)
    ties: ties.Measured | None = None
    first_bytes: dict[str, int] = field(default_factory=dict)
    last_bytes: dict[str, int] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)
    restarts: Counter[str] = field(default_factory=Counter)

    @property
    def memory_ratios(self) -> dict[str, float]:
        return {name: self.last_bytes[name] / self.first_bytes[name] for name in self.last_bytes}

    @property
    def bugs(self) -> int:
        """INTERNAL, UNKNOWN and DATA_LOSS that attackers were answered."""
        return sum(result.bugs for result in self.results)


class Run:
    """One run on a stack that has been started with ENVIRONMENT."""

    def __init__(self, stack: Stack, seed: int, seconds: float, repeats: int = 0) -> None:
        self._stack = stack
        self._seconds = seconds
        self._repeats = repeats
        self._usual_cores: dict[str, float] = {}
        self._outcome = Outcome(seed)
        self._addresses = {name: stack.addresses[name] for name in SERVICES}

    def run(self, attacks: Sequence[Attack]) -> Outcome:
        """Attacks one after the other; prints a line for each."""
        outcome = self._outcome
        fill(self._stack)
        outcome.ties = ties.measure(self._stack.query)
        with Neighbours(self._addresses, NEIGHBOURS) as neighbours:
            self._warm_up()
            self._learn_usual(neighbours)
            victims = [Victim(self._stack, name) for name in SERVICES]
            outcome.first_bytes = settled_bytes(victims)
            for number, attack in enumerate(attacks, 1):
                result = self._attack(attack, neighbours)
                outcome.results.append(result)
                print(f"{number:5} of {len(attacks)}  {result}", flush=True)
        outcome.last_bytes = settled_bytes(victims)
        for victim in victims:
            outcome.faults += victim.faults()
            outcome.faults += strange_lines(self._log(victim.name))
        return outcome

    def _warm_up(self) -> None:
        """Each method once, so that what is made at the first call is there."""
        for method in METHODS:
            once = well_formed_messages(method)
            Calls(method, lambda _, once=once: once)(self._addresses[method.service], 0)

    def _attack(self, attack: Attack, neighbours: Neighbours) -> Result:
        """The result; of an attack that is noticed, the best of some: what it causes comes back,
        and what something else on this machine has caused does not."""
        result = self._attack_once(attack, neighbours)
        for _ in range(self._repeats):
            if result.worst_ms <= NOTICED_MS or result.is_stuck:
                break
            again = self._attack_once(attack, neighbours)
            bugs = result.bugs + again.bugs
            result = replace(min(result, again, key=lambda each: each.worst_ms), bugs=bugs)
        return result

    def _attack_once(self, attack: Attack, neighbours: Neighbours) -> Result:
        rng = Random(f"{self._outcome.seed} {attack.name}")
        assault = attack.prepare(rng)
        log = self._log(attack.service)
        log_bytes = log.stat().st_size
        self._await_calm(neighbours)
        before, begin_s = self._usage(), time.monotonic()
        try:
            outcomes = assault(self._addresses[attack.service], self._seconds)
        except OSError as error:  # of a connection; whether the service lives is looked at below
            outcomes = Counter({f"attacker: {error!r}": 1})
        end_s = time.monotonic()
        is_calm = self._await_calm(neighbours)
        result = Result(
            name=attack.name,
            seconds=end_s - begin_s,
            waits_ms=neighbours.worst_ms(begin_s),
            outcomes=outcomes,
            troubles=neighbours.troubles(begin_s),
            busy_s=_difference(self._usage(), before),
            log_bytes=log.stat().st_size - log_bytes,
            is_stuck=not is_calm,
            bugs=_bugs(outcomes) if attack.is_of_calls else 0,
        )
        for name, process in self._stack.processes.items():
            if not process.is_running:
                self._outcome.faults.append(f"{attack.name}: {name} {process.how_it_ended()}")
        if not is_calm:
            self._restart(attack.service, neighbours)
        return result

    def _await_calm(self, neighbours: Neighbours) -> bool:
        """Waits until the neighbours are answered as usual, and the services have no other work."""
        ends_s = time.monotonic() + _CALM_TIMEOUT_S
        while (now_s := time.monotonic()) < ends_s:
            before = self._usage()
            time.sleep(_CALM_LOOK_S)  # their work is seen in what they have used of a processor
            if not neighbours.await_calm(now_s, ends_s - now_s):
                return False
            spent_s, passed_s = _difference(self._usage(), before), time.monotonic() - now_s
            if all(
                spent_s[name] / passed_s <= self._usual_cores.get(name, 2.0) + _CALM_CORES
                for name in self._stack.processes
            ):
                return True
        return False

    def _learn_usual(self, neighbours: Neighbours) -> None:
        neighbours.await_calm(time.monotonic(), 60)
        before, begin_s = self._usage(), time.monotonic()
        self._outcome.usual_ms = neighbours.learn_usual(_WARM_UP_S)
        passed_s = time.monotonic() - begin_s
        for name, spent_s in _difference(self._usage(), before).items():
            self._usual_cores[name] = spent_s / passed_s
        waits = ", ".join(f"{name} {ms:.0f} ms" for name, ms in self._outcome.usual_ms.items())
        cores = ", ".join(f"{name} {cores:.2f}" for name, cores in self._usual_cores.items())
        print(f"usually: {waits}; cores in use: {cores}", flush=True)

    def _restart(self, name: str, neighbours: Neighbours) -> None:
        """Begins anew with a service that does not come to its senses, or with all of them."""
        for names in ((name,), tuple(self._stack.processes)):
            for each in names:
                self._keep_log(each)
                self._stack.processes[each].kill()
            self._stack.restart(*names)
            if neighbours.await_calm(time.monotonic(), _RESTART_TIMEOUT_S):
                return
        raise RuntimeError("the neighbours do not get calm any more, even after a restart of all")

    def _keep_log(self, name: str) -> None:
        """A start begins the log anew."""
        self._outcome.restarts[name] += 1
        log = self._log(name)
        shutil.copy(log, log.with_suffix(f".{self._outcome.restarts[name]}.log"))
        if name in SERVICES:
            self._outcome.faults += strange_lines(log)

    def _log(self, name: str) -> Path:
        return self._stack.processes[name].log_path

    def _usage(self) -> Usage:
        pids = {name: process.pid for name, process in self._stack.processes.items()}
        return Usage.now({name: pid for name, pid in pids.items() if pid})


def fill(stack: Stack) -> None:
    """Pictures for the neighbours and for the attackers, ties, and collections beside them."""
    others = [f"other{number}" for number in range(_COLLECTIONS - 4)]
    with Client(stack.query, stack.indexer, timeout_s=60) as client:
        for name in (NEIGHBOURS, ATTACKED, ties.TIES, ties.DIFFERENT, *others):
            client.create_collection(name)
        for name in (NEIGHBOURS, ATTACKED):
            images = (
                ImageFile(id=f"{n}", content=picture(8 + n % 50, 8 + n // 50))
                for n in range(_PICTURES)
            )
            with client.index(name, images) as ingest:
                for acknowledgement in ingest:
                    if acknowledgement.error is not None:
                        raise RuntimeError(f"a picture was not indexed: {acknowledgement}")
    ties.fill(stack.milvus_uri, stack.addresses["encoder"])


def settled_bytes(victims: Sequence[Victim]) -> dict[str, int]:
    """What each holds once it has let go of what it will: the least of some looks."""
    looks: dict[str, list[int]] = {victim.name: [] for victim in victims}
    for _ in range(_SETTLE_LOOKS):
        for victim in victims:
            looks[victim.name].append(victim.resident_bytes)
        time.sleep(_SETTLE_LOOK_S)  # there is nothing to wait on: it is seen from outside
    return {name: min(values) for name, values in looks.items()}


def strange_lines(log: Path) -> list[str]:
    """Errors in a log, tracebacks, and lines that are no JSON: not the service has written them."""
    strange: Counter[str] = Counter()
    with log.open(errors="replace") as lines:
        for line in lines:
            try:
                record = json.loads(line)
            except json.JSONDecodeError:
                strange[f"a line that is no JSON, such as {line[:200]!r}"] += 1
                continue
            if record.get("exc_info") or record.get("level") in ("ERROR", "CRITICAL"):
                said = f"{record.get('logger')}: {record.get('message', '')[:200]}"
                strange[f"{record.get('level')} {said}"] += 1
    return [f"{log}: {count} times {what}" for what, count in strange.items()]


def _difference(after: Usage, before: Usage) -> dict[str, float]:
    spent_s = {
        name: round(after.by_process_s[name] - s, 2) for name, s in before.by_process_s.items()
    }
    spent_s["others"] = round(after.machine_s - before.machine_s - sum(spent_s.values()), 2)
    return spent_s


def _bugs(outcomes: Counter[str]) -> int:
    return sum(count for status, count in outcomes.items() if status.split()[-1] in _BUGS)
