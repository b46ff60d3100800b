"""What a store does while its Milvus is down, frozen or just back."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import socket
import subprocess
import time

import pytest
from prometheus_client import CollectorRegistry

from glimpse.cli.ports import free_ports
from glimpse.errors import DeadlineExceeded, FailedPrecondition, GlimpseError, Unavailable
from services.common.deadline import Deadline
from services.vectors.milvus.metrics import MilvusMetrics
from services.vectors.milvus.store import MilvusStore
from tests.backends import MilvusLite
from tests.contract.conftest import T, axis, between, picture, process_of, spec
from tests.waiting import until_answered

BACK_S = 90.0
LATE = picture("late", -axis(0), uri="unflushed")


@pytest.fixture(params=["lite", "milvus"])
def process(request, tmp_path_factory):
    """A Milvus of the test's own; not started."""
    process = process_of(request.param, tmp_path_factory)
    yield process
    process.kill()
    shutil.rmtree(process.directory)


@pytest.fixture
def registry():
    return CollectorRegistry()


@pytest.fixture
async def store(process, registry):
    process.start()
    store = MilvusStore(process.uri, metrics=MilvusMetrics(registry))
    await store.ready(deadline=Deadline(BACK_S))
    yield store
    await store.close()


async def best(store, name="pictures", timeout_s=T) -> str:
    (hits,) = await store.search(
        name, axis(0)[None], 1, consistency="strong", deadline=Deadline(timeout_s)
    )
    return hits[0].id


def reasons(registry, operation):
    """How requests of that kind have ended."""
    return {
        sample.labels["reason"]
        for metric in registry.collect()
        for sample in metric.samples
        if sample.name.endswith("_count") and sample.labels["operation"] == operation
    }


async def once_back(call):
    """The result of `call()` once it succeeds, with no more help than trying again."""
    expected = (Unavailable, DeadlineExceeded)
    return await until_answered(call, lambda error: isinstance(error, expected), BACK_S)


async def test_milvus_may_freeze_and_restart_and_nothing_is_lost(process, store, registry):
    await store.create_collection(spec("pictures", model_name="ViT"), deadline=Deadline(T))
    rows = [picture("best"), *(picture(f"{i}", between(0.5), uri=f"u{i}") for i in range(200))]
    await store.upsert("pictures", rows, deadline=Deadline(T))
    await store.settle("pictures", deadline=Deadline(T))
    await store.upsert("pictures", [LATE], deadline=Deadline(T))
    before = await store.describe_collection("pictures", deadline=Deadline(T))

    process.freeze()
    await _fails_in_time(store, within_s=1.0)
    process.thaw()
    # A Milvus that hangs is told from callers who leave: that is what the alert goes by.
    ended = reasons(registry, "list_collections")
    assert "DEADLINE_EXCEEDED" in ended
    assert "CANCELLED" not in ended
    assert await once_back(lambda: best(store)) == "best"

    for end in (process.stop, process.kill):
        end()
        await _fails_in_time(store, within_s=1.0)
        process.start()
        searches = [once_back(lambda: best(store, timeout_s=10)) for _ in range(5)]
        assert await asyncio.gather(*searches) == ["best"] * 5
        after = await once_back(
            lambda: store.describe_collection("pictures", deadline=Deadline(10))
        )
        assert (after.rows, after.model_name, after.model_fingerprint, after.created_at_ms) == (
            202,
            "ViT",
            before.model_fingerprint,
            before.created_at_ms,
        )
        fetched = await store.fetch("pictures", ["late", "7"], ["uri"], deadline=Deadline(T))
        assert fetched == {"late": {"uri": "unflushed"}, "7": {"uri": "u7"}}
        await store.upsert("pictures", [LATE], deadline=Deadline(T))


async def _fails_in_time(store, within_s: float) -> None:
    """Every kind of call ends at its time, as one that may be tried again; without one it takes a
    minute.

    What was sent to a frozen Milvus may still be done once it thaws, so the writes change nothing.
    """
    deadline = Deadline(within_s)
    calls = (
        best(store, timeout_s=within_s),
        store.count("pictures", deadline=deadline),
        store.upsert("pictures", [LATE], deadline=deadline),
        store.fetch("pictures", ["late"], [], deadline=deadline),
        store.delete_ids("pictures", ["absent"], deadline=deadline),
        store.settle("pictures", deadline=deadline),
        store.describe_collection("pictures", deadline=deadline),
        store.ready(deadline=deadline),
    )
    for error in await asyncio.gather(*calls, return_exceptions=True):
        assert isinstance(error, (Unavailable, DeadlineExceeded))
    assert time.monotonic() < deadline.at_s + 15


@pytest.fixture
def on_small_disk(tmp_path):
    """A Milvus Lite whose disk a file can fill; not started."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(disk)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("mounting a small disk needs root")
    process = MilvusLite(disk)
    yield process
    process.kill()
    subprocess.run(["umount", "--lazy", str(disk)], check=True)


async def test_a_full_disk_takes_no_row_from_milvus_lite_that_it_has_acknowledged(on_small_disk):
    process, ballast = on_small_disk, on_small_disk.directory / "ballast"
    process.start()
    store = MilvusStore(process.uri)
    await store.ready(deadline=Deadline(BACK_S))
    await store.create_collection(spec("pictures"), deadline=Deadline(T))
    rows = [picture(f"{number}", between(0.5)) for number in range(500)]
    await store.upsert("pictures", rows, deadline=Deadline(T))
    with ballast.open("wb") as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(2**16))
            file.flush()
    with pytest.raises(FailedPrecondition) as full:
        await store.settle("pictures", deadline=Deadline(T))
    assert full.value.reason == "MILVUS_LITE_DISK_FULL"
    ballast.unlink()
    # Were it to write on now, Milvus Lite would delete the log that these rows are in.
    with pytest.raises(FailedPrecondition):
        await store.upsert("pictures", [LATE], deadline=Deadline(T))
    with pytest.raises(FailedPrecondition):
        await store.settle("pictures", deadline=Deadline(T))
    await store.close()
    process.stop()
    process.start()
    store = MilvusStore(process.uri)
    await store.ready(deadline=Deadline(BACK_S))
    assert await store.count("pictures", deadline=Deadline(T)) == len(rows)
    await store.close()


async def test_ready_waits_for_a_milvus_that_starts_late(tmp_path):
    process = MilvusLite(tmp_path)
    store = MilvusStore(process.uri)
    waiting = asyncio.create_task(store.ready(deadline=Deadline(BACK_S)))
    with pytest.raises(Unavailable):
        await store.list_collections(deadline=Deadline(T))
    assert not waiting.done()
    process.start()
    try:
        await waiting
        assert await store.list_collections(deadline=Deadline(T)) == []
    finally:
        await store.close()
        process.stop()


async def test_connecting_to_a_milvus_that_hangs_ends_at_the_callers_deadline(registry):
    """And counts as Milvus' silence, not as a caller who left."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        uri = f"http://127.0.0.1:{silent.getsockname()[1]}"
        store = MilvusStore(uri, metrics=MilvusMetrics(registry))
        with pytest.raises(DeadlineExceeded):
            await store.count("pictures", deadline=Deadline(0.3))
        assert reasons(registry, "describe_collection") == {"DEADLINE_EXCEEDED"}
        await store.close()


async def test_nobody_there_is_unavailable_and_not_a_wait():
    store = MilvusStore(f"http://127.0.0.1:{free_ports(1)[0]}")
    started_at = time.monotonic()
    with pytest.raises(Unavailable) as raised:
        await store.search("pictures", axis(0)[None], 1, deadline=Deadline(T))
    assert time.monotonic() - started_at < 15
    assert isinstance(raised.value, GlimpseError)
    assert raised.value.retry_after_s
    with pytest.raises(Unavailable, match="not ready"):
        await store.ready(deadline=Deadline(0.5))
    await store.close()
