"""The `glimpse` command: its commands are put together here, and its errors become sentences."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

import typer

from glimpse.cli import index, manage, protection, search, token, up
from glimpse.cli.console import CommandError, printable
from glimpse.cli.stack import StackError
from glimpse.errors import GlimpseError, Unavailable


def app() -> typer.Typer:
    """The command line. Wrong usage exits with 2, whatever goes wrong later with 1."""
    commands = typer.Typer(
        name="glimpse",
        help="Search pictures by words.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    commands.callback()(protection.options)
    for command in (
        up.up,
        index.index,
        search.search,
        search.similar,
        manage.delete,
        manage.collections,
        manage.drop,
        manage.status,
    ):
        commands.command()(command)
    commands.add_typer(token.commands())
    return commands


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line and returns its exit code; errors are one sentence, no traceback.

    GLIMPSE_DEBUG=1 in the environment shows tracebacks of errors that nobody foresaw.
    """
    try:
        app()(args=arguments, prog_name="glimpse")
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 1
    except (GlimpseError, CommandError, StackError) as error:
        return _fail(_sentence(error))
    except KeyboardInterrupt:
        return 130
    except Exception as error:
        if os.environ.get("GLIMPSE_DEBUG"):
            raise
        return _fail(
            f"this is a fault of glimpse: {type(error).__name__}: {error} "
            "(GLIMPSE_DEBUG=1 shows where)"
        )
    return 0


def _sentence(error: Exception) -> str:
    # Without a reason, it was the connection that failed and not a service that answered.
    if isinstance(error, Unavailable) and not error.reason:
        return f'{error}; is it running? "glimpse up" starts everything on this machine'
    return str(error)


def _fail(message: str) -> int:
    lines = message.splitlines() or [""]
    print("glimpse: " + "\n".join(printable(line) for line in lines), file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
