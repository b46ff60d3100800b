"""`glimpse token new`: a fresh token, and the line that makes a service know it."""

from __future__ import annotations

from typing import Annotated

import typer

from glimpse import tokens
from glimpse.cli.console import say

token = typer.Typer(no_args_is_help=True, add_completion=False, rich_markup_mode=None)


@token.callback()
def _group() -> None:
    """Make tokens for callers."""


@token.command()
def new(
    name: Annotated[str, typer.Argument(help="The token's owner; appears in logs.")],
    scopes: Annotated[
        list[str],
        typer.Option(
            "--scope",
            metavar="SCOPE",
            help=f"Its permissions: {', '.join(tokens.SCOPES)}; may be given several times.",
        ),
    ],
) -> None:
    """Print a fresh token, and its line for a service's tokens file on standard error.

    The token is printed once and kept nowhere; the line has its hash only.

    \b
    Example:
        glimpse token new web-backend --scope search > web-backend.token 2>> tokens
    """
    made = tokens.new_token()
    try:
        line = tokens.line(made, scopes, name)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    say(f"# For the file that QUERY_TOKENS_FILE and its like name:\n{line}")
    print(made)
