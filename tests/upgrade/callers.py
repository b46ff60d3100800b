"""Who calls while a model is changed: searchers, who check each answer, and a writer, who knows
what has to be there."""

from __future__ import annotations

import contextlib
import random
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

from glimpse import Client, GlimpseError, ImageFile, Outcome, SearchResult, Unavailable
from tests.upgrade import world
from tests.upgrade.history import History

_SEARCH_TIMEOUT_S = 20.0
_PATIENCE_S = 300.0
_LOOK_S = 1.0
_WATCHED = 500  # pictures that were deleted
_NAMES = {fingerprint: name for name, fingerprint in world.MODELS.items()}


@dataclass
class Records:
    """What searchers saw: when each answer came, after how long, of which generation, to what."""

    answers: list[tuple[float, float, int, str]] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    mixed: list[str] = field(default_factory=list)

    def first_of(self, generation: int, after_s: float) -> float:
        """When it was first seen to serve."""
        return min(at for at, _, of, _ in self.answers if of == generation and at >= after_s)


class Searcher(threading.Thread):
    """Asks by text, picture and id, `per_second` times, until it is stopped."""

    def __init__(self, query: str, writer: Writer, seed: int, per_second: float) -> None:
        super().__init__(name="searcher", daemon=True)
        self.records = Records()
        self._query, self._writer, self._random = query, writer, random.Random(seed)
        self._pause_s = 1 / per_second
        self._stopped = threading.Event()

    def stop(self) -> None:
        self._stopped.set()
        self.join()

    def run(self) -> None:
        with Client(self._query, "127.0.0.1:1", timeout_s=_SEARCH_TIMEOUT_S) as client:
            while not self._stopped.wait(self._pause_s):
                self._search(client)

    def _search(self, client: Client) -> None:
        started_s = time.monotonic()
        kind, number = self._random.choice(["text", "image", "id"]), self._random.randrange(100)
        text = self._random.choice(world.TEXTS)
        try:
            if kind == "text":
                found = client.search(world.COLLECTION, text)
            elif kind == "image":
                found = client.search(world.COLLECTION, image=world.content(number, 0))
            else:
                found = client.search(world.COLLECTION, image_id=f"{number:06}")
        except GlimpseError as error:
            self.records.failed.append(f"{kind}: {error.reason}: {error}")
            return
        ended_s = time.monotonic()
        self.records.answers.append((ended_s, ended_s - started_s, found.generation, kind))
        self._check(kind, text, number, found)

    def _check(self, kind: str, text: str, number: int, found: SearchResult) -> None:
        model = _NAMES[found.model.fingerprint]
        query = (
            world.text_vector(model, text)
            if kind == "text"
            else world.picture_vector(model, number, 0)
        )
        for hit in found.hits:
            versions = self._writer.versions(int(hit.id))
            if not world.is_possible(model, query, hit.id, hit.score, versions):
                of = f"generation {found.generation} of {model}"
                self.records.mixed.append(f"{kind} {text} {number}: {hit.id} {hit.score} in {of}")


class Watcher(threading.Thread):
    """Looks again and again for pictures that were deleted, in every generation: which has one
    first, and whether that one served, tells a copy from a store that loses a deletion."""

    def __init__(self, indexer: str, writer: Writer, history: History) -> None:
        super().__init__(name="watcher", daemon=True)
        self._indexer, self._writer, self._history = indexer, writer, history
        self._there: set[tuple[str, int]] = set()
        self._stopped = threading.Event()

    def stop(self) -> None:
        self._stopped.set()
        self.join()

    def run(self) -> None:
        with Client("127.0.0.1:1", self._indexer, timeout_s=60.0) as client:
            while not self._stopped.wait(_LOOK_S):
                with contextlib.suppress(GlimpseError):  # an indexer that was killed, say
                    self._look(client)

    def _look(self, client: Client) -> None:
        ids = [f"{number:06}" for number in self._writer.deleted()]
        for each in client.list_generations(world.COLLECTION, exact=False) if ids else ():
            address, role = each.collection.name, "serves" if each.serving else "does not serve"
            listed = client.list_images(address, ids=ids)
            there = {(address, int(image.id)) for image in listed}
            for _, number in there - self._there:
                self._history.note(f"is in {address}, which {role}", number)
            for _, number in {one for one in self._there - there if one[0] == address}:
                self._history.note(f"is not in {address} any more", number)
            self._there = {one for one in self._there if one[0] != address} | there


class Writer(threading.Thread):
    """Adds, replaces and deletes. `truth` has what may be there of each picture: one version, or
    None once it was deleted; more than one of these where what was asked for was not acknowledged.
    """

    def __init__(self, indexer: str, folder: Path, count: int, seed: int, history: History) -> None:
        super().__init__(name="writer", daemon=True)
        self.truth: dict[int, set[int | None]] = {number: {0} for number in range(count)}
        self.written = 0
        self.problems: list[str] = []
        self._history = history
        self._deleted: list[int] = []
        self._versions: dict[int, int] = {}  # the latest one that may be anywhere
        self._indexer, self._folder = indexer, folder
        self._random = random.Random(seed)
        self._next = count
        self._stopped = threading.Event()

    def versions(self, number: int) -> int:
        return self._versions.get(number, 0) + 1

    def deleted(self) -> list[int]:
        """The latest of those that must not be there."""
        return self._deleted[-_WATCHED:]

    def stop(self) -> None:
        self._stopped.set()
        self.join()

    def run(self) -> None:
        with Client("127.0.0.1:1", self._indexer, timeout_s=60.0) as client:
            while not self._stopped.wait(0.05):
                try:
                    self._random.choice([self._add, self._replace, self._remove])(client)
                except GlimpseError as error:
                    self.problems.append(f"a write failed: {error.reason}: {error}")

    def _add(self, client: Client) -> None:
        numbers = range(self._next, self._next + self._random.randint(1, 5))
        self._next = numbers.stop
        self._index(client, dict.fromkeys(numbers, 0))

    def _replace(self, client: Client) -> None:
        chosen = self._some()
        for number in chosen:
            self._versions[number] = self._versions.get(number, 0) + 1
        self._index(client, {number: self._versions[number] for number in chosen})

    def _remove(self, client: Client) -> None:
        chosen = self._some()
        ids = [f"{number:06}" for number in chosen]
        while True:
            self._history.note("deletion sent", *chosen)
            try:
                deleted = client.delete(world.COLLECTION, ids=ids)
                break
            except GlimpseError as error:  # again until acknowledged: what happened is not known
                self._history.note(f"deletion failed: {error.reason}", *chosen)
                time.sleep(0.2)
        self._history.note(f"deletion acknowledged: {deleted} of {len(ids)} were there", *chosen)
        for number in chosen:
            self.truth[number] = {None}
        self._deleted += chosen

    def _some(self) -> list[int]:
        free = [
            number
            for number, versions in self.truth.items()
            if number >= world.STABLE and len(versions) == 1 and None not in versions
        ]
        return self._random.sample(free, min(len(free), self._random.randint(1, 5)))

    def _index(self, client: Client, versions: dict[int, int]) -> None:
        self.written += len(versions)
        images = []
        for number, version in versions.items():
            self.truth.setdefault(number, {None}).add(version)
            path = world.path_in(self._folder, number, version)
            path.write_bytes(world.content(number, version))
            images.append(ImageFile(path=path, id=f"{number:06}"))
        while True:
            for number, version in versions.items():
                self._history.note(f"version {version} sent", number)
            try:
                for acknowledgement in client.index(
                    world.COLLECTION, images, create_collection=False, patience_s=_PATIENCE_S
                ):
                    number = int(acknowledgement.id)
                    outcome = acknowledgement.outcome
                    self._history.note(f"{outcome.name.lower()}: {versions[number]}", number)
                    if outcome is Outcome.FAILED:
                        self.problems.append(f"{acknowledgement.id}: {acknowledgement.error}")
                    else:
                        self.truth[number] = {versions[number]}
                return
            except Unavailable as error:
                # Nobody answers at the start, where an ingest gives up at once.
                self._history.note(f"not sent: {error.reason}", *versions)
                time.sleep(0.2)
