"""Does to the running services what nobody sane does, and says whether they bore it.

    python -m tests.robustness.fuzz [--seconds 60] [--messages 100000] [--seed N]

A service has borne it if its process runs, its health is SERVING, every call was answered and none
that reached it with INTERNAL or UNKNOWN (gRPC itself says INTERNAL to bytes that are no message of
its protocol), nothing of what was opened is still held, and it holds about as much memory as after
the first round.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import shutil
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from glimpse.cli.local.stack import Stack, StackOptions
from glimpse.cli.ports import HOST, Ports
from glimpse.cli.probes import is_serving
from tests.robustness.attacks import ATTACKS, Attack, endless_stream
from tests.robustness.messages import METHODS, Method
from tests.waiting import wait_until

MAX_GROWTH_BYTES = 128 * 2**20
"""Beyond what a service holds after the first round: allocators keep some of what was freed."""

_LOGS = Path("build/fuzz")
"""Where the logs of runs stay in which something was wrong."""

_SERVICES = ("encoder", "indexer", "query")
_SETTLE_S = 20.0
_HELD = ("glimpse_rpc_in_flight", "glimpse_indexer_streams", "glimpse_indexer_held_bytes")
_BUGS = ("INTERNAL", "UNKNOWN", "DATA_LOSS")
_UNANSWERED = ("UNAVAILABLE", "DEADLINE_EXCEEDED")


class Victim:
    """One service of a stack that is attacked, and what can be seen of it from outside."""

    def __init__(self, stack: Stack, name: str) -> None:
        self.name = name
        self.address = stack.addresses[name]
        self.outcomes: Counter[str] = Counter()
        self.methods = [method for method in METHODS if method.service == name]
        self._process = stack.processes[name]
        port = getattr(stack.options.ports, f"{name}_metrics")
        self._metrics_url = f"http://{HOST}:{port}/metrics"
        self._descriptors = self._open_descriptors()
        self.first_bytes = 0

    @property
    def resident_bytes(self) -> int:
        """What the process holds in memory; 0 when it has ended."""
        if not self._process.is_running:
            return 0
        pages = Path(f"/proc/{self._process.pid}/statm").read_text().split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE")

    def attack(self, attack: Attack, rng: random.Random) -> list[str]:
        """Attacks it; returns what came of it where the attack could not be made to its end."""
        try:
            self.outcomes += attack(self.address, self.methods, rng)
        except Exception as error:
            return [f"{attack.__name__} on {self.name} met {error!r}: {self._state()}"]
        return []

    def _state(self) -> str:
        """Whether it died of something, or is there and did not answer."""
        if not self._process.is_running:
            return f"{self.name} {self._process.how_it_ended()}"
        health = "SERVING" if is_serving(self.address) else "not SERVING"
        return f"its process, {self._process.pid}, is the one that was attacked, and is {health}"

    def faults(self) -> list[str]:
        """What is wrong with it; nothing, it is hoped. Gives it time to let go of what it holds."""
        if not self._process.is_running:
            return [f"{self.name} {self._process.how_it_ended()}", *self._process.last_lines()]
        if not is_serving(self.address):
            return [f"{self.name} is not SERVING any more"]
        with contextlib.suppress(TimeoutError):
            wait_until(lambda: not self._held(), "what it held is still held", _SETTLE_S)
        return self._held() + self._bugs()

    def grown_bytes(self) -> int:
        """How much more memory it holds than after the first round."""
        return self.resident_bytes - self.first_bytes

    def _held(self) -> list[str]:
        held = [
            f"{self.name} still counts {value:g} in {series}"
            for series, _, value in self._samples()
            if series in _HELD and value
        ]
        descriptors = self._open_descriptors()
        if descriptors > self._descriptors + 8:  # some are opened at the first call of a kind
            held.append(f"{self.name} has {descriptors} descriptors, {self._descriptors} at first")
        return held

    def _bugs(self) -> list[str]:
        found = [
            f"{self.name} answered {labels['method']} {value:g} times with {labels['code']}"
            for series, labels, value in self._samples()
            if series == "glimpse_rpc_calls_total" and labels["code"] in _BUGS
        ]
        unanswered = {name: self.outcomes[name] for name in _UNANSWERED if self.outcomes[name]}
        if unanswered:
            found.append(f"{self.name} did not answer every call: {unanswered}")
        log = self._process.log_path.read_text(errors="replace")
        return found + ([f"{self._process.log_path} has a traceback"] if "Traceback" in log else [])

    def _samples(self) -> list[tuple[str, dict[str, str], float]]:
        with urllib.request.urlopen(self._metrics_url, timeout=20) as answer:
            text = answer.read().decode()
        families = text_string_to_metric_families(text)
        return [(s.name, s.labels, s.value) for family in families for s in family.samples]

    def _open_descriptors(self) -> int:
        return len(os.listdir(f"/proc/{self._process.pid}/fd"))


def fuzz(
    stack: Stack,
    seconds: float,
    stream_messages: int,
    seed: int,
    attacks: Sequence[Attack] = ATTACKS,
) -> list[str]:
    """Attacks every service in rounds, at least two; prints figures, returns what was wrong."""
    print(f"seed {seed}", flush=True)
    if absent := [name for name in _SERVICES if not is_serving(stack.addresses[name])]:
        return [f"{name} was not there yet" for name in absent]
    victims = [Victim(stack, name) for name in _SERVICES]
    rng = random.Random(seed)
    ends_s = time.monotonic() + seconds
    rounds, faults = 0, []
    while not faults and (rounds < 2 or time.monotonic() < ends_s):
        for victim in victims:
            for attack in attacks:
                faults += victim.attack(attack, rng)
            faults += victim.faults()
            victim.first_bytes = victim.first_bytes or victim.resident_bytes
        rounds += 1
    print(f"{rounds} rounds, seed {seed}")
    if not faults:
        faults += victims[1].attack(long_stream(stream_messages), rng) + victims[1].faults()
    for victim in victims:
        print(_summary(victim))
        if victim.grown_bytes() > MAX_GROWTH_BYTES:
            faults.append(f"{victim.name} has grown by {victim.grown_bytes() / 2**20:,.0f} MiB")
    return faults


def long_stream(count: int) -> Attack:
    """An attack by one stream of that many messages."""

    def one_long_stream(address: str, methods: list[Method], rng: random.Random) -> Counter[str]:
        rate = endless_stream(address, count)
        print(f"a stream of {count:,} messages: all acknowledged, {rate:,.0f}/s")
        return Counter(OK=1)

    return one_long_stream


def _summary(victim: Victim) -> str:
    tried = victim.outcomes.total()
    answers = ", ".join(f"{name} {count:,}" for name, count in victim.outcomes.most_common())
    return (
        f"{victim.name}: {tried:,} inputs ({answers}); resident {victim.first_bytes / 2**20:,.0f} "
        f"MiB after the first round, {victim.resident_bytes / 2**20:,.0f} MiB at the end"
    )


def keep_logs(stack: Stack, folder: Path) -> Path:
    """Copies what the services have logged; returns `folder`."""
    return shutil.copytree(stack.options.data / "logs", folder, dirs_exist_ok=True)


def main() -> int:
    """Fuzzes a stack of its own; 0 if it bore everything."""
    parser = argparse.ArgumentParser(prog="python -m tests.robustness.fuzz")
    parser.add_argument("--seconds", type=float, default=60, help="how long to go on")
    parser.add_argument("--messages", type=int, default=100_000, help="length of the long stream")
    parser.add_argument("--seed", type=int, default=time.time_ns() % 2**32, help="to repeat a run")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="glimpse-fuzz-") as folder:
        stack = Stack(StackOptions(Path(folder), ports=Ports.free()))
        faults = ["the run did not come to its end"]
        try:
            with stack:
                faults = fuzz(stack, options.seconds, options.messages, options.seed)
            faults += [
                f"{process.name} {process.how_it_ended()} at its stop"
                for process in stack.processes.values()
                if process.exit_code
            ]
        finally:
            for fault in faults:
                print(f"fault: {fault}", file=sys.stderr)
            print(f"crashes and other faults: {len(faults)}")
            if faults:
                kept = keep_logs(stack, _LOGS / f"seed-{options.seed}")
                print(f"the services' logs are in {kept}", file=sys.stderr)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
