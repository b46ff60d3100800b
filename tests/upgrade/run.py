"""One run: the kills, the steps of the operator, and the figures."""

from __future__ import annotations

import json
import random
import statistics
import subprocess
import sys
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from glimpse import Client, ImageFile
from glimpse.results import StoredImage
from tests.upgrade import world
from tests.upgrade.callers import Records, Searcher, Watcher, Writer
from tests.upgrade.history import History
from tests.upgrade.stack import ROOT, Stack

MAX_IN_FLIGHT = 2_048
_WARM_S = 3.0  # in which searches meet what nobody has used before
_QUIET_S = 10.0  # of searches before the first switch
_SWITCH_S = 2.0
_SLOWEST = 6  # searches of a switch that are printed
_COPYING = ("command", "indexer", "new-0", "new-1")


@dataclass
class Figures:
    """What is judged, and what else is worth knowing."""

    failed_searches: int = 0
    mixed_answers: int = 0
    wrong_rows: int = 0
    wrong_in_memory: int = 0  # of the store: right once it has loaded them anew
    p99_ratio: float = 0.0
    p99_ms: list[float] = field(default_factory=list)  # before, and during the switches
    copy_share: float = 0.0
    encoded_twice: int = 0
    searches: int = 0
    changes_s: list[float] = field(default_factory=list)  # how long each took: there, back, again
    kills: dict[str, int] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


class Command:
    """A command of the operator's, which is run until it succeeds, however often it is killed."""

    def __init__(self, stack: Stack, history: History) -> None:
        self._stack, self._history = stack, history
        self._process: subprocess.Popen[bytes] | None = None

    def run(self, *arguments: str, attempts: int = 200) -> None:
        where = ["--indexer", self._stack.indexer, "--query", self._stack.query]
        program = "import sys; from glimpse.cli.main import main; sys.exit(main())"
        command = [sys.executable, "-c", program, *arguments, *where]
        for _ in range(attempts):
            with (self._stack.folder / "command.txt").open("ab") as log:
                self._history.note(f"{arguments[0]} begins")
                self._process = subprocess.Popen(command, stdout=log, stderr=log, cwd=ROOT)
                code = self._process.wait()
                self._history.note(f"{arguments[0]} has ended with {code}")
                if code == 0:
                    return
        raise AssertionError(f"{arguments} did not succeed: see {self._stack.folder}/command.txt")

    def kill(self) -> bool:
        """Whether one was running."""
        process = self._process
        if process is None or process.poll() is not None:
            return False
        process.kill()
        return True


class Killer(threading.Thread):
    """Kills something now and then; a service is started again at once."""

    def __init__(
        self, stack: Stack, command: Command, seed: int, every_s: float, history: History
    ) -> None:
        super().__init__(name="killer", daemon=True)
        self.kills: Counter[str] = Counter()
        self._history = history
        self._stack, self._command, self._every_s = stack, command, every_s
        self._random = random.Random(seed)
        self._stopped = threading.Event()

    def stop(self) -> None:
        self._stopped.set()
        self.join()

    def run(self) -> None:
        while not self._stopped.wait(self._random.uniform(0.2, 2 * self._every_s)):
            victim = self._random.choice(["command", *self._stack.processes])
            if victim == "command":
                self.kills[victim] += self._command.kill()
                continue
            self._stack.processes[victim].kill()
            self._history.note(f"{victim} was killed")
            self._stack.processes[victim].start()
            self.kills[victim] += 1
            # One replica at a time, as a Deployment's pods are lost.
            self._stack.await_serving(victim)
            self._history.note(f"{victim} serves again")


class Upgrade:
    """Fills a collection, measures a copy at rest, then changes models to and fro under load."""

    def __init__(self, folder: Path, kind: str, count: int, seed: int, kill_every_s: float) -> None:
        self._stack = Stack(folder, kind)
        self._pictures = folder / "pictures"
        self._pictures.mkdir(exist_ok=True)
        self._count, self._seed, self._every_s = count, seed, kill_every_s
        self._history = History()
        self._command = Command(self._stack, self._history)
        self._figures = Figures()

    def run(self) -> Figures:
        self._stack.start()
        try:
            self._measure_copy()
            self._change_under_load()
        finally:
            self._stack.stop()
        return self._figures

    def _measure_copy(self) -> None:
        images = []
        for number in range(self._count):
            path = world.path_in(self._pictures, number, 0)
            path.write_bytes(world.content(number, 0))
            images.append(ImageFile(path=path, id=f"{number:06}"))
        upgrade = ["upgrade", world.COLLECTION, "--encoder", self._stack.new]
        with Client(self._stack.query, self._stack.indexer, timeout_s=60.0) as client:
            started_s = time.monotonic()
            for acknowledgement in client.index(world.COLLECTION, images):
                assert acknowledgement.error is None, acknowledgement
            indexing_s = time.monotonic() - started_s
            report = self._stack.folder / "report.json"
            self._command.run(*upgrade, "--check-only", "--report", str(report), attempts=1)
            client.drop_generation(world.COLLECTION, 1)
        first = json.loads(report.read_text())["passes"][0]
        assert first["carried"] == self._count, first
        self._figures.copy_share = indexing_s / first["seconds"]

    def _change_under_load(self) -> None:
        writer = Writer(self._stack.indexer, self._pictures, self._count, self._seed, self._history)
        searchers = [
            Searcher(self._stack.query, writer, self._seed + number, per_second=20)
            for number in range(2)
        ]
        killer = Killer(self._stack, self._command, self._seed, self._every_s, self._history)
        watcher = Watcher(self._stack.indexer, writer, self._history)
        for thread in (*searchers, writer, watcher):
            thread.start()
        time.sleep(_WARM_S)
        calm = time.monotonic(), time.monotonic() + _QUIET_S
        time.sleep(_QUIET_S)
        encoded = self._stack.encoded("new")
        killer.start()
        upgrade = ["upgrade", world.COLLECTION, "--encoder", self._stack.new]
        changes = []
        for generation, command in (
            (1, upgrade),
            (0, ["rollback", world.COLLECTION, "--to", "0"]),
            (1, upgrade),
        ):
            changes.append((generation, time.monotonic()))
            report = self._stack.folder / f"report-{len(changes)}.json"
            self._command.run(*command, "--report", str(report))
            took_s = round(time.monotonic() - changes[-1][1], 1)
            self._figures.changes_s.append(took_s)
            self._history.note(f"generation {generation} serves")
            time.sleep(_SWITCH_S + 6)  # until every replica has seen it
        for thread in (killer, writer, *searchers, watcher):
            thread.stop()
        self._look_at_rows(writer.truth)
        self._command.run("rollback", world.COLLECTION, "--to", "0")
        self._look_at_rows(writer.truth)
        self._judge([each.records for each in searchers], changes, calm)
        figures = self._figures
        figures.kills = dict(killer.kills)
        figures.problems += writer.problems[:20]
        needed = self._count + writer.written
        in_flight = MAX_IN_FLIGHT * sum(killer.kills[each] for each in _COPYING)
        again = self._stack.encoded("new") - encoded - needed - in_flight
        figures.encoded_twice = max(0, again)

    def _look_at_rows(self, truth: dict[int, set[int | None]]) -> None:
        """Counts rows of what serves that are missing, there although deleted, or of another
        version, and prints what happened to them. Those that are right once the store has loaded
        its collections anew were wrong in its memory alone."""
        wrong = self._wrong_rows(truth)
        if not wrong:
            return
        self._tell(wrong)
        self._stack.reload()
        still_wrong = self._wrong_rows(truth)
        print(f"After the store has loaded them anew, wrong: {sorted(still_wrong)}")
        self._figures.wrong_rows += len(still_wrong)
        self._figures.wrong_in_memory += len(wrong.keys() - still_wrong.keys())
        self._figures.problems += [f"{number} {why}" for number, why in still_wrong.items()]

    def _wrong_rows(self, truth: dict[int, set[int | None]]) -> dict[int, str]:
        """What is wrong with them."""
        there = self._rows(world.COLLECTION)
        may_be = {number: truth.get(number, {None}) for number in there.keys() | truth.keys()}
        return {
            number: f"is {'there' if number in there else 'missing'}; may be: {versions}"
            for number, versions in may_be.items()
            if not _is_one_of(there.get(number), number, versions)
        }

    def _tell(self, wrong: dict[int, str]) -> None:
        rows = [(each, self._rows(f"{world.COLLECTION}@{each}")) for each in (0, 1)]
        for number, why in wrong.items():
            print(f"{number} {why}")
            for generation, there in rows:
                print(f"  in generation {generation}: {there.get(number)}")
            print("\n".join(self._history.of(number)), flush=True)

    def _rows(self, address: str) -> dict[int, StoredImage]:
        fields = ["content_sha256", "indexed_at_ms"]
        with Client(self._stack.query, self._stack.indexer, timeout_s=60.0) as client:
            listed = client.list_images(address, output_fields=fields)
            return {int(image.id): image for image in listed}

    def _judge(
        self, records: list[Records], changes: list[tuple[int, float]], calm: tuple[float, float]
    ) -> None:
        figures = self._figures
        failed = [line for each in records for line in each.failed]
        mixed = [line for each in records for line in each.mixed]
        figures.failed_searches, figures.mixed_answers = len(failed), len(mixed)
        figures.problems += [*failed[:20], *mixed[:20]]
        answers = [answer for each in records for answer in each.answers]
        figures.searches = len(answers)
        before = [took for at, took, _, _ in answers if calm[0] <= at <= calm[1]]
        during: list[float] = []
        for generation, begun_s in changes:
            switched_s = min(each.first_of(generation, begun_s) for each in records)
            near = [each for each in answers if 0 <= each[0] - switched_s < _SWITCH_S]
            during += [took for _, took, _, _ in near]
            self._tell_slowest(switched_s, near)
        figures.p99_ms = [round(1000 * _p99(each), 1) for each in (before, during)]
        figures.p99_ratio = _p99(during) / _p99(before)

    def _tell_slowest(self, switched_s: float, near: list[tuple[float, float, int, str]]) -> None:
        print(f"{switched_s:.2f} s: a switch; its slowest searches, by when they had ended:")
        for at, took, generation, kind in sorted(near, key=lambda each: -each[1])[:_SLOWEST]:
            print(f"{at:.2f} s: {took:.3f} s for {kind} in generation {generation}")
        lines = self._history.processes(switched_s - _SWITCH_S, switched_s + _SWITCH_S)
        print("\n".join(lines), flush=True)


def _is_one_of(row: StoredImage | None, number: int, versions: set[int | None]) -> bool:
    if row is None:
        return None in versions
    return any(
        row.content_sha256 == world.sha256(number, version)
        for version in versions
        if version is not None
    )


def _p99(values: list[float]) -> float:
    return statistics.quantiles(values, n=100)[98]
