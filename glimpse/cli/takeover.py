"""One generation of a collection takes over from the one that serves; decision 0049 says why no
write is lost by it."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from glimpse.cli.carrying import Carrier, Pass
from glimpse.cli.comparison import compare
from glimpse.cli.console import CommandError, say
from glimpse.errors import FailedPrecondition, GlimpseError

if TYPE_CHECKING:
    from glimpse.client import Client

_FEW = 20
_FEW_SHARE = 0.001
_MAX_PASSES = 50
_MAX_HOLDS = 10
_HOLD_MS = 30_000
"""What callers wait at most for acknowledgements, if somebody kills the command meanwhile."""
_MARGIN_MS = 300_000
"""By which a row's time may be before its writing: INDEXER_RETRY_BUDGET_S, and the indexers' clocks
may differ."""
_LOOK_S = 1.0
_UNREADABLE_SHOWN = 20


class Change:
    """One generation takes over from another."""

    def __init__(
        self, client: Client, name: str, before: int, after: int, patience_s: float, reads: int
    ) -> None:
        self._client = client
        self._name, self._before, self._after = name, before, after
        self._source, self._target = f"{name}@{before}", f"{name}@{after}"
        self._carrier = Carrier(client, self._source, self._target, patience_s, reads)
        self._report: dict[str, Any] = {
            "collection": name,
            "from": before,
            "to": after,
            "passes": [],
            "unreadable": {},
            "comparison": None,
            "switched": False,  # by this run
        }

    @contextlib.contextmanager
    def reported(self, path: Path | None) -> Iterator[None]:
        """Writes what was done by the end of the block, for programs. Raises CommandError."""
        try:
            yield
        finally:
            if path is not None:
                try:
                    path.write_text(json.dumps(self._report, indent=2) + "\n")
                except OSError as error:
                    raise CommandError(f"{path}: no report: {error.strerror}") from error

    def run(
        self, without_missing: bool, texts: list[str], sheets: Path | None, check_only: bool
    ) -> None:
        """Raises CommandError where an operator must decide."""
        self._catch_up()
        self._decide(without_missing)
        self._wait_for_index()
        self._report["comparison"] = compare(
            self._client, self._source, self._target, texts, sheets
        )
        if check_only:
            say(f"{self._target} is in step with {self._source}, which serves.")
            return
        for _ in range(_MAX_HOLDS):
            last = self._catch_up()
            self._decide(without_missing)
            if self._take_over(last):
                self._report["switched"] = True
                say(f"{self._name!r} is served by generation {self._after}.")
                return
        raise _too_fast()

    def _catch_up(self) -> Pass:
        """Passes until so little is new that the rest takes a moment; returns the last one."""
        known = set(self._report["unreadable"])
        for number in range(_MAX_PASSES):
            label = "carrying images over" if not self._report["passes"] else "catching up"
            total = self._client.get_collection(self._source, exact=False).rows if not number else 0
            done = self._carrier.run(label, total or None)
            self._note(done)
            self._report["unreadable"] = done.unreadable
            # A file may be newer than its row for a moment: what cannot be read is looked at twice.
            is_clear, known = known.issuperset(done.unreadable), set(done.unreadable)
            is_little = done.changes <= max(_FEW, _FEW_SHARE * done.compared)
            if is_clear and is_little and done.is_whole:
                return done
        raise _too_fast()

    def _take_over(self, last: Pass) -> bool:
        """Carries over what came since the last pass, while writes are held, and has the target
        serve; False where that was not to be done in time, or there is something new to decide on.

        After any other error, writes stay held until that ends by itself: whether the target serves
        may not be known.
        """
        held_until_ms = self._client.hold_writes(self._name, self._before, _HOLD_MS)
        # By the indexer's clock, as the rows' times are.
        since_ms = held_until_ms - _HOLD_MS - int(1000 * (time.monotonic() - last.begun_s))
        done = self._carrier.run_since(since_ms - _MARGIN_MS)
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

    def _note(self, done: Pass) -> None:
        self._report["passes"].append(
            {"carried": done.carried, "deleted": done.deleted, "seconds": round(done.seconds, 3)}
        )
        say(f"{done.carried:,} carried over, {done.deleted:,} deleted.")

    def _decide(self, without_missing: bool) -> None:
        unreadable = self._report["unreadable"]
        if not unreadable:
            return
        for identity, why in list(unreadable.items())[:_UNREADABLE_SHOWN]:
            say(f"  {identity}: {why}")
        say(f"{len(unreadable):,} images cannot be read.")
        if not without_missing:
            raise CommandError(
                "these images would be missing: bring their files back and run it again, or go on "
                "with --without-missing"
            )

    def _wait_for_index(self) -> None:
        """Searches of the new generation are fast from the first one on."""
        while True:
            found = self._client.get_collection(self._target, exact=False)
            if found.indexed_rows >= found.rows or not found.pending_rows:
                return
            time.sleep(_LOOK_S)


def _too_fast() -> CommandError:
    return CommandError("images are written faster than they can be carried over")
