"""The processes that decode: turns, bounds, and what happens when one of them ends."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import gc
import io
import os
import signal
import struct
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from PIL import Image

from glimpse.errors import InvalidImage, Unavailable
from glimpse.pictures import preprocess
from glimpse.pictures.bounds import IMAGE_TOO_COMPLEX
from glimpse.pictures.files import IMAGE_TOO_LARGE
from glimpse.pictures.preprocessing import Preprocessing
from services.common import decode_workers
from services.common.decode_worker import SMALL_PIXELS
from services.common.decode_workers import DecodeWorkers
from services.indexer.settings import IndexerSettings
from tests.waiting import until, wait_until

SEEN = Preprocessing(32)
LARGE_PIXELS = 2_000 * 2_000
ROOT = Path(__file__).parents[2]

PARENT = """
import asyncio
from services.common.decode_workers import DecodeWorkers
from services.indexer.settings import IndexerSettings
async def main():
    workers = DecodeWorkers(IndexerSettings())
    workers.start()
    await asyncio.Event().wait()
asyncio.run(main())
"""


def picture(shade: int = 0, width: int = 60, height: int = 40, file_format: str = "PNG") -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (width, height), (shade, 0, 0)).save(file, file_format)
    return file.getvalue()


def noise(width: int, height: int) -> bytes:
    file = io.BytesIO()
    Image.effect_noise((width, height), 90).save(file, "PNG")
    return file.getvalue()


@functools.cache
def slow_large() -> bytes:
    """Takes a worker a second, and its file little to make."""
    file = io.BytesIO()
    Image.new("I;16", (7_000, 7_000)).save(file, "PNG", compress_level=1)
    return file.getvalue()


LARGE = picture(width=2_000, height=2_000)


@contextlib.asynccontextmanager
async def opened(**settings) -> AsyncIterator[DecodeWorkers]:
    workers = DecodeWorkers(IndexerSettings(**settings))
    try:
        yield workers
    finally:
        for pid in children():  # what a test has stopped ends, too
            os.kill(pid, signal.SIGCONT)
        await workers.close()
        assert children() == set()


def children(parent: int | None = None) -> set[int]:
    """The decode workers of a process, of this one by default."""
    pids = set()
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            status = (folder / "stat").read_text()
            fields = status.rpartition(")")[2].split()
            command = (folder / "cmdline").read_bytes()
            if int(fields[1]) == (parent or os.getpid()) and b"decode_worker" in command:
                pids.add(int(folder.name))
    return pids


def read(path: str) -> bytes:
    return Path(path).read_bytes()


async def until_one_decodes_a_large_one() -> int:
    """Returns the process: it has a thread for that."""

    def decoding() -> list[int]:
        return [pid for pid in children() if len(os.listdir(f"/proc/{pid}/task")) > 1]

    await until(decoding)
    return decoding()[0]


async def test_pixels_are_those_of_preprocess():
    content = noise(300, 200)
    async with opened() as workers:
        decoded = await workers.decode(content, SEEN, "caller")
        expected = preprocess.decode(content, SEEN, 10**6)
        assert (decoded.pixels == expected.pixels).all()
        assert decoded.pixels.flags.c_contiguous
        assert decoded.pixels.shape == (32, 32, 3)
        assert (decoded.width, decoded.height, decoded.format) == (300, 200, "PNG")


async def test_a_refusal_is_that_of_preprocess():
    async with opened(max_image_pixels=2_399) as workers:
        for content in (b"", b"no picture", picture()[:-20], picture()):
            with pytest.raises(InvalidImage) as expected:
                preprocess.decode(content, SEEN, 2_399)
            with pytest.raises(InvalidImage) as caught:
                await workers.decode(content, SEEN, "caller")
            assert str(caught.value) == str(expected.value)
            assert caught.value.reason == expected.value.reason


async def test_callers_take_turns():
    order = []

    async def decode(name: str) -> None:
        await workers.decode(picture(), SEEN, name[0])
        order.append(name)

    async with opened(decode_workers=1) as workers:
        await asyncio.gather(*map(decode, ("a1", "a2", "a3", "b1", "c1", "c2")))
    assert order == ["a1", "b1", "c1", "a2", "c2", "a3"]


async def test_what_a_caller_who_leaves_had_waiting_is_forgotten():
    async with opened(decode_workers=1) as workers:
        waiting = asyncio.gather(*(workers.decode(picture(), SEEN, "caller") for _ in range(20)))
        await asyncio.sleep(0)
        assert workers._small
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert not workers._small
        assert (await workers.decode(picture(), SEEN, "caller")).width == 60


async def test_a_refused_picture_leaves_no_garbage_that_holds_its_file():
    content = bytes(1_000)
    before = sys.getrefcount(content)
    gc.disable()
    try:
        async with opened() as workers:
            with contextlib.suppress(InvalidImage):
                await workers.decode(content, SEEN, "caller")
        assert sys.getrefcount(content) == before
    finally:
        gc.enable()


async def test_a_picture_that_takes_too_long_is_refused_and_its_worker_replaced(monkeypatch):
    monkeypatch.setattr(decode_workers, "max_cpu_s", lambda pixels: 0.001)
    slow = noise(1_400, 1_400)
    async with opened(decode_workers=1) as workers:
        with pytest.raises(InvalidImage, match=r"not decoded within 0\.0 s of CPU") as caught:
            await workers.decode(slow, SEEN, "caller")
        assert caught.value.reason == IMAGE_TOO_COMPLEX
        monkeypatch.undo()
        assert (await workers.decode(picture(), SEEN, "caller")).width == 60


async def test_a_picture_that_takes_too_much_memory_is_refused(monkeypatch):
    monkeypatch.setattr(decode_workers, "_MARGIN_BYTES", 12 * 2**20)  # a thread takes 8
    add_large = DecodeWorkers._add_large

    def add_as_if_it_took_nothing(self, job, picture):
        add_large(self, job, picture._replace(memory_bytes=0))

    monkeypatch.setattr(DecodeWorkers, "_add_large", add_as_if_it_took_nothing)
    async with opened() as workers:
        with pytest.raises(InvalidImage, match="more memory than its pixels can need") as caught:
            await workers.decode(LARGE, SEEN, "caller")
        assert caught.value.reason == IMAGE_TOO_COMPLEX
        assert (await workers.decode(picture(), SEEN, "caller")).width == 60


async def test_a_picture_outlives_the_worker_that_is_killed_at_it():
    async with opened(decode_workers=1) as workers:
        await workers.decode(picture(), SEEN, "caller")
        (pid,) = children()
        os.kill(pid, signal.SIGSTOP)
        waiting = asyncio.create_task(workers.decode(picture(), SEEN, "caller"))
        await asyncio.sleep(0)
        os.kill(pid, signal.SIGKILL)
        assert (await waiting).width == 60
        assert pid not in children()


async def test_a_picture_whose_workers_are_killed_again_and_again_may_be_sent_again():
    async with opened(decode_workers=1) as workers:
        await workers.decode(picture(), SEEN, "caller")
        large = asyncio.create_task(workers.decode(slow_large(), SEEN, "caller"))
        os.kill(first := await until_one_decodes_a_large_one(), signal.SIGKILL)
        await until(lambda: first not in children())
        os.kill(await until_one_decodes_a_large_one(), signal.SIGKILL)
        with pytest.raises(Unavailable, match="was killed, 2 times"):
            await large
        assert (await workers.decode(picture(), SEEN, "caller")).width == 60


async def test_a_picture_that_crashes_its_workers_is_refused():
    async with opened(decode_workers=1) as workers:
        await workers.decode(picture(), SEEN, "caller")
        large = asyncio.create_task(workers.decode(slow_large(), SEEN, "caller"))
        os.kill(first := await until_one_decodes_a_large_one(), signal.SIGSEGV)
        await until(lambda: first not in children())
        os.kill(await until_one_decodes_a_large_one(), signal.SIGSEGV)
        with pytest.raises(InvalidImage, match="ended by SIGSEGV, 2 times"):
            await large


async def test_small_pictures_do_not_wait_for_large_ones():
    async with opened(decode_workers=1) as workers:
        large = asyncio.create_task(workers.decode(slow_large(), SEEN, "caller"))
        os.kill(pid := await until_one_decodes_a_large_one(), signal.SIGSTOP)
        assert (await workers.decode(picture(), SEEN, "caller")).width == 60
        assert not large.done()
        os.kill(pid, signal.SIGCONT)
        assert (await large).width == 7_000


async def test_large_pictures_wait_until_their_bytes_fit():
    bytes_of_one = LARGE_PIXELS * preprocess.MAX_BYTES_PER_PIXEL
    async with opened(
        decode_workers=2, max_decode_bytes=2 * bytes_of_one - 1, max_image_pixels=LARGE_PIXELS
    ) as workers:
        first = asyncio.create_task(workers.decode(LARGE, SEEN, "caller"))
        os.kill(pid := await until_one_decodes_a_large_one(), signal.SIGSTOP)
        second = asyncio.create_task(workers.decode(LARGE, SEEN, "other"))
        for _ in range(3):  # it has been looked at, and waits
            await workers.decode(picture(), SEEN, "other")
        assert not second.done()
        os.kill(pid, signal.SIGCONT)
        assert (await first).width == (await second).width == 2_000


async def test_a_worker_cares_for_no_signal_of_a_terminal_or_a_process_group():
    async with opened() as workers:
        await workers.decode(picture(), SEEN, "caller")
        (pid,) = children()
        assert os.getpgid(pid) != os.getpgid(os.getpid())
        for number in (signal.SIGINT, signal.SIGTERM):
            os.kill(pid, number)
        await workers.decode(picture(), SEEN, "caller")
        assert children() == {pid}


async def test_a_worker_knows_no_secret_of_the_service(monkeypatch):
    monkeypatch.setenv("INDEXER_MILVUS_TOKEN", "root:Milvus")
    async with opened() as workers:
        await workers.decode(picture(), SEEN, "caller")
        (pid,) = children()
        assert b"MILVUS" not in read(f"/proc/{pid}/environ")
        assert b"torch" not in read(f"/proc/{pid}/maps")
        assert b"grpc" not in read(f"/proc/{pid}/maps")


async def test_after_the_end_nothing_is_decoded():
    async with opened() as workers:
        waiting = asyncio.create_task(workers.decode(picture(), SEEN, "caller"))
        await asyncio.sleep(0)
    with pytest.raises(Unavailable):
        await waiting
    with pytest.raises(Unavailable):
        await workers.decode(picture(), SEEN, "caller")


async def test_without_processes_a_picture_is_refused_for_the_moment(monkeypatch):
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    async with opened() as workers:
        with pytest.raises(Unavailable, match="no process can be started"):
            await workers.decode(picture(), SEEN, "caller")
        monkeypatch.setattr(sys, "executable", "/bin/false")
        with pytest.raises(Unavailable, match="no process can be started"):
            await workers.decode(picture(), SEEN, "caller")


def test_no_worker_outlives_a_parent_that_is_killed():
    with subprocess.Popen([sys.executable, "-c", PARENT], cwd=ROOT) as parent:
        wait_until(lambda: children(parent.pid), "a worker")
        (pid,) = children(parent.pid)
        parent.kill()
    wait_until(lambda: not is_running(pid), "the worker's end")


def is_running(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


def test_a_small_picture_is_decoded_unasked():
    assert SMALL_PIXELS >= 1_920 * 1_080


async def test_a_picture_that_needs_more_memory_than_all_may_have_is_refused():
    async with opened(
        max_decode_bytes=LARGE_PIXELS * preprocess.MAX_BYTES_PER_PIXEL - 1
    ) as workers:
        with pytest.raises(InvalidImage, match="4000000 pixels takes 68000000 bytes") as caught:
            await workers.decode(LARGE, SEEN, "caller")
        assert caught.value.reason == IMAGE_TOO_LARGE


def large_jpeg(**options) -> bytes:
    """A JPEG of which the head says that it has 56 megapixels."""
    file = io.BytesIO()
    Image.new("RGB", (64, 48)).save(file, "JPEG", **options)
    return file.getvalue().replace(struct.pack(">2H", 48, 64), struct.pack(">2H", 7_000, 8_000), 1)


async def test_a_progressive_jpeg_that_is_too_large_to_be_held_is_refused_for_that():
    async with opened(max_decode_bytes=3 * 10**8) as workers:
        with pytest.raises(InvalidImage) as caught:
            await workers.decode(large_jpeg(progressive=True), SEEN, "caller")
        assert caught.value.reason == IMAGE_TOO_LARGE
        told = "its 56000000 pixels takes 395500000 bytes of memory, as a progressive JPEG of that"
        assert told in str(caught.value)
        # Any other one is decoded line by line.
        assert (await workers.decode(large_jpeg(), SEEN, "caller")).width == 8_000


@pytest.mark.parametrize("share", [1, 2])
async def test_pictures_are_taken_up_to_the_setting_and_not_up_to_pillows_own_bound(share):
    size = 14_000, 13_000  # over twice Image.MAX_IMAGE_PIXELS
    content = picture(width=size[0], height=size[1], file_format="JPEG")
    async with opened(max_image_pixels=size[0] * size[1] // share) as workers:
        if share == 1:
            assert (await workers.decode(content, SEEN, "caller")).width == size[0]
            return
        with pytest.raises(InvalidImage, match="91000000") as caught:
            await workers.decode(content, SEEN, "caller")
        assert caught.value.reason == IMAGE_TOO_LARGE
