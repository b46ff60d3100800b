"""How the command speaks: tables on a terminal, plain lines elsewhere."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Sequence


class CommandError(Exception):
    """What was asked for cannot be done; the message is the sentence that the user reads."""


def accept_all_text() -> None:
    """Has output hold what the terminal's encoding lacks: as escapes, where that raised."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def say(message: str) -> None:
    """A line for people, on standard error: standard output holds results only."""
    print(message, file=sys.stderr, flush=True)


def print_json(value: object) -> None:
    """`value` for programs, indented for whoever looks at it."""
    is_utf_8 = (sys.stdout.encoding or "").lower().replace("_", "-") in ("utf-8", "utf8")
    print(json.dumps(value, ensure_ascii=not is_utf_8, indent=2))


def print_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table on a terminal; elsewhere lines of values with tabs between them, names first."""
    if not sys.stdout.isatty():
        for row in (columns, *rows):
            print("\t".join(_one_line(value) for value in row))
        return
    # Loaded for people only: it takes as long as all the rest of a search.
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, header_style="bold", pad_edge=False)
    for number, column in enumerate(columns):
        numeric = bool(rows) and all(_is_number(row[number]) for row in rows)
        table.add_column(column, justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(_one_line(value)) for value in row))
    Console(highlight=False).print(table)


def printable(text: str) -> str:
    """`text` without characters that could steer a terminal, and without what UTF-8 cannot hold."""
    text = text.encode(errors="backslashreplace").decode()
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _one_line(value: str) -> str:
    return printable(value.replace("\t", " ").replace("\n", " "))


def _is_number(value: str) -> bool:
    try:
        float(value.replace(",", ""))
    except ValueError:
        return False
    return True
