"""A run: a stack with something in it, well-behaved callers, and attack after attack; what the
callers saw meanwhile, and what is left of the services afterwards. Which attacks is not its job.

One thread drives it, and one attacks; the neighbours are a process, and each service is one.
"""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from random import Random

from glimpse.cli.local.stack import Stack
from tests.hostile import known, ties
from tests.hostile.aftermath import SETTLE_LOOKS, settled_bytes, strange_lines
from tests.hostile.attacks import Assault, Attack, Calls, chosen
from tests.hostile.batches import batch_attacks
from tests.hostile.contracts import NEIGHBOURS, well_formed_messages
from tests.hostile.neighbours import PERIOD_S, Neighbours
from tests.hostile.results import NOTICED_MS, Outcome, Result
from tests.hostile.sizes import MAX_IMAGE_PIXELS
from tests.hostile.stage import fill
from tests.hostile.watch import CALM_TIMEOUT_S, Watch
from tests.robustness.fuzz import Victim
from tests.robustness.messages import METHODS

SERVICES = ("encoder", "indexer", "query")
ENVIRONMENT = {
    **{f"{name.upper()}_LOG_FORMAT": "json" for name in SERVICES},
    **{f"{name}_MAX_IMAGE_PIXELS": str(MAX_IMAGE_PIXELS) for name in ("ENCODER", "INDEXER")},
}
"""For the stack: logs as machines read them, so that what does not belong there can be told; and
pictures as large as those of tests.hostile.pictures."""

_WARM_UP_S, _SHORT_WARM_UP_S = 5.0, 2.0
_FULL_LOAD = (
    "encoder.EncodeTexts:256-short-texts",
    "encoder.EncodeTexts:256-long-texts",
    "indexer.BatchIndexImages:256-small-pictures",
    "indexer.IndexImages:2,000-small-pictures",
    "query.BatchSearch:256-sums-of-16-texts",
)
"""Large calls such as the well-behaved make as well. For each size of a batch that an encoder sees
for the first time in bf16, torch keeps some MB: 0.2 GB after some hundred sizes, and no more then.
What memory grows by under attacks is counted from there on."""

_FULL_LOAD_S = 10.0  # of each
_SELDOM_S, _SELDOM = 0.5, 10
"""Where no wait is measured: between two calls of a neighbour, and the attacks between two looks
at what the neighbours wait. Their calls would take the processors most of the time."""

_ATTACKER_NICE = 5
_SHORT_S = 0.02
_MAX_IDLE_S = 2.0
_BUGS = ("INTERNAL", "UNKNOWN", "DATA_LOSS")


class Run:
    """One run on a stack that has been started with ENVIRONMENT and is empty."""

    def __init__(self, stack: Stack, seed: int, seconds: float, repeats: int = 0) -> None:
        """`seconds` of each attack at least; 0: one call, and nothing is measured: no full load
        before the attacks, neighbours who call seldom, and memory as it is, not as it settles."""
        self._stack = stack
        self._seconds = seconds
        self._repeats = repeats
        self._outcome = Outcome(seed)
        self._addresses = {name: stack.addresses[name] for name in SERVICES}
        period_s = PERIOD_S if seconds else _SELDOM_S
        self._neighbours = Neighbours(self._addresses, NEIGHBOURS, period_s)
        self._watch = Watch(stack, self._neighbours)
        self._left = 0
        self._attacker = ThreadPoolExecutor(1, initializer=_step_back)

    def run(self, attacks: Sequence[Attack]) -> Outcome:
        """Fills the stack, attacks, and looks at the services before and afterwards."""
        outcome = self._outcome
        looks = SETTLE_LOOKS if self._seconds else 1
        fill(self._stack)
        outcome.ties = ties.measure(self._stack.query)
        outcome.listing_ms = known.listing_ms(self._stack.indexer)
        with self._neighbours, self._attacker:
            self._learn_usual()
            if self._seconds:
                self._work_as_usual()
            victims = [Victim(self._stack, name) for name in SERVICES]
            outcome.first_bytes = settled_bytes(victims, looks)
            self._attack_all(attacks)
        outcome.last_bytes = settled_bytes(victims, looks)
        for victim in victims:
            outcome.faults += victim.faults()
            outcome.faults += strange_lines(self._log(victim.name))
        return outcome

    def attack(self, attacks: Sequence[Attack]) -> list[Result]:
        """Attacks what is filled already, and looks at nothing else."""
        with self._neighbours, self._attacker:
            self._learn_usual()
            self._attack_all(attacks)
        return self._outcome.results

    def _learn_usual(self) -> None:
        """Each method is called once, so that what is made at the first call is there."""
        for method in METHODS:
            once = well_formed_messages(method)
            Calls(method, lambda _, once=once: once)(self._addresses[method.service], 0)
        self._outcome.usual_ms = self._watch.learn_usual_ms(
            _WARM_UP_S if self._seconds else _SHORT_WARM_UP_S
        )
        waits = ", ".join(f"{name} {ms:.0f} ms" for name, ms in self._outcome.usual_ms.items())
        print(f"the neighbours usually wait: {waits}", flush=True)

    def _work_as_usual(self) -> None:
        for attack in chosen(batch_attacks(), _FULL_LOAD):
            assault = attack.prepare(Random(self._outcome.seed))
            address = self._addresses[attack.service]
            self._attacker.submit(assault, address, _FULL_LOAD_S).result()
        self._watch.await_calm()

    def _attack_all(self, attacks: Sequence[Attack]) -> None:
        """One after the other; prints a line for each, with the minutes that the rest will take."""
        begin_s = time.monotonic()
        for number, attack in enumerate(attacks, 1):
            self._left = len(attacks) - number
            result = self._attack(attack)
            self._outcome.results.append(result)
            left_s = (time.monotonic() - begin_s) / number * self._left
            print(f"{number:5} of {len(attacks)}, {left_s / 60:4.1f} min  {result}", flush=True)

    def _attack(self, attack: Attack) -> Result:
        """The result; of an attack that is noticed, the median of some: what it causes comes back,
        and what something else on this machine has caused mostly does not."""
        tries = [self._attack_once(attack)]
        idle_ms = 0.0
        if tries[0].worst_ms > NOTICED_MS:
            for _ in range(self._repeats):
                if tries[-1].is_stuck:
                    break
                idle_ms = max(idle_ms, self._idle_ms(tries[-1].seconds))
                tries.append(self._attack_once(attack))
        in_order = sorted(tries, key=lambda each: each.worst_ms)
        counts = tries[-1] if tries[-1].is_stuck else in_order[len(tries) // 2]
        return replace(
            counts,
            bugs=sum(each.bugs for each in tries),
            tries_ms=[round(each.worst_ms) for each in tries],
            idle_ms=idle_ms,
        )

    def _idle_ms(self, seconds: float) -> float:
        """The neighbours' longest wait while nobody attacks for about as long."""
        begin_s = time.monotonic()
        time.sleep(min(seconds, _MAX_IDLE_S))  # time itself is what is waited for
        return max(self._neighbours.worst_ms(begin_s).values())

    def _attack_once(self, attack: Attack) -> Result:
        assault = self._prepared(attack)
        log = self._log(attack.service)
        log_bytes = log.stat().st_size
        before, begin_s = self._watch.usage(), time.monotonic()
        try:
            address = self._addresses[attack.service]
            outcomes = self._attacker.submit(assault, address, self._seconds).result()
        except OSError as error:  # of a connection; whether the service lives is seen below
            outcomes = Counter({f"attacker: {error!r}": 1})
        except Exception as error:  # the others are made nevertheless
            outcomes = Counter({f"attacker: {error!r}": 1})
            self._outcome.faults.append(f"{attack.name}: its attacker met {error!r}")
        end_s = time.monotonic()
        is_calm = self._await_calm()
        ended = [f"{attack.name}: {each}" for each in self._ended()]
        self._outcome.faults += ended
        result = Result(
            name=attack.name,
            seconds=end_s - begin_s,
            waits_ms=self._neighbours.worst_ms(begin_s),
            outcomes=outcomes,
            troubles=self._neighbours.troubles(begin_s),
            busy_s={} if ended else self._watch.spent_s(before),
            log_bytes=log.stat().st_size - log_bytes,
            is_stuck=not is_calm,
            bugs=_bugs(outcomes) if attack.is_of_calls else 0,
        )
        if not is_calm:
            self._restart(attack.service)
        return result

    def _await_calm(self) -> bool:
        """Waits until all is as usual; where no wait is measured, until nobody works any more, and
        now and then, and in the end, until the neighbours are answered as usual."""
        if self._seconds or self._left % _SELDOM == 0:
            return self._watch.await_calm()
        return self._watch.await_rest()

    def _prepared(self, attack: Attack) -> Assault:
        """Ready to go, and nobody is still held up by what that took."""
        begin_s = time.monotonic()
        rng = Random(f"{self._outcome.seed} {attack.name}")
        assault = self._attacker.submit(attack.prepare, rng).result()
        if self._seconds and time.monotonic() - begin_s > _SHORT_S:
            self._watch.await_calm()
        return assault

    def _ended(self) -> list[str]:
        return [
            f"{name} {process.how_it_ended()}"
            for name, process in self._stack.processes.items()
            if not process.is_running
        ]

    def _restart(self, name: str) -> None:
        """Begins anew with a service that does not come to its senses, or with all of them."""
        for names in ((name,), tuple(self._stack.processes)):
            for each in names:
                self._keep_log(each)
                self._stack.processes[each].kill()
            self._stack.restart(*names)
            if self._watch.await_calm(3 * CALM_TIMEOUT_S):
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


def _step_back() -> None:
    """Lets services and neighbours go first: an attacker works on a machine of his own."""
    os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _ATTACKER_NICE)


def _bugs(outcomes: Counter[str]) -> int:
    return sum(count for status, count in outcomes.items() if status.split()[-1] in _BUGS)
