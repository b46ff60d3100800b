"""`glimpse export` and `import` beside bare pymilvus: its iterator over the same collection, and
its upserts of the same rows."""

from __future__ import annotations

import asyncio
import json
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks import stacks
from benchmarks.cpu_time import Usage
from benchmarks.scale import world
from benchmarks.vectors import entity_of
from services.common.deadline import Deadline
from services.vectors.records import ALL_FIELDS

if TYPE_CHECKING:
    from benchmarks.scale.steps import Stage

_FROM, _TO = "scale_from", "scale_to"
_BATCH_ROWS = 1_000  # of bare pymilvus, both ways
_TIMEOUT_S = 600.0
_LOOK_S = 0.2


class Transfers:
    """Rounds of all four, each on the same rows; `fresh` makes an empty collection."""

    def __init__(self, stage: Stage, fresh: Callable[[str], Awaitable[None]]) -> None:
        self._stage = stage
        self._fresh = fresh
        self._rows = stage.options.transfer_rows
        self._pids = {"milvus": stage.server.pid, "indexer": stage.indexer_pid}

    async def measure(self) -> dict[str, Any]:
        """Rows per second of each, by round, the most memory that a command had, and processor
        milliseconds of a row by process."""
        rounds = [await self._round() for _ in range(self._stage.options.rounds)]
        for name in (_FROM, _TO):
            await self._stage.store.drop_collection(name, deadline=Deadline(_TIMEOUT_S))
        return {"rows": self._rows, "rounds": rounds}

    async def _round(self) -> dict[str, Any]:
        await self._fresh(_FROM)
        await self._fresh(_TO)
        found: dict[str, Any] = {"processor_ms": {}}
        found["bare_import_per_s"] = await self._bare(found, "import", self._write_bare, _FROM)
        await asyncio.to_thread(stacks.wait_until_idle)
        found["bare_export_per_s"] = await self._bare(found, "export", self._read_bare)
        folder = Path(tempfile.mkdtemp(dir=stacks.OUTPUT))
        try:
            await self._command(found, "start", "export", _TO, str(folder / "none"))
            await self._command(found, "export", "export", _FROM, str(folder / "rows"))
            await self._command(found, "import", "import", str(folder / "rows"), "-c", _TO)
        finally:
            shutil.rmtree(folder)
        count = await self._stage.store.count(_TO, deadline=Deadline(_TIMEOUT_S))
        if count != self._rows:
            raise RuntimeError(f"{count} rows have arrived, not {self._rows}")
        return found

    async def _bare(
        self,
        found: dict[str, Any],
        way: str,
        work: Callable[[], tuple[float, float]],
        written: str = "",
    ) -> float:
        """Rows per second; what a row took of the processors goes into `found`, with the index of
        what was written, which `glimpse import` waits for, too."""
        before = Usage.now(self._pids)
        seconds, busy_s = await asyncio.to_thread(work)
        if written:
            await self._stage.store.settle(written, deadline=Deadline(_TIMEOUT_S))
        usage = before.until(Usage.now(self._pids), self._rows)
        usage["caller"] = round(1000 * busy_s / self._rows, 3)
        found["processor_ms"][f"bare_{way}"] = usage
        return round(self._rows / seconds, 1)

    async def _command(self, found: dict[str, Any], name: str, *arguments: str) -> None:
        """Runs the command; its rate, the most memory that it had, in 10^6 bytes, and what a row
        took of the processors, with the command's start, go into `found`."""
        before, own_s = Usage.now(self._pids), _of_children_s()
        told, most_mb = await asyncio.to_thread(self._run, *arguments)
        usage = before.until(Usage.now(self._pids), self._rows)
        usage["caller"] = round(1000 * (_of_children_s() - own_s) / self._rows, 3)
        found["processor_ms"][name] = usage
        found |= {f"{name}_per_s": told["rows_per_s"], f"{name}_mb": most_mb}

    def _write_bare(self) -> tuple[float, float]:
        seconds = busy_s = 0.0
        for block in range(self._rows // world.BLOCK_ROWS):
            entities = [entity_of(row) for row in world.block_rows(block)]
            began_s, began_busy_s = time.perf_counter(), time.process_time()
            for start in range(0, len(entities), _BATCH_ROWS):
                some = entities[start : start + _BATCH_ROWS]
                self._stage.milvus.upsert(_FROM, some, timeout=_TIMEOUT_S)
            seconds += time.perf_counter() - began_s
            busy_s += time.process_time() - began_busy_s
        return seconds, busy_s

    def _read_bare(self) -> tuple[float, float]:
        count, began_s, began_busy_s = 0, time.perf_counter(), time.process_time()
        iterator = self._stage.milvus.query_iterator(
            _FROM, batch_size=_BATCH_ROWS, output_fields=["id", *ALL_FIELDS]
        )
        while batch := iterator.next():
            count += len(list(batch))
        iterator.close()
        if count != self._rows:
            raise RuntimeError(f"the iterator gave {count} rows, not {self._rows}")
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
