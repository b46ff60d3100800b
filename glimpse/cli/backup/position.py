"""How far an import has come, kept beside its files, so that another run goes on there."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from glimpse.cli.backup.layout import read_json, write_json

NAME = ".glimpse-import.json"


class Position:
    """The source, and the row in it, that an import goes on with.

    It counts only for the same import: `what` says which that is, and names the collection with the
    time of its creation, for one that was made anew has nothing of what was written before. Where
    the folder cannot be written to, nothing is kept: writing a row again does no harm.
    """

    def __init__(self, folder: Path, what: dict[str, Any]) -> None:
        self._path = folder / NAME
        content = json.dumps(what, sort_keys=True, default=str).encode()
        self._key = hashlib.sha256(content).hexdigest()
        self.source, self.row = "", 0
        kept = read_json(self._path) or {}
        if kept.get("key") == self._key:
            self.source, self.row = str(kept["source"]), int(kept["row"])

    def left(self, names: Sequence[str]) -> tuple[int, int]:
        """How many of the sources are done, and how many rows of the next one."""
        return (names.index(self.source), self.row) if self.source in names else (0, 0)

    def reach(self, source: str, row: int) -> None:
        """Everything before that row is written."""
        self.source, self.row = source, row
        place = {"key": self._key, "source": source, "row": row}
        with suppress(OSError):
            write_json(self._path, place, durable=False)

    def forget(self) -> None:
        """The import has come to its end."""
        with suppress(OSError):
            self._path.unlink(missing_ok=True)
