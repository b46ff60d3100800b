"""`make hostile`: one caller attacks every field of every method, the others must not notice.

Of the fields of one name and type in a service, which the same code reads, the first one met gets
all that may hurt there; the others get a few: of each level ("max", "past", "message") one, and
the worst that is known for fields of that name. Pictures go into one field of each service. The
largest calls, methods as a whole, and connections are attacked with all there is. `--full` leaves
nothing out: a third more.

Writes build/bench/hostile.json. `--list` names the attacks, `--only PATTERN` chooses some of all.
"""

from __future__ import annotations

import argparse
import contextlib
import random
import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict

from benchmarks import machine, stacks
from benchmarks.report import Bar, Figure, Report, percentile
from glimpse.cli.local.stack import Stack, StackOptions
from glimpse.cli.ports import Ports
from tests.hostile.attacks import Attack, chosen, field_attacks, method_attacks
from tests.hostile.batches import batch_attacks
from tests.hostile.connections import connection_attacks
from tests.hostile.known import KNOWN, Known
from tests.hostile.results import NOTICED_MS, Outcome, Result
from tests.hostile.run import ENVIRONMENT, Run

_FOLDER = stacks.OUTPUT / "hostile"
_MAX_WAIT_MS = 250
_WORST = 30


def all_attacks(*, full: bool = True) -> Sequence[Attack]:
    """In the order in which they are made."""
    fields = field_attacks(full=full)
    return [*batch_attacks(), *fields, *method_attacks(), *connection_attacks()]


def hostile(options: argparse.Namespace) -> Outcome:
    """A stack of its own, and all that was chosen against it."""
    attacks = _chosen(options)
    shutil.rmtree(_FOLDER, ignore_errors=True)
    with contextlib.ExitStack() as exits:
        uri = None
        if options.store == "milvus":
            uri = exits.enter_context(stacks.running_store("milvus"))
        stack = Stack(
            StackOptions(
                _FOLDER, milvus_uri=uri, ports=Ports.free(), environment=ENVIRONMENT, grace_s=10
            )
        )
        with stack:
            outcome = Run(stack, options.seed, options.seconds, options.repeats).run(attacks)
        outcome.faults += [
            f"{process.name} {process.how_it_ended()} at its stop"
            for process in stack.processes.values()
            if process.exit_code
        ]
    return outcome


def _chosen(options: argparse.Namespace) -> list[Attack]:
    is_full = bool(options.full or options.only or options.known)
    attacks = chosen(all_attacks(full=is_full), options.only)
    if options.known:
        known = {name for each in KNOWN for name in each.attacks}
        attacks = [attack for attack in attacks if attack.name in known]
    skipped = chosen(attacks, options.skip) if options.skip else []
    return [attack for attack in attacks if attack not in skipped]


def figures(outcome: Outcome) -> list[Figure]:
    """Against their bars."""
    results = outcome.results
    worst = max(results, key=lambda result: result.worst_ms)
    unnoticed = sum(result.worst_ms <= NOTICED_MS for result in results)
    grown = max(outcome.memory_ratios, key=outcome.memory_ratios.__getitem__)
    assert outcome.ties is not None
    return [
        Figure(
            "worst_neighbour_ms",
            f"a neighbour's longest wait during an attack: {worst.worst_caller} at {worst.name}",
            worst.worst_ms,
            Bar("at most", _MAX_WAIT_MS),
        ),
        Figure(
            "share_within_100_ms",
            "share of the attacks during which no neighbour waits longer than that",
            unnoticed / len(results),
            Bar("at least", 0.95),
        ),
        Figure("attacks", "on all fields of all methods", len(results), Bar("at least", 200)),
        Figure(
            "memory_ratio",
            f"memory after all attacks ÷ before, of the service that grew most: {grown}",
            outcome.memory_ratios[grown],
            Bar("at most", 1.1),
        ),
        Figure(
            "internal_errors",
            "INTERNAL, UNKNOWN, and what is wrong with the services afterwards: errors in a log, "
            "calls that are still counted, health",
            outcome.bugs + len(outcome.faults),
            Bar("at most", 0),
        ),
        Figure(
            "ties_ratio",
            "p50 of a search that meets 5,000 equal scores ÷ of one that meets none",
            outcome.ties.ratio,
            Bar("at most", 3),
        ),
        Figure(
            "search_of_ties_ms",
            "p50 of a search that meets 5,000 equal scores (once 1,200 ms)",
            percentile(outcome.ties.ties_ms, 0.5),
        ),
        Figure(
            "list_collections_ms",
            "p50 of ListCollections, of 50 of them (once some 10,000 ms on a server)",
            percentile(outcome.listing_ms, 0.5),
        ),
        *(_known_figure(known, results) for known in KNOWN),
    ]


def _known_figure(known: Known, results: Sequence[Result]) -> Figure:
    worst_ms, bar = known.worst_ms(results), Bar("at most", _MAX_WAIT_MS)
    reason = "not among the attacks that were chosen" if worst_ms is None else ""
    return Figure(known.key, known.meaning, worst_ms, bar, reason=reason)


def details(outcome: Outcome) -> dict[str, object]:
    """What is behind the figures; every attack, the worst first."""
    return {
        "seed": outcome.seed,
        "usual_ms": outcome.usual_ms,
        "ties": asdict(outcome.ties) if outcome.ties else None,
        "first_bytes": outcome.first_bytes,
        "last_bytes": outcome.last_bytes,
        "memory_ratios": outcome.memory_ratios,
        "restarts": dict(outcome.restarts),
        "faults": outcome.faults,
        "attacks": [result.record() for result in worst_first(outcome.results)],
    }


def worst_first(results: Sequence[Result]) -> list[Result]:
    return sorted(results, key=lambda result: -result.worst_ms)


def main() -> int:
    """0 where every bar is met."""
    parser = argparse.ArgumentParser(prog="python -m tests.hostile", description=__doc__)
    parser.add_argument("--only", nargs="*", default=[], metavar="PATTERN", help="some attacks")
    parser.add_argument("--skip", nargs="*", default=[], metavar="PATTERN", help="not these")
    parser.add_argument("--known", action="store_true", help="those that known.py names")
    parser.add_argument("--full", action="store_true", help="every content in every field")
    parser.add_argument("--list", action="store_true", help="names them, and attacks nobody")
    parser.add_argument("--store", choices=stacks.STORES, default="lite")
    parser.add_argument("--seconds", type=float, default=0.2, help="of an attack, at least")
    parser.add_argument(
        "--repeats", type=int, default=2, help="of an attack that is noticed; the median counts"
    )
    parser.add_argument("--seed", type=int, default=random.randrange(2**32), help="of a run")
    options = parser.parse_args()
    if options.list:
        print(*(attack.name for attack in _chosen(options)), sep="\n")
        return 0
    stacks.end_on_sigterm()
    print(f"seed {options.seed}", flush=True)
    started_s = time.monotonic()
    outcome = hostile(options)
    print(f"\n{len(outcome.results)} attacks in {time.monotonic() - started_s:.0f} s; the worst:")
    print(*worst_first(outcome.results)[:_WORST], sep="\n")
    for fault in outcome.faults:
        print(f"fault: {fault}", file=sys.stderr)
    report = Report(
        "hostile",
        "make hostile",
        machine.describe(),
        has_bars=not (options.only or options.skip or options.known),
    )
    report.figures = figures(outcome)
    report.details = details(outcome)
    report.write(stacks.OUTPUT / "hostile.json")
    print(report.table())
    print(f"the services' logs are in {_FOLDER / 'logs'}")
    return 0 if all(figure.is_met is not False for figure in report.figures) else 1


if __name__ == "__main__":
    raise SystemExit(main())
