"""Milvus Lite's own server, as `glimpse up` starts it: so that one request holds up no others.

It answers each request on a thread, and computes in Python, whose lock only one thread has.
"""

from __future__ import annotations

import json
import sys
from typing import Any

_INTERVAL_S = 0.000_5


def main() -> int:
    """Runs it; takes its arguments."""
    from milvus_lite.cmdline import main as run  # which only those have who run the stack

    # At each step that leaves Python, of which a request has tens, a thread waits for the lock:
    # Python's own 5 ms, for each of the others that compute.
    sys.setswitchinterval(_INTERVAL_S)
    _read_what_filters_name()
    return run()


def _read_what_filters_name() -> None:
    """Has a filter by metadata read the fields that it names, and a row's metadata once.

    Milvus Lite reads all that rows have, their vectors as well, without giving the lock away: a
    second for 5,000 of them; and their metadata anew for each comparison.
    """
    from milvus_lite.schema.types import DataType
    from milvus_lite.search.filter import eval as evaluation

    evaluate = evaluation.evaluate_python

    def evaluate_named(compiled: Any, data: Any) -> Any:
        names = [name for name in compiled.fields if name in data.schema.names]
        if not names:
            return evaluate(compiled, data)
        rows = data.select(names).to_pylist()
        for name in names:
            if compiled.fields[name].dtype is DataType.JSON:
                for row in rows:
                    row[name] = _parsed(row[name])
        return evaluate(compiled, _ReadRows(rows))

    evaluation.evaluate_python = evaluate_named


class _ReadRows:
    """Rows that have been read, in a table's place."""

    def __init__(self, rows: list[dict[str, Any]]) -> None:
        self._rows = rows

    def to_pylist(self) -> list[dict[str, Any]]:
        return self._rows


def _parsed(text: Any) -> Any:
    """What JSON text says; what is none, as it is."""
    try:
        return json.loads(text)
    except (TypeError, ValueError):
        return text


if __name__ == "__main__":
    raise SystemExit(main())
