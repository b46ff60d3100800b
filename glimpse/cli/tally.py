"""What became of the pictures of one `glimpse index` or `sync`, counted over all its connections,
and told; sending them is sending's job."""

from __future__ import annotations

import json
from typing import IO

from glimpse.cli.console import print_json, print_table, say
from glimpse.cli.passed_over import PassedOver
from glimpse.cli.pending import Pending
from glimpse.cli.progress import Counter
from glimpse.ingest import Ingest
from glimpse.results import Acknowledgement, Outcome

_MAX_LISTED = 50
_MAX_KEPT = 10_000  # failures, for who asks for JSON; a file of them has no end


class Tally:
    """Counts by outcome what is done, and keeps what failed."""

    def __init__(
        self,
        collection: str,
        counter: Counter,
        failure_file: IO[str] | None,
        passed_over: PassedOver,
    ) -> None:
        self._collection = collection
        self.counter = counter
        """Shows how far it is."""
        self._failure_file = failure_file
        self._passed_over = passed_over
        counter.show(passed_over.progress)
        self._failed: list[Acknowledgement] = []
        self._counts = dict.fromkeys(Outcome, 0)
        self._interruptions = 0
        self.notes: dict[str, int] = {}
        """Further counts to be told, by what they are of, such as "removed"."""

    @property
    def has_begun(self) -> bool:
        """Whether anything is known of any picture."""
        return any(self._counts.values())

    @property
    def has_failures(self) -> bool:
        """Whether any picture failed, or could not be looked for."""
        return bool(self._failed) or self._passed_over.problems > 0

    def follow(self, ingest: Ingest, pending: Pending) -> None:
        """Takes an ingest's acknowledgements to its end, and the pictures out of those pending.

        Raises what the ingest raises.
        """
        before = self._interruptions
        for acknowledgement in ingest:
            if self._failure_file is not None and not self.has_begun:
                self._failure_file.truncate(0)  # an earlier run's, kept until the service answers
            self._interruptions = before + ingest.interruptions
            self._counts[acknowledgement.outcome] += 1
            pending.done(acknowledgement)
            self.counter.expect(pending.total)
            if acknowledgement.error is not None:
                self._keep(acknowledgement)
            self.counter.step(
                f"{self._counts[Outcome.UNCHANGED]:,} unchanged, "
                f"{self._counts[Outcome.FAILED]:,} failed{self._resumed()}"
            )
        self.counter.expect(pending.total)

    def _keep(self, acknowledgement: Acknowledgement) -> None:
        if len(self._failed) < _MAX_KEPT:
            self._failed.append(acknowledgement)
        if self._failure_file is not None:
            self._failure_file.write(json.dumps(_failure(acknowledgement)) + "\n")
            self._failure_file.flush()

    def moved(self, address: str) -> None:
        """Says that it goes on with an indexer elsewhere."""
        self._interruptions += 1
        say(f"The indexer is at {address} now: continuing there.")

    def tell(self, as_json: bool, *, is_whole: bool = True) -> None:
        """What became of them: a summary and the failures, or one JSON object."""
        if as_json:
            print_json(self._as_json(is_whole))
            return
        counter = self.counter
        say(
            f"{self._summary()} in {self._collection!r}{self._resumed()}, "
            f"{counter.seconds:.1f} s, {counter.per_second:,.0f} images/s."
        )
        if passed_over := self._passed_over.summary():
            say(f"{passed_over}.")
        if self._failed:
            self._list_failed()

    def tell_stopped(self, as_json: bool, force: bool) -> None:
        """As tell, and how to go on, for an ingest that ends early."""
        self.tell(as_json, is_whole=False)
        without = " without --force" if force else ""
        say(f"Run the same command again{without} to continue: what is in is skipped.")

    def _summary(self) -> str:
        counts = self._counts
        return (
            f"{counts[Outcome.INDEXED]:,} indexed, {counts[Outcome.UNCHANGED]:,} unchanged, "
            f"{counts[Outcome.FAILED]:,} failed"
            + "".join(f", {count:,} {name}" for name, count in self.notes.items())
        )

    def _resumed(self) -> str:
        return f", resumed {self._interruptions}x" if self._interruptions else ""

    def _list_failed(self) -> None:
        ordered = sorted(self._failed, key=lambda acknowledgement: acknowledgement.image.address)
        failures = map(_failure, ordered[:_MAX_LISTED])
        rows = [(each["path"], each["reason"], each["message"]) for each in failures]
        print_table(("failed", "reason", "message"), rows)
        unlisted = self._counts[Outcome.FAILED] - len(rows)
        if unlisted > 0:
            say(f"and {unlisted:,} more; --failures FILE keeps them all.")

    def _as_json(self, is_whole: bool) -> dict[str, object]:
        return {
            "collection": self._collection,
            "is_whole": is_whole,
            **{outcome.value: count for outcome, count in self._counts.items()},
            **{name.replace(" ", "_"): count for name, count in self.notes.items()},
            **self._passed_over.record(),
            "failures": [_failure(acknowledgement) for acknowledgement in self._failed],
            "resumed": self._interruptions,
            "seconds": round(self.counter.seconds, 3),
        }


def _failure(acknowledgement: Acknowledgement) -> dict[str, str]:
    error = acknowledgement.error
    assert error is not None
    path = acknowledgement.image.address
    return {"path": path, "reason": error.reason, "message": str(error)}
