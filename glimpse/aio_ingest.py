"""An ingest for asyncio programs: the blocking one on a thread; sending and resuming are its job.

The worker thread owns the ingest, one `next` at a time; the event loop owns everything else here.
Stop order: the ingest is stopped, which ends the `next` under way; the thread ends when the
AsyncIngest is let go. It is a daemon, unlike a pool's: an ingest that was given up without `aclose`
never keeps the interpreter from ending.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import queue
import threading
import weakref
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Iterable, Iterator

import grpc

from glimpse.in_flight import IngestLimits
from glimpse.indexer.v1 import indexer_pb2
from glimpse.ingest import Ingest
from glimpse.results import Acknowledgement, ImageFile, Outcome
from glimpse.transport.diagnosis import Diagnosis

_Next = asyncio.Future[Acknowledgement | None]
_Wanted = queue.SimpleQueue[tuple[contextvars.Context, _Next] | None]


class AsyncIngest(AsyncIterator[Acknowledgement]):
    """A running ingest: `async for` gives one acknowledgement per picture, in any order.

    Raises what Ingest raises. Leaving early needs `aclose()`. A wait that is cancelled loses no
    acknowledgement: the next one gets it.
    """

    def __init__(
        self,
        channel: grpc.Channel,
        diagnosis: Diagnosis,
        options: indexer_pb2.IndexOptions,
        images: Iterable[ImageFile] | AsyncIterable[ImageFile],
        limits: IngestLimits,
    ) -> None:
        if isinstance(images, AsyncIterable):
            images = _OnLoop(images)
        self._images = images
        self._ingest = Ingest(channel, diagnosis, options, images, limits)
        self._next: _Next | None = None
        self._wanted: _Wanted = queue.SimpleQueue()
        threading.Thread(
            target=_work, args=(self._ingest, self._wanted), name="glimpse-ingest", daemon=True
        ).start()
        weakref.finalize(self, _let_go, self._ingest, self._wanted).atexit = False

    @property
    def counts(self) -> dict[Outcome, int]:
        """How many pictures came to which end so far."""
        return self._ingest.counts

    @property
    def interruptions(self) -> int:
        """How often the stream was cut, and taken up again after one try or several."""
        return self._ingest.interruptions

    async def __anext__(self) -> Acknowledgement:
        if self._next is None:
            self._next = asyncio.get_running_loop().create_future()
            # The context, for the ingest's spans go below the caller's.
            self._wanted.put((contextvars.copy_context(), self._next))
        await asyncio.wait([self._next])  # which, when cancelled, leaves it to the next call
        ended, self._next = self._next, None
        acknowledgement = ended.result()
        if acknowledgement is None:
            raise StopAsyncIteration
        return acknowledgement

    async def aclose(self) -> None:
        """Stops reading and sending; what is not acknowledged may or may not be indexed."""
        self._ingest.stop()
        if isinstance(self._images, _OnLoop):
            await self._images.aclose()
        if self._next is not None:
            await asyncio.gather(self._next, return_exceptions=True)

    async def __aenter__(self) -> AsyncIngest:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()


def _work(ingest: Ingest, wanted: _Wanted) -> None:
    """The worker: gives each future that is put in the next acknowledgement, None at the end."""
    while (put := wanted.get()) is not None:
        context, future = put
        acknowledgement, error = None, None
        try:
            acknowledgement = context.run(next, ingest, None)
        except BaseException as raised:
            error = raised
        with contextlib.suppress(RuntimeError):  # its loop is closed, and nobody waits
            future.get_loop().call_soon_threadsafe(_resolve, future, acknowledgement, error)


def _resolve(
    future: _Next, acknowledgement: Acknowledgement | None, error: BaseException | None
) -> None:
    if future.done():
        return
    if error is not None:
        future.set_exception(error)
    else:
        future.set_result(acknowledgement)


def _let_go(ingest: Ingest, wanted: _Wanted) -> None:
    """Ends what an AsyncIngest that is gone has left behind; from any thread."""
    ingest.stop()
    wanted.put(None)


class _OnLoop(Iterator[ImageFile]):
    """An asynchronous iterable as a thread sees it: each picture is asked for on the loop."""

    def __init__(self, images: AsyncIterable[ImageFile]) -> None:
        self._images = aiter(images)
        self._loop = asyncio.get_running_loop()
        self._asking: asyncio.Task[None] | None = None
        self._closed = False

    def __next__(self) -> ImageFile:
        image = asyncio.run_coroutine_threadsafe(self._ask(), self._loop).result()
        if image is None:
            raise StopIteration
        return image

    async def _ask(self) -> ImageFile | None:
        if self._closed:
            return None
        self._asking = asyncio.current_task()
        return await anext(self._images, None)

    async def aclose(self) -> None:
        """Ends the wait for a picture, and what the iterable holds open."""
        self._closed = True
        if self._asking is not None:
            self._asking.cancel()
            await asyncio.wait([self._asking])
        if isinstance(self._images, AsyncGenerator):
            await self._images.aclose()
