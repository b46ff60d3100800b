"""Three figures about folders: memory of a walk over a million entries, files that a second sync
looks at in a second, and pictures from a distant object store beside those from local disk.

Part of `make corpus`; alone: python -m tests.corpus.folder_figures --only walk sync store
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import hashlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from benchmarks import machine, stacks
from benchmarks.report import Bar, Figure, Report
from benchmarks.weights import random_vit_b_32
from demo import pictures
from glimpse import Client, ImageFile, Outcome
from glimpse.cli.local.stack import Stack, StackOptions
from glimpse.cli.ports import Ports
from glimpse.indexer.v1 import indexer_pb2 as pb
from services.common.deadline import Deadline
from services.vectors.metadata import Metadata
from services.vectors.milvus.store import MilvusStore
from services.vectors.records import Row
from tests.backends import MilvusServer
from tests.corpus.object_store import object_store
from tests.scripted import Indexer, serve

_ENTRIES, _PER_FOLDER, _SOURCES = 1_000_000, 1_000, 20
_OTHERS = 10  # files for each picture, and itself; they are passed over
_SYNCED = 100_000
_DELAY_S = 0.1  # of the object store, for each object
_STORED = 300  # objects
_LOOK_S = 0.05
_ROWS_AT_ONCE = 2_000
_COLLECTION = "synced"


def walk_figures(entries: int) -> list[Figure]:
    """The most memory that `glimpse index` takes over so many entries, in MB (10^6 bytes), and how
    soon it has sent the first picture."""
    with tempfile.TemporaryDirectory() as folder, _indexer() as (target, first):
        _fill(Path(folder), entries)
        _glimpse("index", str(Path(folder, "source-0.jpg")), "--indexer", target).wait(60)
        first.clear()  # of the run before, which has left Python's compiled modules
        started_s = time.monotonic()
        process = _glimpse("index", folder, "--indexer", target)
        most_bytes = 0
        while process.poll() is None:
            most_bytes = max(most_bytes, _most_bytes(process.pid))
            time.sleep(_LOOK_S)
        seconds = time.monotonic() - started_s
    if process.returncode:
        raise RuntimeError(f"glimpse index ended with {process.returncode}")
    return [
        Figure(
            "walk_rss_mb",
            f"memory of glimpse index over {entries:,} entries, in MB",
            round(most_bytes / 1e6, 1),
            Bar("at most", 200),
        ),
        Figure("walk_s", "how long it took, in seconds", round(seconds, 1)),
        Figure(
            "walk_first_s",
            "seconds until the first picture was sent",
            round(first[0] - started_s, 2),
            Bar("at most", 1),
        ),
    ]


def _most_bytes(pid: int) -> int:
    """The most memory that a process has had; what wait4 says counts what it was forked from."""
    with contextlib.suppress(OSError, StopIteration):
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        return 1024 * int(next(line for line in lines if line.startswith("VmHWM")).split()[1])
    return 0


def _fill(folder: Path, entries: int) -> None:
    """So many files, a tenth of them pictures: names of few files, to fit on a disk."""
    sources = [folder / f"source-{number}.jpg" for number in range(_SOURCES)]
    for number, source in enumerate(sources):
        source.write_bytes(b"%d" % number * 1_000)
    links = 0
    for start in range(0, entries, _PER_FOLDER):
        parent = folder / f"{start // 100_000:02}" / f"{start:07}"
        parent.mkdir(parents=True)
        for number in range(start, min(start + _PER_FOLDER, entries)):
            ending = "jpg" if number % _OTHERS == 0 else "xmp"
            links += 1
            os.link(sources[links % _SOURCES], parent / f"IMG_{number:07}.{ending}")


@contextlib.contextmanager
def _indexer() -> Iterator[tuple[str, list[float]]]:
    """A stand-in that acknowledges all; its target, and when the first picture came."""
    came: list[float] = []

    class Acknowledging(Indexer):
        def IndexImages(self, request_iterator, context):
            next(request_iterator)
            for request in request_iterator:
                if not came:
                    came.append(time.monotonic())
                yield pb.IndexImagesResponse(
                    acknowledgement=pb.Acknowledgement(
                        sequence=request.image.sequence, id="x", outcome=pb.OUTCOME_INDEXED
                    )
                )

    with serve(indexer=Acknowledging()) as target:
        yield target, came


def _glimpse(*arguments: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "glimpse.cli.main", *arguments]
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": ""}
    return subprocess.Popen(command, env=environment)


def sync_figures(files: int, store: str) -> list[Figure]:
    """Files that a sync looks at in a second, all of them as before, rows read from a store."""
    with tempfile.TemporaryDirectory() as made, _stack(Path(made), store) as stack:
        folder = Path(made, "pictures")
        asyncio.run(_fill_synced(stack, folder, files))
        started_s = time.monotonic()
        command = [sys.executable, "-m", "glimpse.cli.main", "sync", str(folder), "--json"]
        command += ["--collection", _COLLECTION, "--indexer", stack.indexer]
        told = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
        seconds = time.monotonic() - started_s
    if told["as_before"] != files:
        raise RuntimeError(f"of {files} files {told} were as before")
    bar = Bar("at least", 5_000) if store == "milvus" else None
    meaning = f"files/s of a second sync of {files:,} unchanged files, rows in {store}"
    key = "sync_files_per_s" if bar else f"sync_files_per_s_{store}"
    return [Figure(key, meaning, round(files / seconds), bar)]


async def _fill_synced(stack: Stack, folder: Path, files: int) -> None:
    """Empty files, and the rows that a sync of them would have written."""
    with Client(stack.query, stack.indexer, timeout_s=60) as client:
        dimension = client.create_collection(_COLLECTION).dimension
    rng = np.random.default_rng(7)
    rows_store = MilvusStore(stack.milvus_uri)
    for start in range(0, files, _ROWS_AT_ONCE):
        vectors = rng.normal(size=(_ROWS_AT_ONCE, dimension)).astype(np.float32)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        rows = []
        for number, vector in zip(range(start, start + _ROWS_AT_ONCE), vectors, strict=True):
            path = folder / f"{number // 1_000:03}" / f"IMG_{number:06}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
            changed_ms = path.stat().st_mtime_ns // 10**6
            sha256 = hashlib.sha256(b"%d" % number).hexdigest()
            mark = {"root": str(folder), "size": 0, "changed_ms": changed_ms}
            metadata = Metadata.of({"glimpse": mark})
            rows.append(Row(sha256[:32], vector, str(path), sha256, 40, 30, "JPEG", 1, metadata))
        await rows_store.upsert(_COLLECTION, rows, deadline=Deadline(60))
    await rows_store.settle(_COLLECTION, deadline=Deadline(300))
    await rows_store.close()


def object_store_figures(rounds: int) -> list[Figure]:
    """Pictures a second from an object store that takes 100 ms for each, by those from local disk;
    medians of rounds side by side. The model is of the default one's size: the bundled one asks
    for so many that store and client, on the same processors, take from it what they need."""
    with (
        tempfile.TemporaryDirectory() as made,
        stacks.running_store("lite") as milvus_uri,
        stacks.running_stack(milvus_uri, random_vit_b_32(stacks.OUTPUT)) as stack,
        Client(stack.query, stack.indexer, timeout_s=60) as client,
    ):
        drawn = pictures.collection(Path(made, "drawn"))[:_STORED]
        for _ in pictures.draw_missing(drawn):
            pass
        paths = [picture.path for picture in drawn]
        local = [ImageFile(path=path) for path in paths]
        with object_store(paths[0].parent, _DELAY_S) as url:
            remote = [ImageFile(url=f"{url}/{path.name}") for path in paths]
            rates: dict[str, list[float]] = {"local": [], "remote": []}
            _rate(client, "warm", local)
            for number in range(rounds):
                rates["local"].append(_rate(client, f"local_{number}", local))
                rates["remote"].append(_rate(client, f"remote_{number}", remote))
    meaning = "pictures/s from an object store with 100 ms for each, by those from local disk"
    bar = Bar("at least", 0.9)
    return [
        Figure.ratio("object_store_share", meaning, rates["remote"], rates["local"], bar),
        Figure("local_images_per_s", "from local disk", round(statistics.median(rates["local"]))),
    ]


def _rate(client: Client, collection: str, images: list[ImageFile]) -> float:
    """Pictures a second, from the first call to the last acknowledgement."""
    started_s = time.monotonic()
    with client.index(collection, images) as ingest:
        outcomes = [acknowledgement.outcome for acknowledgement in ingest]
    if outcomes.count(Outcome.INDEXED) != len(images):
        raise RuntimeError("not every picture was indexed")
    return len(images) / (time.monotonic() - started_s)


@contextlib.contextmanager
def _stack(folder: Path, store: str) -> Iterator[Stack]:
    with contextlib.ExitStack() as stack:
        uri = None
        if store == "milvus":
            server = MilvusServer(folder / "milvus")
            stack.callback(server.stop)
            server.start()
            uri = server.uri
        options = StackOptions(data=folder / "data", milvus_uri=uri, ports=Ports.free())
        yield stack.enter_context(Stack(options))


def all_figures(
    only: Sequence[str] = ("walk", "sync", "store"),
    entries: int = _ENTRIES,
    files: int = _SYNCED,
    store: str = "milvus",
    rounds: int = 3,
) -> list[Figure]:
    """The figures, one after another."""
    figures: list[Figure] = []
    if "walk" in only:
        figures += walk_figures(entries)
    if "sync" in only:
        figures += sync_figures(files, store)
    if "store" in only:
        figures += object_store_figures(rounds)
    return figures


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="*", choices=("walk", "sync", "store"))
    parser.add_argument("--entries", type=int, default=_ENTRIES)
    parser.add_argument("--files", type=int, default=_SYNCED)
    parser.add_argument("--store", default="milvus", choices=("lite", "milvus"))
    parser.add_argument("--rounds", type=int, default=3)
    options = vars(parser.parse_args())
    report = Report("folders", "python -m tests.corpus.folder_figures", machine.describe())
    report.figures += all_figures(**{name: value for name, value in options.items() if value})
    report.write(stacks.OUTPUT / "folders.json")
    print(report.table())
    return 0 if all(figure.is_met is not False for figure in report.figures) else 1


if __name__ == "__main__":
    sys.exit(main())
