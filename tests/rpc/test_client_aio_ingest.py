"""What only the asyncio client's ingest can do: asynchronous pictures, cancelled waits."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
import threading
from contextlib import contextmanager

import pytest

from glimpse import AsyncClient, ImageFile, Outcome
from tests.scripted import NOBODY, Indexer, numbered, serve
from tests.waiting import until

# What a program does that is cancelled in the midst of an ingest, and does not clean up.
GIVES_UP = """
import asyncio
import sys
from glimpse import AsyncClient, ImageFile


async def main():
    client = AsyncClient("127.0.0.1:1", sys.argv[1])
    kept.append(client.index("c", [ImageFile(content=b"1")]))
    try:
        await asyncio.wait_for(anext(kept[0]), 0.5)
    except asyncio.TimeoutError:
        print("given up", flush=True)


kept = []
asyncio.run(main())
"""


async def acknowledged(ingest):
    return [acknowledgement.id async for acknowledgement in ingest]


async def test_asynchronous_images_are_asked_for_on_the_loop():
    loop = asyncio.get_running_loop()

    async def images():
        for image in numbered(50):
            assert asyncio.get_running_loop() is loop
            await asyncio.sleep(0)
            yield image

    with serve(indexer=Indexer()) as target:
        async with AsyncClient(NOBODY, target) as client, client.index("c", images()) as ingest:
            assert sorted(await acknowledged(ingest)) == sorted(f"id-{n}" for n in range(50))
            assert ingest.counts[Outcome.INDEXED] == 50


async def test_what_asynchronous_images_raise_reaches_the_caller():
    async def images():
        yield ImageFile(content=b"1")
        raise LookupError("the caller's own")

    with serve(indexer=Indexer()) as target:
        async with AsyncClient(NOBODY, target) as client, client.index("c", images()) as ingest:
            assert (await anext(ingest)).id == "id-1"
            with pytest.raises(LookupError, match="own"):
                await anext(ingest)


async def test_leaving_early_ends_the_wait_for_asynchronous_images():
    ended = False

    async def images():
        nonlocal ended
        try:
            yield ImageFile(content=b"1")
            await asyncio.Event().wait()
        finally:
            ended = True

    with serve(indexer=Indexer()) as target:
        async with AsyncClient(NOBODY, target) as client:
            async with client.index("c", images()) as ingest:
                await anext(ingest)
            assert ended


async def test_a_cancelled_wait_leaves_its_acknowledgement_to_the_next():
    may_answer = threading.Event()

    def wait(stream, seen, context):
        may_answer.wait(20)

    with serve(indexer=Indexer(wait)) as target:
        async with AsyncClient(NOBODY, target) as client, client.index("c", numbered(3)) as ingest:
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(anext(ingest), 0.1)
            may_answer.set()
            assert await acknowledged(ingest) == ["id-0", "id-1", "id-2"]


@contextmanager
def silent_indexer():
    """An indexer that never acknowledges: its address, when a stream was opened, and was ended."""
    entered, left = threading.Event(), threading.Event()

    class Silent(Indexer):
        def IndexImages(self, request_iterator, context):
            ended = threading.Event()
            context.add_callback(ended.set)
            entered.set()
            if ended.wait(60):
                left.set()
            yield from ()

    with serve(indexer=Silent()) as target:
        yield target, entered, left


async def test_leaving_while_the_indexer_is_silent_does_not_wait_for_it():
    with silent_indexer() as (target, entered, _):
        async with AsyncClient(NOBODY, target) as client, client.index("c", numbered(3)) as ingest:
            waiting = asyncio.ensure_future(anext(ingest))
            assert await asyncio.to_thread(entered.wait, 20)
            await asyncio.wait_for(ingest.aclose(), 20)
            with pytest.raises(StopAsyncIteration):
                await waiting
            with pytest.raises(StopAsyncIteration):
                await anext(ingest)


async def test_an_ingest_that_is_let_go_ends_its_stream_and_its_thread():
    def workers():
        return [each for each in threading.enumerate() if each.name == "glimpse-ingest"]

    earlier = workers()
    with silent_indexer() as (target, entered, left):
        async with AsyncClient(NOBODY, target) as client:
            ingest = client.index("c", numbered(3))
            waiting = asyncio.ensure_future(anext(ingest))
            assert await asyncio.to_thread(entered.wait, 20)
            waiting.cancel()
            await asyncio.wait([waiting])
            del ingest, waiting
            gc.collect()
            assert await asyncio.to_thread(left.wait, 20)
            await until(lambda: not set(workers()) - set(earlier))


def test_an_ingest_that_is_given_up_does_not_keep_its_program_from_ending():
    with silent_indexer() as (target, entered, _):
        program = [sys.executable, "-c", GIVES_UP, target]
        ended = subprocess.run(program, capture_output=True, text=True, timeout=40, check=True)
        assert entered.is_set()
    assert ended.stdout == "given up\n"
    assert "Traceback" not in ended.stderr
