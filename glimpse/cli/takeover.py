"""One generation of a collection takes over from the one that serves; decision 0049 says why no
write is lost by it."""

from __future__ import annotations

import base64
import contextlib
import json
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from glimpse.cli.carrying import Carrier, Pass
from glimpse.cli.comparison import compare
from glimpse.cli.console import CommandError, say
from glimpse.cli.index_progress import is_being_built
from glimpse.cli.patience import patiently
from glimpse.errors import FailedPrecondition, GlimpseError
from glimpse.results import Generation

if TYPE_CHECKING:
    from glimpse.client import Client

_FEW = 20
_MOMENT_S = 5.0
"""What is new is little if there are few changes, or a pass over them takes a moment: that is what
callers then wait for acknowledgements."""
_MAX_PASSES = 100
_MAX_HOLDS = 10
_HOLD_MS = 30_000
"""What callers wait at most for acknowledgements, if somebody kills the command meanwhile."""
_MARGIN_MS = 120_000
"""By which a row's time may be before it is seen to be there: one try to write it, which takes up
to INDEXER_MILVUS_TIMEOUT_S, and the indexers' clocks may differ."""
_TRUSTED_MS = 600_000
"""How long after a whole pass began passes go on from it; then there is a whole one first."""
_WARMING = 10  # searches by text, and by picture, of the generation that is to serve
_PIXEL = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR42mNoAAAAggCB2kUIOwAAAABJRU5ErkJggg=="
)  # a gray PNG
_LOOK_S = 1.0
_UNREADABLE_SHOWN = 20


class Change:
    """One generation takes over from another."""

    def __init__(
        self,
        client: Client,
        name: str,
        before: Generation,
        after: Generation,
        patience_s: float,
        reads: int,
    ) -> None:
        self._client = client
        self._name, self._before, self._after = name, before.number, after.number
        self._source, self._target = f"{name}@{before.number}", f"{name}@{after.number}"
        # A generation of before keeps what was left out of the one that took over from it: what
        # callers have deleted since then is gone from both.
        kept_before_ms = before.collection.created_at_ms if after.number < before.number else 0
        self._carrier = Carrier(
            client, self._source, self._target, patience_s, reads, kept_before_ms
        )
        self._patience_s = patience_s
        self._path: Path | None = None
        self._report: dict[str, Any] = {
            "collection": name,
            "from": before.number,
            "to": after.number,
            "created_at_ms": [each.collection.created_at_ms for each in (before, after)],
            "passes": [],
            # When the last pass began, and the last whole one, by the indexer's clock.
            "in_step_at_ms": None,
            "compared_at_ms": None,
            "unreadable": {},
            "comparison": None,
            "switched": False,  # by this run
        }

    @contextlib.contextmanager
    def reported(self, path: Path | None) -> Iterator[None]:
        """Writes what was done into a file, for programs: at once, after each pass, and by the end
        of the block. Goes on from what the file says of a run that has not come to its end.

        Raises CommandError.
        """
        self._path = path
        self._resume()
        self._write()  # a place where nothing can be written is told of now, not after hours
        try:
            yield
        finally:
            self._write()

    def run(
        self, without_missing: bool, texts: list[str], sheets: Path | None, check_only: bool
    ) -> None:
        """Raises CommandError where an operator must decide."""
        self._check_searches()
        self._catch_up()
        self._decide(without_missing)
        self._wait_for_index()
        self._report["comparison"] = compare(
            self._client, self._source, self._target, texts, sheets
        )
        if check_only:
            say(f"{self._target} is in step with {self._source}, which serves.")
            return
        self._check_searches()
        for _ in range(_MAX_HOLDS):
            last = self._catch_up()
            self._decide(without_missing)
            if self._take_over(last):
                self._report["switched"] = True
                say(f"{self._name!r} is served by generation {self._after}.")
                return
        raise _too_fast()

    def _catch_up(self) -> Pass:
        """Passes until so little is new that the rest takes a moment; returns the last one. The
        first is a whole one, unless one that began lately can be gone on from."""
        since_ms = self._in_step_at_ms()
        for _ in range(_MAX_PASSES):
            known = set(self._report["unreadable"])
            done = self._pass(since_ms)
            # A file may be newer than its row for a moment: what cannot be read is looked at twice.
            is_clear = done.is_whole and known.issuperset(done.unreadable)
            if is_clear and (done.changes <= _FEW or done.seconds <= _MOMENT_S):
                return done
            since_ms = done.begun_ms if done.is_whole else None
        raise _too_fast()

    def _pass(self, since_ms: int | None) -> Pass:
        """A pass over what has changed since then, or over everything; what that copies is old, so
        that nothing is gone on from until it has come to its end."""
        if since_ms is None:
            is_first = not self._report["passes"]
            label = "carrying images over" if is_first else "comparing"
            total = self._client.get_collection(self._source, exact=False).rows if is_first else 0
            done = self._carrier.run(label, total or None)
            self._report["compared_at_ms"] = done.begun_ms
        else:
            done = self._carrier.run_since(since_ms - _MARGIN_MS, self._report["unreadable"])
        self._report["unreadable"] = done.unreadable
        self._report["in_step_at_ms"] = done.begun_ms
        self._note(done)
        return done

    def _in_step_at_ms(self) -> int | None:
        """When the pass began that can be gone on from; None where there is none."""
        compared_at_ms = self._report["compared_at_ms"]
        if compared_at_ms is None:
            return None
        now_ms = self._client.get_collection(self._source, exact=False).described_at_ms
        is_fresh = now_ms - compared_at_ms <= _TRUSTED_MS
        return self._report["in_step_at_ms"] if is_fresh else None

    def _take_over(self, last: Pass) -> bool:
        """Carries over what came since the last pass, while writes are held, and has the target
        serve; False where that was not to be done in time, or there is something new to decide on.

        After any other error, writes stay held until that ends by itself: whether the target serves
        may not be known.
        """
        held_until_ms = self._client.hold_writes(self._name, self._before, _HOLD_MS)
        done = self._carrier.run_since(last.begun_ms - _MARGIN_MS, callers_wait=True)
        self._note(done)
        if done.is_whole and done.unreadable.keys() <= last.unreadable.keys():
            try:
                self._client.switch_generation(
                    self._name, self._after, expected=self._before, held_until_ms=held_until_ms
                )
                return True
            except FailedPrecondition as error:
                if error.reason != "WRITES_NOT_HELD":
                    raise
        with contextlib.suppress(GlimpseError):
            self._client.hold_writes(self._name, self._before, 0)
        return False

    def _check_searches(self) -> None:
        """That the target can be searched, as callers will behind the switch. Its encoder, and the
        generation, are then known to those who search it next, and have done all that a first
        search asks for.

        Raises CommandError.
        """
        search = partial(self._client.search, self._target, limit=1)
        for ask in (partial(search, "a picture"), partial(search, image=_PIXEL)) * _WARMING:
            try:
                patiently(ask, self._patience_s)
            except GlimpseError as error:
                raise CommandError(
                    f"query cannot search {self._target}, which is not to serve then: {error}; "
                    "give query an encoder of that model (QUERY_ENCODERS)"
                ) from error

    def _note(self, done: Pass) -> None:
        if not done.is_whole:
            self._report["compared_at_ms"] = None
        self._report["passes"].append(
            {"carried": done.carried, "deleted": done.deleted, "seconds": round(done.seconds, 3)}
        )
        self._write()
        kept = f", {done.kept:,} kept that only {self._target} has" if done.kept else ""
        took = f"in {done.seconds:.1f} s"
        say(f"{done.carried:,} carried over, {done.deleted:,} deleted{kept}, {took}.")

    def _resume(self) -> None:
        """From the report of an earlier run between the same two, if there is one."""
        if self._path is None:
            return
        try:
            found = json.loads(self._path.read_text())
        except FileNotFoundError:
            return
        except (OSError, ValueError):
            found = None
        same = ("collection", "from", "to", "created_at_ms")
        if not isinstance(found, dict) or any(found.get(k) != self._report[k] for k in same):
            say(f"{self._path} is no report of this change, and is written anew.")
            return
        if not found.get("switched"):
            for key in ("in_step_at_ms", "compared_at_ms", "unreadable"):
                self._report[key] = found.get(key, self._report[key])

    def _write(self) -> None:
        if self._path is None:
            return
        try:
            self._path.write_text(json.dumps(self._report, indent=2) + "\n")
        except OSError as error:
            raise CommandError(f"{self._path}: no report: {error.strerror}") from error

    def _decide(self, without_missing: bool) -> None:
        unreadable = self._report["unreadable"]
        if not unreadable:
            return
        for identity, why in list(unreadable.items())[:_UNREADABLE_SHOWN]:
            say(f"  {identity}: {why}")
        if len(unreadable) > _UNREADABLE_SHOWN:
            say("  ... (--report FILE has all of them)")
        say(f"{len(unreadable):,} images cannot be read.")
        if not without_missing:
            raise CommandError(
                "these images would be missing: bring their files back and run it again, or go on "
                "with --without-missing"
            )

    def _wait_for_index(self) -> None:
        """Searches of the new generation are fast from the first one on."""
        while is_being_built(self._client.get_collection(self._target, exact=False)):
            time.sleep(_LOOK_S)


def _too_fast() -> CommandError:
    return CommandError("images are written faster than they can be carried over")
