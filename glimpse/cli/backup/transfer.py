"""One run of an import: from the rows of a folder to the indexer, and what became of them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from glimpse.cli.backup.ahead import made_ahead
from glimpse.cli.backup.foreign import Columns
from glimpse.cli.backup.position import Position
from glimpse.cli.backup.report import ImportReport
from glimpse.cli.backup.rows import Batches, Rows
from glimpse.cli.backup.sources import Found
from glimpse.cli.console import say
from glimpse.errors import NotFound
from glimpse.indexer.v1.indexer_pb2 import ImportOptions

if TYPE_CHECKING:
    from glimpse.client import Client


class Transfer:
    """One run of an import, from where an earlier one was stopped."""

    def __init__(
        self,
        client: Client,
        folder: Path,
        found: Found,
        options: ImportOptions,
        columns: Columns,
        report: ImportReport,
    ) -> None:
        self._client = client
        self._folder = folder
        self._found = found
        self._options = options
        self._columns = columns
        self._report = report

    def run(self, patience_s: float) -> None:
        """Sends all that is left, and takes note of what became of it."""
        position = self._position(self._created_at_ms())
        batches = Batches(made_ahead(self._rows(position), 1))
        upload = self._client.import_images(self._options, patience_s=patience_s)
        for acknowledgement in upload.run(batches):
            sent = batches.sent.pop(acknowledgement.sequence)
            if position is None:
                position = self._position(self._created_at_ms())
            self._report.take(sent, acknowledgement)
            self._take_refused(batches)
            if position is not None:
                position.reach(sent.source, sent.next_row)
            self._report.interruptions = upload.interruptions
        self._take_refused(batches)
        if position is not None:
            position.forget()

    def _take_refused(self, batches: Batches) -> None:
        while batches.refused:
            self._report.refuse(batches.refused.pop(0))

    def _rows(self, position: Position | None) -> Iterator[Rows]:
        sources = self._found.sources
        done, row = position.left([source.name for source in sources]) if position else (0, 0)
        skipped = sum(source.rows for source in sources[:done]) + row
        if skipped:
            say(f"Going on behind {skipped:,} rows.")
            self._report.skip(skipped, self._found.rows)
        for number, source in enumerate(sources[done:]):
            yield from source.read(row if number == 0 else 0)

    def _created_at_ms(self) -> int:
        """When the collection was created; 0 where it is not there, or the store does not know."""
        try:
            return self._client.get_collection(self._options.collection).created_at_ms
        except NotFound:
            return 0

    def _position(self, created_at_ms: int) -> Position | None:
        if not created_at_ms:
            return None
        what = {
            "options": self._options.SerializeToString(deterministic=True).hex(),
            "created_at_ms": created_at_ms,
            "columns": repr(self._columns),
            "files": [(source.name, source.rows) for source in self._found.sources],
        }
        return Position(self._folder, what)
