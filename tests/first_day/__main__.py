"""`make first-day`: what calls meet on their first day with glimpse; --only for a part of it.

Writes build/bench/first_day.json. Takes about a quarter of an hour, most of it stops under load.
"""

from __future__ import annotations

import argparse
import random
import shutil
from collections.abc import Iterator
from pathlib import Path

from benchmarks import machine, stacks
from benchmarks.report import Bar, Figure, Report
from benchmarks.weights import random_vit_b_32
from glimpse.cli.console import say
from glimpse.cli.local.stack import Stack
from tests.first_day import logs, loops, pages, stops, tls
from tests.load.bodies import COLLECTION
from tests.load.run import filled_stack

PARTS = ("stops", "loops", "overload", "pages", "tls", "logs")

_FOLDER = stacks.OUTPUT / "first-day"
_ON_A_STACK = {"loops", "pages"}
_NONE = Bar("at most", 0)


class FirstDay:
    """The measurements, each a method that adds its figures and what is behind them."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.figures: list[Figure] = []
        self.details: dict[str, object] = {}

    def run(self) -> Iterator[None]:
        """Measures all chosen parts; goes on after each of them."""
        parts: set[str] = set(self.options.only or PARTS)
        shutil.rmtree(_FOLDER, ignore_errors=True)
        _FOLDER.mkdir(parents=True)
        alone = {
            "tls": self._measure_tls,
            "logs": self._measure_logs,
            "stops": self._measure_stops,
            "overload": self._measure_overload,
        }
        for part, measure in alone.items():
            if part in parts:
                measure()
                yield
        if parts & _ON_A_STACK:
            with filled_stack(self.options.store, self.options.rows) as stack:
                yield from self._measure_on(stack, parts)

    def _measure_on(self, stack: Stack, parts: set[str]) -> Iterator[None]:
        if "loops" in parts:
            say("Searching in closed loops ...")
            with loops.generator(stack.addresses, COLLECTION) as generator:
                found = loops.measure(generator, self.options.seconds)
            self.details["closed_loops"] = found.record()
            meaning = "errors in closed loops of 50, 200 and 1,000 callers"
            self.figures.append(Figure("closed_loop_errors", meaning, found.errors, _NONE))
            yield
        if "pages" in parts:
            say("Paging while rows come and go ...")
            wrong = pages.measure(stack.addresses, stack.milvus_uri, self.options.walks)
            self.details["pages"] = {"wrong": wrong[:50], "walks": self.options.walks}
            meaning = "rows left out or repeated over pages while rows before them come and go"
            self.figures.append(Figure("paging_errors", meaning, len(wrong), _NONE))
            yield

    def _measure_overload(self) -> None:
        """With the model and the precision of `make bench-search`. With the bundled model twice the
        capacity is more calls than a process of Python takes in, on processors that it shares."""
        options, weights = self.options, random_vit_b_32(stacks.OUTPUT)
        with (
            filled_stack(options.store, options.rows, weights) as stack,
            loops.generator(stack.addresses, COLLECTION) as generator,
        ):
            say("Searching at twice the capacity ...")
            found = loops.measure_overload(generator, options.seconds)
        self.details["overload"] = found.answers.summary() | found.record()
        self.figures += [
            Figure(
                "refusal_p99_ms",
                "refusals' p99 at twice the capacity",
                found.refusal_p99_ms,
                Bar("at most", 50),
            ),
            Figure(
                "accepted_p99_ms",
                "accepted calls' p99 there, their deadline being 1 s",
                found.accepted_p99_ms,
                Bar("at most", 1_000),
            ),
            Figure(
                "overload_lost", "calls there with neither answer nor refusal", found.lost, _NONE
            ),
        ]

    def _measure_stops(self) -> None:
        found = stops.measure(_folder("stops"), self.options.stops)
        self.details["stops"] = found.record()
        meaning = (
            f"CANCELLED and other unretriable endings over {self.options.stops} stops of each "
            "service under load: raw stubs, ghz, both clients"
        )
        self.figures.append(Figure("unretriable", meaning, found.unretriable, _NONE))

    def _measure_tls(self) -> None:
        meaning = "TLS mistakes that are told apart, and their mirror images"
        apart, all_of_them = tls.measure()
        bar = Bar("at least", all_of_them)
        self.figures.append(Figure("tls_causes", meaning, apart, bar))

    def _measure_logs(self) -> None:
        say("Sending what is no call ...")
        raw = logs.measure(_folder("logs"), stops.SERVICES, self.options.seed)
        self.details["raw_lines"] = raw[:50]
        meaning = "lines in the services' logs that are no JSON object, whatever callers do"
        self.figures.append(Figure("raw_lines", meaning, len(raw), _NONE))


def main() -> int:
    """0 where every bar is met."""
    parser = argparse.ArgumentParser(prog="python -m tests.first_day", description=__doc__)
    parser.add_argument("--only", choices=PARTS, nargs="+", help="those parts")
    parser.add_argument("--store", choices=stacks.STORES, default="milvus", help="of searches")
    parser.add_argument("--rows", type=int, default=20_000, help="that are searched")
    parser.add_argument("--seconds", type=float, default=10.0, help="of each load")
    parser.add_argument("--stops", type=int, default=100, help="of each service")
    parser.add_argument("--walks", type=int, default=5, help="over the pages of each kind of query")
    parser.add_argument("--seed", type=int, default=random.randrange(2**32), help="of what is sent")
    options = parser.parse_args()
    stacks.end_on_sigterm()
    report = Report("first_day", "make first-day", machine.describe(), has_bars=not options.only)
    first_day = FirstDay(options)
    for _ in first_day.run():
        report.figures = first_day.figures
        report.details = first_day.details | {"options": dict(sorted(vars(options).items()))}
        report.write(stacks.OUTPUT / "first_day.json")  # what is known if the next part is stopped
    print(report.table())
    return 0 if all(figure.is_met is not False for figure in report.figures) else 1


def _folder(name: str) -> Path:
    folder = _FOLDER / name
    folder.mkdir()
    return folder


if __name__ == "__main__":
    raise SystemExit(main())
