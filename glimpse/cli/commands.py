"""The command line: its commands by name, each imported when it is asked for; running it and its
errors are main's job."""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterable
from keyword import iskeyword
from typing import Any

import typer
from typer.core import TyperGroup

from glimpse.cli import protection
from glimpse.errors import GlimpseError

COMMANDS = {
    "up": (
        "local.up",
        "Run Milvus Lite, encoder, indexer and query on this machine, until Ctrl-C.",
    ),
    "index": ("index", "Index pictures, so that they can be searched."),
    "sync": ("sync", "Bring a collection in step with a folder."),
    "search": ("search", "Search pictures by words."),
    "similar": ("search", "Search pictures that look like a given one."),
    "delete": ("manage", "Delete images from a collection by id or by filter."),
    "collections": ("manage", "List the collections: model, rows, index, size."),
    "export": ("export", "Write a collection into Parquet files, vectors and all."),
    "import": ("import_", "Read exported files, or embeddings made elsewhere, into a collection."),
    "drop": ("manage", "Permanently remove a collection and all its images."),
    "upgrade": ("upgrade", "Have a collection served by another model, and no search fail."),
    "rollback": ("upgrade", "Have a collection served by its generation of before again."),
    "generations": ("generations", "List the generations of a collection."),
    "switch": ("generations", "Have another generation of a collection serve."),
    "prune": ("generations", "Permanently remove the generations that do not serve."),
    "status": ("manage", "Show the services' health and the collections."),
    "token": ("token", "Make tokens for callers."),
}
"""By name: the module of glimpse.cli that has it, and the first sentence of its help. Those below
`local` are in a checkout only."""


# What a message begins with, as "options.limit: must be"; and certificates' files anywhere in it.
_NAMES = re.compile(r"^[\w.\[\]]+(?=: )|\btls_\w+")


class LazyCommands(TyperGroup):
    """COMMANDS for Typer. Listing them imports none, looking one up imports its module alone: gRPC
    takes longer to load than all that `glimpse --help` needs."""

    def list_commands(self, ctx: Any) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"glimpse.cli.{COMMANDS[cmd_name][0]}")
        # A function cannot be called what Python has a meaning for.
        command = getattr(module, f"{cmd_name}_" if iskeyword(cmd_name) else cmd_name)
        if isinstance(command, typer.Typer):
            return typer.main.get_command(command)
        alone = typer.Typer(add_completion=False, rich_markup_mode=None)
        alone.command()(command)
        return typer.main.get_command(alone)

    def invoke(self, ctx: Any) -> Any:
        """Runs the command; its errors name its options."""
        try:
            return super().invoke(ctx)
        except GlimpseError as error:
            command = self.get_command(ctx, ctx.invoked_subcommand)
            error.args = (_with_options(str(error), (*self.params, *command.params)),)
            raise

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


def app() -> typer.Typer:
    """The command line. Wrong usage exits with 2, whatever goes wrong later with 1."""
    commands = typer.Typer(
        name="glimpse",
        cls=LazyCommands,
        help="Search pictures by words.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    commands.callback()(protection.options)
    return commands


def _with_options(message: str, parameters: Iterable[Any]) -> str:
    """`message` with a command's option, or argument, in place of each name that it stands for: it
    is that of the parameter of the command's function, or of the field's last part."""
    known = {parameter.name: _as_typed(parameter) for parameter in parameters}

    def typed(found: re.Match[str]) -> str:
        name = found[0].rpartition(".")[2].partition("[")[0]
        return known.get(name, found[0])

    return _NAMES.sub(typed, message)


def _as_typed(parameter: Any) -> str:
    """An option by its longest name; an argument as the command's help calls it."""
    if parameter.param_type_name == "option":
        return max(parameter.opts, key=len)
    return parameter.metavar or parameter.name.upper()
