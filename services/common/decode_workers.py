"""Picture files of many callers become pixels in a few processes: who is next, and what happens
when a process ends; what it does with a picture is services.common.decode_worker's job.

A picture that its file's head calls large is asked for a second time, by its size: large ones have
bytes of memory in common, and always leave a process to the small ones.
"""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Coroutine, Hashable
from dataclasses import dataclass
from typing import Any

from glimpse.errors import GlimpseError, InvalidImage, Unavailable
from glimpse.pictures.bounds import IMAGE_TOO_COMPLEX
from glimpse.pictures.files import IMAGE_TOO_LARGE
from glimpse.pictures.preprocess import MAX_BYTES_PER_PIXEL, Decoded
from glimpse.pictures.preprocessing import Preprocessing
from services.common.decode_process import (
    Allowance,
    DecodeProcess,
    LargePicture,
    ProcessEnded,
)
from services.common.decode_settings import DecodeSettings
from services.common.decode_worker import SMALL_PIXELS
from services.common.turns import Turns

WORKER_BYTES = 128 * 2**20
"""What a worker takes at most, beside its file and a large picture: Python with Pillow 50 MB, a
small picture 36 MB, and what the allocator keeps."""

# Four times what the slowest pictures take: 86 ns a pixel, a PNG of 16 bits with alpha.
_CPU_S, _CPU_S_PER_PIXEL = 1.0, 3.5e-7
# What a picture may take beside MAX_BYTES_PER_PIXEL.
_FILE_COPIES, _MARGIN_BYTES = 3, 64 * 2**20
_MAX_TRIES = 2

log = logging.getLogger(__name__)


@dataclass(eq=False)
class _Job:
    """A picture that somebody waits for."""

    caller: Hashable
    content: bytes
    preprocessing: Preprocessing
    outcome: asyncio.Future[Decoded]
    pixels: int = SMALL_PIXELS  # that a worker may decode; of a large one, what it has
    memory_bytes: int = SMALL_PIXELS * MAX_BYTES_PER_PIXEL  # that it takes, beside the file
    tries: int = 0

    @property
    def is_large(self) -> bool:
        return self.pixels > SMALL_PIXELS

    @property
    def size_bytes(self) -> int:
        """What it takes of the memory that large pictures share."""
        return self.memory_bytes if self.is_large else 0


class DecodeWorkers:
    """Decodes pictures, callers taking turns; owned by the event loop that made it.

    As many at once as the settings say, and of those that are large no more than fit into
    `max_decode_bytes`; where large ones keep all busy, one small one beside them. Processes are
    started when there is something to do for them, and replaced when they end.

    Stop order: close() ends the processes and drops what waits.
    """

    def __init__(self, settings: DecodeSettings) -> None:
        self._max_running = settings.decoders
        self._max_bytes = settings.max_decode_bytes
        self._max_pixels = settings.max_image_pixels
        self._small: Turns[_Job] = Turns()
        self._large: Turns[_Job] = Turns()
        self._running: set[_Job] = set()
        self._workers: set[DecodeProcess] = set()
        self._idle: list[DecodeProcess] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False

    def start(self) -> None:
        """Has a process ready for the first picture."""
        self._add_worker()

    async def decode(
        self, content: bytes, preprocessing: Preprocessing, caller: Hashable
    ) -> Decoded:
        """What preprocess.decode returns and raises, after those who are before `caller`.

        Also raises InvalidImage for a picture that takes more CPU time or memory than its size can
        explain, or that crashes the decoder; Unavailable where processes are killed or do not
        start. Who is cancelled waits no more; what a process is at, it completes.
        """
        if self._closed:
            raise _stopping()
        job = _Job(caller, content, preprocessing, asyncio.get_running_loop().create_future())
        self._small.add(caller, job)
        self._dispatch()
        try:
            return await job.outcome
        finally:
            self._small.discard(caller, job)
            self._large.discard(caller, job)
            # An error holds this frame, which held the error and the file: garbage of megabytes.
            del content, job

    async def close(self) -> None:
        """Ends the processes; a picture that one is at is dropped. Safe to call twice."""
        self._closed = True
        self._fail_all(_stopping())
        for worker in self._workers:
            worker.kill()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for worker in self._idle:
            await worker.end_signal()
        self._idle.clear()

    def _dispatch(self) -> None:
        """Gives idle workers what may be decoded now; starts another where there is none idle."""
        while not self._closed and (line := self._next()) is not None:
            if not self._idle:
                if len(self._workers) <= self._max_running:  # one more than that, for small ones
                    self._add_worker()
                return
            job = line.take()
            self._running.add(job)
            self._begin(self._work(self._idle.pop(), job))

    def _next(self) -> Turns[_Job] | None:
        """The line whose first one may be decoded now."""
        large = [job for job in self._running if job.is_large]
        if self._small and len(self._running) - len(large) < max(1, self._max_running - len(large)):
            return self._small
        if self._large and len(large) < self._max_running:
            held_bytes = sum(job.size_bytes for job in large)
            if not held_bytes or held_bytes + self._large.first().size_bytes <= self._max_bytes:
                return self._large
        return None

    async def _work(self, worker: DecodeProcess, job: _Job) -> None:
        try:
            outcome = await worker.decode(job.content, job.preprocessing, self._allowance(job))
        except Exception as error:
            if not isinstance(error, ProcessEnded):
                log.exception("a decode worker's answer cannot be read")
                worker.kill()
            await self._replace(worker, job)
        else:
            self._idle.append(worker)
            if isinstance(outcome, LargePicture):
                self._add_large(job, outcome)
            else:
                _settle(job, outcome)
        finally:
            self._running.discard(job)
            self._dispatch()

    def _allowance(self, job: _Job) -> Allowance:
        memory_bytes = job.memory_bytes + _FILE_COPIES * len(job.content) + _MARGIN_BYTES
        return Allowance(max_cpu_s(job.pixels), memory_bytes, job.pixels, self._max_pixels)

    def _add_large(self, job: _Job, picture: LargePicture) -> None:
        job.pixels, job.memory_bytes, why = picture
        if job.memory_bytes > self._max_bytes:
            problem = (
                f"decoding its {job.pixels} pixels takes {job.memory_bytes} bytes of memory"
                f"{why and f', as {why}'}; at most {self._max_bytes} are allowed"
            )
            _settle(job, InvalidImage("image", problem, reason=IMAGE_TOO_LARGE))
        else:
            self._wait_again(job)

    async def _replace(self, worker: DecodeProcess, job: _Job) -> None:
        """The worker has ended at a picture: whose fault it is, and another worker."""
        number = await worker.end_signal()
        self._workers.discard(worker)
        if self._closed:
            _settle(job, _stopping())
            return
        self._add_worker()
        job.tries += 1
        name = _name(number)
        log.warning("a decode worker ended by %s at a picture of %d bytes", name, len(job.content))
        if number == signal.SIGPROF:
            problem = f"not decoded within {max_cpu_s(job.pixels):.1f} s of CPU time"
            _settle(job, InvalidImage("image", problem, reason=IMAGE_TOO_COMPLEX))
        elif job.tries < _MAX_TRIES:
            self._wait_again(job)
        elif number == signal.SIGKILL:  # as the kernel does where memory is short
            _settle(job, Unavailable(f"the process that decoded it was killed, {job.tries} times"))
        else:
            problem = f"decoding it ended by {name}, {job.tries} times"
            _settle(job, InvalidImage("image", problem, reason=IMAGE_TOO_COMPLEX))

    def _wait_again(self, job: _Job) -> None:
        if not job.outcome.done():
            (self._large if job.is_large else self._small).add(job.caller, job)

    def _add_worker(self) -> None:
        try:
            worker = DecodeProcess()
        except OSError as error:
            self._cannot_start(str(error))
            return
        self._workers.add(worker)
        self._begin(self._await_ready(worker))

    async def _await_ready(self, worker: DecodeProcess) -> None:
        try:
            await worker.ready()
        except ProcessEnded:
            name = _name(await worker.end_signal())
            self._workers.discard(worker)
            self._cannot_start(f"ended by {name}")
        else:
            self._idle.append(worker)
            self._dispatch()

    def _cannot_start(self, why: str) -> None:
        if self._closed:
            return
        log.error("a decode worker could not be started: %s", why)
        if not self._workers:  # the next picture has another one started
            self._fail_all(Unavailable("no process can be started to decode the picture"))

    def _fail_all(self, error: GlimpseError) -> None:
        for line in (self._small, self._large):
            while line:
                _settle(line.take(), error)

    def _begin(self, step: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(step)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def max_cpu_s(pixels: int) -> float:
    """The CPU time after which a picture of so many pixels, or fewer, is given up."""
    return _CPU_S + pixels * _CPU_S_PER_PIXEL


def _settle(job: _Job, outcome: Decoded | GlimpseError) -> None:
    if job.outcome.done():  # nobody waits any more
        return
    if isinstance(outcome, GlimpseError):
        job.outcome.set_exception(outcome)
    else:
        job.outcome.set_result(outcome)


def _stopping() -> Unavailable:
    return Unavailable("the service is stopping")


def _name(number: int) -> str:
    return signal.Signals(number).name if number else "itself"
