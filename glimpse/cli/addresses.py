"""Where the services are: told, or written down by `glimpse up`, or at their usual ports; what
calls to them are protected with is in glimpse.cli.protection."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from glimpse.cli import protection
from glimpse.cli.console import CommandError
from glimpse.cli.ports import DEFAULT_INDEXER, DEFAULT_QUERY

if TYPE_CHECKING:
    from glimpse.client import Client

ADDRESSES_FILE = "addresses.json"
"""What a stack writes into its folder: HOST:PORT by service, and its process id, as long as it
runs."""
DRAFT_FILE = f"{ADDRESSES_FILE}.new"
"""The same while it starts."""

MAX_S = 10.0**6
"""The most that an option takes of seconds: more than anybody waits, and gRPC can count them."""

QueryOption = Annotated[
    str | None,
    typer.Option(
        "--query",
        envvar="GLIMPSE_QUERY",
        metavar="HOST:PORT",
        help=f"The query service; without it, as recorded by `glimpse up`, or {DEFAULT_QUERY}.",
    ),
]
IndexerOption = Annotated[
    str | None,
    typer.Option(
        "--indexer",
        envvar="GLIMPSE_INDEXER",
        metavar="HOST:PORT",
        help=f"The indexer; without it, as recorded by `glimpse up`, or {DEFAULT_INDEXER}.",
    ),
]
DataOption = Annotated[
    Path | None,
    typer.Option(
        "--data",
        envvar="GLIMPSE_DATA",
        metavar="FOLDER",
        help="The folder of a `glimpse up` on this machine.",
        show_default="~/.local/share/glimpse",
    ),
]
TimeoutOption = Annotated[
    float,
    typer.Option(
        "--timeout",
        min=0.1,
        max=MAX_S,
        metavar="SECONDS",
        help="How long to wait.",
    ),
]
CollectionOption = Annotated[
    str, typer.Option("--collection", "-c", metavar="NAME", help="The collection.")
]

DEFAULT_COLLECTION = "images"


def default_data() -> Path:
    """Where `glimpse up` keeps its data unless told otherwise."""
    base = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(base) / "glimpse"


def find(data: Path | None) -> dict[str, str]:
    """Addresses by service as the `glimpse up` of a folder wrote them; {} when none is known.

    Raises CommandError when that is just starting, or a folder is given and none runs on it.
    """
    folder = data or default_data()
    known = published(folder)
    if not known and starting(folder):
        raise CommandError(f"glimpse up is just starting on {folder}: try again when it is ready")
    if not known and data is not None:
        raise CommandError(f"no stack runs on {data}; start one with: glimpse up --data {data}")
    return known


def find_starting(data: Path | None) -> dict[str, str]:
    """The same of a `glimpse up` that is not ready yet; {} where none is starting."""
    folder = data or default_data()
    return {} if published(folder) else starting(folder)


def published(path: Path) -> dict[str, str]:
    """Addresses by service of the stack that runs on a folder; {} when none does.

    What one that was killed has left there is nobody's address.
    """
    return _known(path / ADDRESSES_FILE)


def starting(path: Path) -> dict[str, str]:
    """The same of a stack that has begun on a folder, and is not ready yet."""
    return _known(path / DRAFT_FILE)


def _known(file: Path) -> dict[str, str]:
    try:
        known = {name: str(value) for name, value in json.loads(file.read_text()).items()}
        return known if _is_alive(int(known["pid"])) else {}
    except (OSError, ValueError, KeyError, AttributeError):
        return {}


def _is_alive(pid: int) -> bool:
    if sys.platform == "win32":  # there, nobody could have written it
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def connect(
    query: str | None,
    indexer: str | None,
    data: Path | None,
    timeout_s: float = 10.0,
    patience_s: float = 0.0,
) -> Client:
    """A client for the services; what is told goes before what was written down.

    "" stands for a service that is not going to be called. The indexer is asked again for
    `patience_s` while it is away.
    """
    with _silent_grpc():
        # gRPC is loaded when a call is made, not for a help text.
        from glimpse.cli.patience import PatientClient

    known = find(data) if query is None or indexer is None else {}
    told = protection.chosen()
    client = PatientClient(
        query or known.get("query", DEFAULT_QUERY),
        indexer or known.get("indexer", DEFAULT_INDEXER),
        timeout_s=timeout_s,
        tls_ca=told.tls_ca,
        tls_cert=told.tls_cert,
        tls_key=told.tls_key,
        token=told.token,
    )
    client.patience_s = patience_s
    return client


@contextmanager
def _silent_grpc() -> Iterator[None]:
    """gRPC, if it is loaded meanwhile, prints nothing: of a handshake that failed it has five
    lines, where the client's error has one sentence."""
    if "GRPC_VERBOSITY" in os.environ:
        yield
        return
    os.environ["GRPC_VERBOSITY"] = "NONE"
    try:
        yield
    finally:
        del os.environ["GRPC_VERBOSITY"]  # processes that are started later tell all
