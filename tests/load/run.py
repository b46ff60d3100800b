"""`make load`: the services under load by ghz, each configuration held against its gate.

Starts a stack of its own with the bundled model and 20,000 vectors, or, with --query, --indexer and
--encoder, takes one that runs. Exits with 1 when a gate fails, with 3 when ghz is not here.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import platform
import sys
from collections.abc import Iterator, Mapping
from datetime import date
from pathlib import Path
from typing import Any

import grpc

from benchmarks import stacks, vectors
from benchmarks.report import Report
from glimpse.cli.console import say
from glimpse.cli.local.stack import Stack
from glimpse.client import Client
from glimpse.encoder.v1 import encoder_pb2, encoder_pb2_grpc
from glimpse.errors import AlreadyExists
from glimpse.results import ImageFile
from services.common.cpus import usable_cpus
from tests import programs
from tests.load import bodies, ghz
from tests.load.suite import NAMES, Suite, SuiteOptions

OUTPUT = Path("build/load")
GATE_FAILED, NO_GHZ = 1, 3
SERVICES = ("encoder", "indexer", "query")
_MODEL = "demo"


@contextlib.contextmanager
def filled_stack(store: str, rows: int, model: Path | str = _MODEL) -> Iterator[Stack]:
    """A store of that kind with `rows` clustered vectors; the services with the bundled model, or
    another."""
    with stacks.running_store(store) as uri, stacks.running_stack(uri, model) as stack:
        model = model_of(stack.addresses["encoder"])
        with Client(stack.query, stack.indexer, timeout_s=60) as client:
            client.create_collection(bodies.COLLECTION)
        say(f"Inserting {rows:,} vectors ...")
        vectors.insert(uri, bodies.COLLECTION, vectors.clustered(rows, model.dimension, seed=1))
        yield stack


def fill_running(addresses: Mapping[str, str], rows: int) -> None:
    """Indexes so many pictures through the indexer, where the store itself is out of reach."""
    say(f"Indexing {rows:,} pictures ...")
    images = (
        ImageFile(content=content, id=str(number), uri=f"image/{number}")
        for number, content in zip(range(rows), bodies.jpegs(seed=1), strict=False)
    )
    with Client(addresses["query"], addresses["indexer"], timeout_s=60) as client:
        with contextlib.suppress(AlreadyExists):
            client.create_collection(bodies.COLLECTION)
        for acknowledgement in client.index(bodies.COLLECTION, images):
            if acknowledgement.error is not None:
                raise RuntimeError(f"a picture was not indexed: {acknowledgement}")


def model_of(encoder: str) -> encoder_pb2.Model:
    """What the encoder at this address has loaded."""
    with grpc.insecure_channel(encoder) as channel:
        stub = encoder_pb2_grpc.EncoderStub(channel)
        return stub.GetModel(encoder_pb2.GetModelRequest(), timeout=60).model


def describe_machine() -> dict[str, Any]:
    """As the benchmarks do; where torch is missing, without the matrix-product rates."""
    if importlib.util.find_spec("torch") is None:
        return {
            "processor": platform.machine(),
            "cores": usable_cpus(),
            "instruction_sets": [],
            "gflops_fp32": float("nan"),
            "date": date.today().isoformat(),
        }
    from benchmarks import machine

    return machine.describe()


def main(arguments: list[str] | None = None) -> int:
    """Returns the exit code; the table and the files in build/load say the rest."""
    options = _options(arguments)
    if programs.find(ghz.PROGRAM) is None:
        print(programs.missing(ghz.PROGRAM), file=sys.stderr)
        return NO_GHZ
    stacks.end_on_sigterm()
    output = options.output.absolute()
    where = "running" if options.query else options.store
    command = "make load" + ("" if options.store == "lite" else f" STORE={options.store}")
    report = Report(f"load-{where}", command, describe_machine())
    with contextlib.ExitStack() as running:
        if options.query:
            addresses = {name: getattr(options, name) for name in SERVICES}
            fill_running(addresses, options.rows)
        else:
            stack = running.enter_context(filled_stack(options.store, options.rows))
            addresses = stack.addresses
        world = bodies.World(options.rows, model_of(addresses["encoder"]).image_size)
        suite = Suite(
            addresses,
            SuiteOptions(
                output / where, world, options.store, options.seconds, options.by == "proto"
            ),
        )
        say("Loading ...")
        suite.run(options.only or NAMES)
    report.figures = suite.figures
    report.details = {"options": {k: str(v) for k, v in sorted(vars(options).items())}}
    report.write(output / f"{report.name}.json")
    print(report.table())
    return GATE_FAILED if any(figure.is_met is False for figure in report.figures) else 0


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.load.run", description=__doc__)
    parser.add_argument("--store", choices=stacks.STORES, default="lite")
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--seconds", type=float, default=0.0, help="of each; 0: as they say")
    parser.add_argument("--only", nargs="*", choices=NAMES, help="some of the configurations")
    parser.add_argument("--by", choices=("reflection", "proto"), default="reflection")
    parser.add_argument("--output", type=Path, default=OUTPUT, help="folder of the reports")
    for service in SERVICES:
        parser.add_argument(f"--{service}", default="", help="HOST:PORT of one that runs")
    options = parser.parse_args(arguments)
    given = [bool(getattr(options, service)) for service in SERVICES]
    if any(given) and not all(given):
        parser.error("give all of --encoder, --indexer and --query, or none")
    return options


if __name__ == "__main__":
    raise SystemExit(main())
