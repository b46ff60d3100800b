"""`glimpse up`: the whole stack on this machine, until Ctrl-C; how it is run is stack's job."""

from __future__ import annotations

import importlib.util
import os
import signal
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer

from glimpse.cli import addresses, bundled_model
from glimpse.cli.console import CommandError, print_table, say
from glimpse.cli.local import surroundings
from glimpse.cli.local.stack import Stack, StackError, StackOptions
from glimpse.cli.ports import Ports
from glimpse.cli.probes import model_at

_LOOK_S = 0.25
_LAST_BASE = 65_529


def _checked_uri(uri: str | None) -> str | None:
    if uri is not None and not uri.startswith(("http://", "https://")):
        raise typer.BadParameter("must begin with http:// or https://")
    return uri


def up(
    data: Annotated[
        Path | None,
        typer.Option(
            envvar="GLIMPSE_DATA",
            metavar="FOLDER",
            help="Folder for vectors, logs and addresses.",
            show_default="~/.local/share/glimpse",
        ),
    ] = None,
    model: Annotated[
        str,
        typer.Option(
            envvar="ENCODER_MODEL",
            metavar="NAME|FILE",
            help='"demo" (bundled), a CLIP name such as ViT-B/32, or a checkpoint\'s path.',
        ),
    ] = "demo",
    milvus: Annotated[
        str | None,
        typer.Option(
            metavar="URI",
            callback=_checked_uri,
            help="Use this Milvus server instead of Milvus Lite.",
        ),
    ] = None,
    ports: Annotated[
        int | None,
        typer.Option(
            min=0,
            max=_LAST_BASE,
            metavar="BASE",
            help="Seven ports from BASE upwards; 0: free ones. Without it: 50051 to 50053, "
            "19530, and 9051 to 9053 for metrics.",
        ),
    ] = None,
    start_timeout: Annotated[
        float,
        typer.Option(
            min=1,
            max=addresses.MAX_S,
            metavar="SECONDS",
            help="Timeout of the start.",
        ),
    ] = 120.0,
) -> None:
    """Run Milvus Lite, encoder, indexer and query on this machine, until Ctrl-C.

    The other commands find them by themselves when they are given the same --data. Settings of the
    services, such as INDEXER_LOG_LEVEL, are passed on from the environment; those for a certificate
    are not possible, because it calls them in plaintext, on this machine only.

    \b
    Examples:
        glimpse up
        glimpse up --data ./pictures-data --model ViT-B/32 --ports 0
    """
    if importlib.util.find_spec("fcntl") is None:
        raise CommandError("the services run on Linux and macOS only; all other commands work here")
    _refuse_tls()
    folder = (data or addresses.default_data()).expanduser().absolute()
    stack = Stack(
        StackOptions(
            data=folder,
            model=_checked_model(model),
            milvus_uri=milvus,
            ports=_ports(ports),
            start_timeout_s=start_timeout,
            tell=say,
        )
    )
    stop_on_signals(stack)
    say("Starting ...")
    for line in surroundings.lines(stack):
        say(line)
    try:
        stack.start()
        print_table(("service", "address"), list(stack.addresses.items()))
        _tell_model(stack)
        say(f"Ready. Data and logs are in {folder}. Ctrl-C stops everything.")
        while not stack.stop_requested.wait(_LOOK_S):
            stack.check()
    except StackError:
        if not stack.stop_requested.is_set():
            raise
    finally:
        stack.stop()
    say("Stopped.")


def _refuse_tls() -> None:
    """Raises CommandError, where the start would wait in vain for services that speak TLS."""
    for name in ("ENCODER_TLS_CERT_FILE", "INDEXER_TLS_CERT_FILE", "QUERY_TLS_CERT_FILE"):
        if os.environ.get(name):
            raise CommandError(
                f"{name} is set, and `glimpse up` speaks plaintext, on this machine only: unset "
                "it, or start the services one by one (docs/operations.md, TLS on one machine)"
            )


def _ports(base: int | None) -> Ports:
    if base is None:
        return Ports()
    return Ports.starting_at(base) if base else Ports.free()


def _checked_model(model: str) -> str:
    """A path made absolute, since the services run in a folder of their own."""
    return os.path.abspath(model) if os.path.isfile(model) else model


def _tell_model(stack: Stack) -> None:
    if (loaded := model_at(stack.addresses["encoder"])) is not None:
        say(f"The model is {loaded.name}, on {loaded.device} in {loaded.precision}.")
    if stack.options.model == bundled_model.NAME:
        bundled_model.tell_at_start()


def stop_on_signals(stack: Stack) -> None:
    """The first signal asks for a stop in order, any further one kills."""

    def handle(number: int, frame: FrameType | None) -> None:
        if stack.stop_requested.is_set():
            stack.send_kill()
        stack.stop_requested.set()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, handle)
