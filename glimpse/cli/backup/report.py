"""What became of the rows of one run of an import, counted and told."""

from __future__ import annotations

import json
from typing import IO, Any

from glimpse.cli.backup.rows import Refusal, SentBatch
from glimpse.cli.console import print_json, print_table, say
from glimpse.cli.progress import Counter
from glimpse.indexer.v1 import indexer_pb2
from glimpse.transport.status import from_status

_MAX_LISTED = 50


class ImportReport:
    """What became of the rows of one run."""

    def __init__(self, collection: str, counter: Counter, failure_file: IO[str] | None) -> None:
        self._collection = collection
        self._counter = counter
        self._failure_file = failure_file
        self._listed: list[dict[str, Any]] = []
        self._skipped = 0
        self.written = 0
        self.rejected = 0
        self._written_s = 0.0
        self.interruptions = 0
        self.collection_rows: int | None = None

    @property
    def has_begun(self) -> bool:
        """Whether anything is known of any row."""
        return bool(self.written or self.rejected)

    @property
    def _per_s(self) -> float:
        """Until the last row was written; what follows is waiting for the index."""
        return self.written / max(self._written_s, 1e-9)

    def skip(self, rows: int, total: int) -> None:
        """An earlier run has written so many of all."""
        self._skipped = rows
        self._counter.expect(total - rows)

    def take(self, sent: SentBatch, acknowledgement: indexer_pb2.ImportAcknowledgement) -> None:
        """A batch is written, but for what was rejected."""
        self._begin()
        for rejected in acknowledgement.rejected:
            error = from_status(rejected.error)
            row = sent.numbers[rejected.index]
            problem = str(error).removeprefix(f"images[{rejected.index}].")
            self.refuse(Refusal(sent.source, row, rejected.id, error.reason, problem))
        self.written += acknowledgement.written
        self._written_s = self._counter.seconds
        self._counter.step(f"{self.rejected:,} rejected", acknowledgement.written)

    def refuse(self, refusal: Refusal) -> None:
        """A row is not taken."""
        self._begin()
        self.rejected += 1
        told = {
            "file": refusal.source,
            "row": refusal.row,
            "id": refusal.id,
            "reason": refusal.reason,
            "message": refusal.message,
        }
        if len(self._listed) < _MAX_LISTED:
            self._listed.append(told)
        if self._failure_file is not None:
            self._failure_file.write(json.dumps(told) + "\n")
            self._failure_file.flush()
        self._counter.step(f"{self.rejected:,} rejected")

    def _begin(self) -> None:
        """What the file has is of another import, unless this one goes on; it stays until the
        service answers."""
        if self._failure_file is not None and not self.has_begun and not self._skipped:
            self._failure_file.truncate(0)

    def tell(self, as_json: bool, *, is_whole: bool) -> None:
        """A summary and the first rejected rows, or one JSON object."""
        counter = self._counter
        if as_json:
            print_json(
                {
                    "collection": self._collection,
                    "is_whole": is_whole,
                    "written": self.written,
                    "rejected": self.rejected,
                    "skipped": self._skipped,
                    "collection_rows": self.collection_rows,
                    "failures": self._listed,
                    "resumed": self.interruptions,
                    "seconds": round(counter.seconds, 3),
                    "rows_per_s": round(self._per_s, 1),
                }
            )
            return
        resumed = f", resumed {self.interruptions}x" if self.interruptions else ""
        there = ""
        if self.collection_rows is not None:
            there = f", which has {self.collection_rows:,} now"
        say(
            f"{self.written:,} written, {self.rejected:,} rejected, {self._skipped:,} were there, "
            f"in {self._collection!r}{there}{resumed}; {counter.seconds:.1f} s, "
            f"{self._per_s:,.0f} rows/s."
        )
        if self._listed:
            rows = [(f"{e['file']}:{e['row']}", e["id"], e["message"]) for e in self._listed]
            print_table(("rejected", "id", "why"), rows)
            if self.rejected > len(rows):
                say(f"and {self.rejected - len(rows):,} more; --failures FILE keeps them all.")
