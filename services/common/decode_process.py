"""A decode worker as its owner sees it: a process, and what is said to it; see decode_worker."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
from typing import Any, NamedTuple

import numpy as np

from glimpse.errors import InvalidImage
from glimpse.pictures.preprocess import Decoded
from glimpse.pictures.preprocessing import Preprocessing
from services.common import decode_worker
from services.common.decode_worker import ANSWER, MAX_TEXT_BYTES, READY, REQUEST, AnswerKind

_SOCKET_BYTES = 2**20  # the kernel gives what it may: files of some 200 KB pass in one go
# A worker needs none of the service's settings, secrets among them.
_ENVIRONMENT = ("PATH", "LANG", "LD_LIBRARY_PATH", "PYTHONHOME", "PYTHONDONTWRITEBYTECODE")
# Out of reach of a terminal's Ctrl-C. A session of its own would also do, and does for Python 3.10,
# but Linux may share the CPU out among sessions: each worker would count as much as a service.
_OWN_GROUP: dict[str, Any] = (
    {"process_group": 0} if sys.version_info >= (3, 11) else {"start_new_session": True}
)


class Allowance(NamedTuple):
    """What a picture may take; with more CPU time, its process ends."""

    cpu_s: float
    memory_bytes: int
    pixels: int  # to be decoded now
    max_pixels: int  # at all


class LargePicture(NamedTuple):
    """What is known of a picture that has more pixels than were to be decoded now."""

    pixels: int
    memory_bytes: int  # that decoding it takes
    why: str  # what explains so many bytes, or ""


class ProcessEnded(Exception):
    """The process is gone."""


class DecodeProcess:
    """One process, and the socket to it; what it is at is its owner's to know."""

    def __init__(self) -> None:
        self._socket, theirs = socket.socketpair()
        self._socket.setblocking(False)
        with theirs:
            for end in (self._socket, theirs):
                end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SOCKET_BYTES)
            self._process = subprocess.Popen(
                [sys.executable, "-W", "ignore", "-m", decode_worker.__name__],
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                env=_environment(),
                **_OWN_GROUP,
            )

    async def ready(self) -> None:
        """Waits until it has started; raises ProcessEnded."""
        await self._receive(bytearray(len(READY)), 0, len(READY))

    async def decode(
        self, content: bytes, preprocessing: Preprocessing, allowed: Allowance
    ) -> Decoded | InvalidImage | LargePicture:
        """The picture, or why there is none; raises ProcessEnded."""
        size = preprocessing.image_size
        request = REQUEST.pack(
            len(content),
            round(1e6 * allowed.cpu_s),
            allowed.memory_bytes,
            min(allowed.pixels, allowed.max_pixels),
            allowed.max_pixels,
            size,
            preprocessing.resize,
            preprocessing.interpolation,
        )
        await self._send(request, content)
        pixel_bytes = 3 * size**2
        answer = bytearray(ANSWER.size + max(pixel_bytes, MAX_TEXT_BYTES))
        count = await self._receive(answer, 0, ANSWER.size)
        kind, width, height, file_format, memory_bytes, more_bytes = ANSWER.unpack_from(answer)
        # What has decoded strangers' files may not say what it likes.
        if more_bytes > len(answer) - ANSWER.size:
            raise ValueError(f"an answer of {more_bytes} bytes")
        await self._receive(answer, count, ANSWER.size + more_bytes)
        if kind != AnswerKind.DECODED:
            text = bytes(answer[ANSWER.size : ANSWER.size + more_bytes]).decode(errors="replace")
            if kind == AnswerKind.LARGE:
                return LargePicture(width * height, memory_bytes, text)
            reason, _, problem = text.partition(" ")
            return InvalidImage("image", problem, reason=reason)
        pixels = np.frombuffer(answer, np.uint8, pixel_bytes, ANSWER.size)
        name = file_format.rstrip(b"\0").decode(errors="replace")
        return Decoded(pixels.reshape(size, size, 3), width, height, name)

    def kill(self) -> None:
        """Ends the process; whoever waits for it then gets ProcessEnded."""
        self._process.kill()

    async def end_signal(self) -> int:
        """Waits for the process, which has closed its socket, and returns what has ended it; 0 if
        it has ended itself."""
        self._socket.close()
        return max(0, -await asyncio.to_thread(self._process.wait))

    async def _send(self, head: bytes, content: bytes) -> None:
        loop = asyncio.get_running_loop()
        try:
            sent = self._socket.sendmsg((head, content))
            await loop.sock_sendall(self._socket, memoryview(content)[sent - len(head) :])
        except OSError as error:
            raise ProcessEnded from error

    async def _receive(self, answer: bytearray, count: int, least_bytes: int) -> int:
        """Adds to the first `count` bytes of an answer until there are as many; returns how many
        there are then."""
        view, loop = memoryview(answer), asyncio.get_running_loop()
        while count < least_bytes:
            try:
                received = await loop.sock_recv_into(self._socket, view[count:])
            except OSError as error:
                raise ProcessEnded from error
            if not received:
                raise ProcessEnded
            count += received
        return count


def _environment() -> dict[str, str]:
    kept = {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}
    path = os.pathsep.join(folder or os.getcwd() for folder in sys.path)
    # A worker is one of as many as there are CPUs.
    return {**kept, "PYTHONPATH": path, "OPENBLAS_NUM_THREADS": "1"}
