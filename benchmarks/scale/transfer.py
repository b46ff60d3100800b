"""`glimpse export` and `import` beside bare pymilvus: its iterator over the same collection, and
its upserts of as many rows, each when the server has come to rest."""

from __future__ import annotations

import asyncio
import json
import os
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from benchmarks import stacks
from benchmarks.cpu_time import Usage
from benchmarks.scale import world
from benchmarks.scale.stage import Stage
from benchmarks.vectors import entity_of
from glimpse.cli.backup.layout import MANIFEST, part_paths
from services.common.deadline import Deadline
from services.vectors.milvus import schema
from services.vectors.records import ALL_FIELDS

_TO = "scale_to"
_BATCH_ROWS = 1_000  # of bare pymilvus, both ways
_EXPORTED_AGAIN_ROWS = 300_000  # beyond, it takes minutes, and one round says enough
_FILE_MB = 32  # of an export: some of its files are what is imported
_TIMEOUT_S = 600.0
_LOOK_S = 0.2
_MAX_QUIET_S = 120.0
_MILVUS_S = "glimpse_milvus_latency_seconds_sum"


class Transfers:
    """Rounds of all four, ours and bare pymilvus' first in turn: a whole collection is exported, in
    the first round only if it is large, and some of its rows are imported into an empty one that
    `fresh` makes."""

    def __init__(
        self, stage: Stage, collection: str, fresh: Callable[[str], Awaitable[None]]
    ) -> None:
        self._stage = stage
        self._name = collection
        self._fresh = fresh
        self._pids = {"milvus": stage.server.pid, "indexer": stage.indexer_pid}
        self._folder = Path()

    async def measure(self) -> dict[str, Any]:
        """Rows per second of each, by round; the most memory that a command had; milliseconds of a
        row, by process, that the processors took, and that the indexer waited for Milvus; how many
        rows were moved, of how many."""
        settled_s = max(_TIMEOUT_S, self._stage.options.max_wait_s)
        await self._stage.store.settle(self._name, deadline=Deadline(settled_s))
        rows = await self._stage.store.count(self._name, deadline=self._deadline())
        self._folder = Path(tempfile.mkdtemp(prefix="transfer-", dir=stacks.OUTPUT))
        try:
            rounds = [await self._round(n, rows) for n in range(self._stage.options.rounds)]
        finally:
            shutil.rmtree(self._folder)
        await self._stage.store.drop_collection(_TO, deadline=self._deadline())
        return {"rows": rows, "imported": rounds[-1]["imported"], "rounds": rounds}

    async def _round(self, number: int, rows: int) -> dict[str, Any]:
        found: dict[str, Any] = {"processor_ms": {}, "rest": {}, "moved": {}}
        whole, some = self._folder / "whole", self._folder / "some"
        await self._fresh(_TO)
        await self._command(found, "start", 1, "export", _TO, str(self._folder / f"none-{number}"))

        async def export() -> None:
            size = ("--file-mb", str(_FILE_MB))
            await self._command(found, "export", rows, "export", self._name, str(whole), *size)
            found["moved"]["export"] = [_rows_of(whole), rows]

        async def bare_export() -> None:
            await self._bare(found, "bare_export", rows, lambda: self._read_bare(found, rows))

        if number == 0 or rows <= _EXPORTED_AGAIN_ROWS:
            shutil.rmtree(whole, ignore_errors=True)
            await self._in_turn(found, number, {"export": export, "bare_export": bare_export})
        shutil.rmtree(some, ignore_errors=True)
        imported = _first_files(whole, some, self._stage.options.transfer_rows)
        found["imported"] = imported

        async def import_() -> None:
            arguments = ("import", str(some), "-c", _TO, "--incomplete")
            await self._command(found, "import", imported, *arguments)
            there = await self._stage.store.count(_TO, deadline=self._deadline())
            found["moved"]["import"] = [there, imported]

        async def bare_import() -> None:
            await self._bare(found, "bare_import", imported, lambda: self._write_bare(imported))

        await self._in_turn(found, number, {"import": import_, "bare_import": bare_import})
        return found

    async def _in_turn(
        self, found: dict[str, Any], number: int, both: dict[str, Callable[[], Awaitable[None]]]
    ) -> None:
        """Both, the second one first in every other round, each with an empty collection to write
        into, and when the server is at rest."""
        names = list(both)
        for name in names[::-1] if number % 2 else names:
            await self._fresh(_TO)
            found["rest"][name] = await self._rest()
            await both[name]()

    async def _rest(self) -> dict[str, Any]:
        """Waits until no segment is without its index, and the server has next to nothing to do."""
        began_s = time.monotonic()
        is_indexed = await asyncio.to_thread(self._wait_for_index)
        is_quiet = await asyncio.to_thread(stacks.wait_until_quiet, self._pids, _MAX_QUIET_S)
        waited_s = round(time.monotonic() - began_s, 1)
        return {"s": waited_s, "is_indexed": is_indexed, "is_quiet": is_quiet}

    def _wait_for_index(self) -> bool:
        if self._stage.options.store == "lite":  # which builds within a request
            return True
        ends_s = time.monotonic() + min(self._stage.options.max_wait_s, _TIMEOUT_S)
        while time.monotonic() < ends_s:
            index = self._stage.milvus.describe_index(self._name, schema.INDEX_NAME)
            if not index["pending_index_rows"]:
                return True
            time.sleep(1)
        return False

    async def _bare(
        self, found: dict[str, Any], name: str, rows: int, work: Callable[[], tuple[float, float]]
    ) -> None:
        """Its rate goes into `found`, and what a row took of the processors, with the index of what
        was written, which `glimpse import` waits for, too."""
        before = Usage.now(self._pids)
        seconds, busy_s = await asyncio.to_thread(work)
        if name == "bare_import":
            await self._stage.store.settle(_TO, deadline=self._deadline())
        usage = before.until(Usage.now(self._pids), rows)
        usage["caller"] = round(1000 * busy_s / rows, 4)
        found["processor_ms"][name] = usage
        found[f"{name}_per_s"] = round(rows / seconds, 1)

    async def _command(self, found: dict[str, Any], name: str, rows: int, *arguments: str) -> None:
        """Runs the command; its rate, the most memory that it had, in 10^6 bytes, what a row took
        of the processors, with the command's start, and how long the indexer waited for Milvus' go
        into `found`. The start itself is measured as one row."""
        before, own_s = Usage.now(self._pids), _of_children_s()
        waited_s = self._waited_for_milvus_s()
        told, most_mb = await asyncio.to_thread(self._run, *arguments)
        usage = before.until(Usage.now(self._pids), rows)
        usage["caller"] = round(1000 * (_of_children_s() - own_s) / rows, 4)
        found["processor_ms"][name] = usage
        found |= {f"{name}_per_s": told["rows_per_s"], f"{name}_mb": most_mb}
        waited_ms = 1000 * (self._waited_for_milvus_s() - waited_s) / rows
        found[f"{name}_milvus_ms"] = round(waited_ms, 4)

    def _waited_for_milvus_s(self) -> float:
        """All requests of the indexer to Milvus that read or write rows, those at once added."""
        with urllib.request.urlopen(
            f"http://{self._stage.indexer_metrics}/metrics", timeout=10
        ) as answer:
            families = list(text_string_to_metric_families(answer.read().decode()))
        samples = [sample for family in families for sample in family.samples]
        return sum(
            sample.value
            for sample in samples
            if sample.name == _MILVUS_S and sample.labels["operation"] in ("query", "upsert")
        )

    def _write_bare(self, rows: int) -> tuple[float, float]:
        """All of them are made before, or the server would catch up while they are."""
        entities = [
            entity_of(row)
            for first in range(0, rows, world.BLOCK_ROWS)
            for row in world.block_rows(first // world.BLOCK_ROWS)[: rows - first]
        ]
        began_s, began_busy_s = time.perf_counter(), time.process_time()
        for start in range(0, rows, _BATCH_ROWS):
            some = entities[start : start + _BATCH_ROWS]
            self._stage.milvus.upsert(_TO, some, timeout=_TIMEOUT_S)
        return time.perf_counter() - began_s, time.process_time() - began_busy_s

    def _read_bare(self, found: dict[str, Any], rows: int) -> tuple[float, float]:
        count, began_s, began_busy_s = 0, time.perf_counter(), time.process_time()
        iterator = self._stage.milvus.query_iterator(
            self._name, batch_size=_BATCH_ROWS, output_fields=["id", *ALL_FIELDS]
        )
        while batch := iterator.next():
            count += len(list(batch))
        iterator.close()
        found["moved"]["bare_export"] = [count, rows]
        return time.perf_counter() - began_s, time.process_time() - began_busy_s

    def _run(self, *arguments: str) -> tuple[dict[str, Any], float]:
        """What the command says, and the most memory that it had, in 10^6 bytes."""
        command = [sys.executable, "-m", "glimpse.cli.main", *arguments]
        process = subprocess.Popen(
            [*command, "--indexer", self._stage.indexer, "--json"], stdout=subprocess.PIPE
        )
        most_mb = 0.0
        while process.poll() is None:
            most_mb = max(most_mb, _peak_mb(process.pid))
            time.sleep(_LOOK_S)
        assert process.stdout is not None
        if process.returncode:
            raise RuntimeError(f"glimpse {arguments[0]} failed")
        return json.loads(process.stdout.read()), most_mb

    @staticmethod
    def _deadline() -> Deadline:
        return Deadline(_TIMEOUT_S)


def _first_files(whole: Path, some: Path, rows: int) -> int:
    """Links as many files of an export into another folder as have so many rows together; how many
    they have."""
    files = _files(whole)
    some.mkdir()
    linked = 0
    for path in part_paths(whole):
        if linked < rows:
            os.link(path, some / path.name)
            linked += files[path.name]
    return linked


def _files(folder: Path) -> dict[str, int]:
    """Of an export, with their rows."""
    files: dict[str, int] = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))["files"]
    return files


def _rows_of(folder: Path) -> int:
    return sum(_files(folder).values())


def _of_children_s() -> float:
    """Processor seconds of the processes that this one has started, and that have ended."""
    spent = resource.getrusage(resource.RUSAGE_CHILDREN)
    return spent.ru_utime + spent.ru_stime


def _peak_mb(pid: int) -> float:
    """The most memory that a process has had; 0 of one that has ended."""
    try:
        status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    except OSError:
        return 0.0
    kib = re.search(r"VmHWM:\s+(\d+)", status)
    return round(int(kib[1]) * 1024 / 1e6, 1) if kib else 0.0
