"""A process that decodes strangers' picture files, one after the other, and that any of them may
end: by crashing Pillow, or by taking more CPU time than a picture of its size can need.

Started, asked and replaced by services.common.decode_workers. It speaks on its standard input, a
socket: READY, then for each REQUEST and file an ANSWER, its text and its pixels.
"""

from __future__ import annotations

import ctypes
import logging
import math
import os
import resource
import signal
import socket
import struct
import sys
from concurrent.futures import ThreadPoolExecutor
from enum import IntEnum

from PIL import AvifImagePlugin, Image

from glimpse.errors import InvalidImage
from glimpse.pictures import deep_samples, preprocess  # noqa: F401 (numpy is loaded before a file)
from glimpse.pictures.bounds import IMAGE_TOO_COMPLEX, webp_size
from glimpse.pictures.files import open_picture, readable_formats
from glimpse.pictures.preprocessing import Interpolation, Preprocessing, Resize
from services.common.memory import give_back

SMALL_PIXELS = 2**21
"""Pictures up to this size, 1920 x 1080 among them, are decoded at once; larger ones the caller has
to ask for by their size."""

READY = b"\n"
REQUEST = struct.Struct("<3Q3I2B")
"""Bytes of the file, microseconds of CPU time and bytes of memory that it may take, pixels that may
be decoded now, and at all; the three fields of Preprocessing."""
ANSWER = struct.Struct("<B2I8s2Q")
"""Kind, width, height and format of the picture; of one that is too large to be decoded now, the
bytes of memory that decoding it takes; bytes of what follows: pixels, a refusal, or of a picture
that is too large, what explains its bytes of memory."""
MAX_TEXT_BYTES = 1_000


class AnswerKind(IntEnum):
    """What an answer says."""

    DECODED = 0
    REFUSED = 1
    LARGE = 2  # more pixels than may be decoded now


_LOW_PRIORITY = 5  # a quarter to a third of a CPU that others want, too
_PR_SET_PDEATHSIG = 1


def main() -> None:
    """Answers until the other side has closed the socket, or is gone."""
    # Who stops the service stops it in order, and its workers last.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if sys.platform == "linux":  # elsewhere a worker ends once it has answered
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    logging.disable()  # Pillow's remarks on strangers' files
    connection = socket.socket(fileno=sys.stdin.fileno())
    background = ThreadPoolExecutor(1, initializer=_lower_priority)
    readable_formats()
    AvifImagePlugin.DEFAULT_MAX_THREADS = 1  # several pictures are decoded side by side as it is
    connection.sendall(READY)
    while len(head := _receive(connection, REQUEST.size)) == REQUEST.size:
        file_bytes, cpu_us, memory_bytes, now_pixels, max_pixels, *wanted = REQUEST.unpack(head)
        content = _receive(connection, file_bytes)
        if len(content) < file_bytes:
            return
        _limit_memory(memory_bytes)
        signal.setitimer(signal.ITIMER_PROF, cpu_us / 1e6)  # then SIGPROF ends the process
        arguments = content, _preprocessing(*wanted), now_pixels, max_pixels
        if now_pixels > SMALL_PIXELS:
            answer = background.submit(_answer, *arguments).result()
            give_back()  # else the allocator keeps some hundred megabytes of a large picture
        else:
            answer = _answer(*arguments)
        signal.setitimer(signal.ITIMER_PROF, 0)
        connection.sendall(answer)


def _preprocessing(image_size: int, resize: int, interpolation: int) -> Preprocessing:
    return Preprocessing(image_size, Resize(resize), Interpolation(interpolation))


def _answer(
    content: bytes, preprocessing: Preprocessing, now_pixels: int, max_pixels: int
) -> bytes:
    # Pillow refuses at twice this: what is too large, before it takes memory for it.
    Image.MAX_IMAGE_PIXELS = -(-max_pixels // 2)
    try:
        declared = webp_size(content)
        if now_pixels < math.prod(declared) <= max_pixels:
            return _large(declared, math.prod(declared) * preprocess.MAX_BYTES_PER_PIXEL)
        opened = open_picture(content, max_pixels)
        if math.prod(opened.size) > now_pixels:
            needed_bytes = preprocess.decode_bytes(opened, preprocessing)
            return _large(opened.size, needed_bytes, preprocess.told_memory(opened, preprocessing))
        decoded = preprocess.decode_opened(opened, preprocessing)
    except InvalidImage as error:
        return _refusal(error.reason, error.problem)
    except MemoryError:
        return _refusal(IMAGE_TOO_COMPLEX, "decoding it takes more memory than its pixels can need")
    what = decoded.width, decoded.height, decoded.format.encode()
    pixels = decoded.pixels
    return b"".join((ANSWER.pack(AnswerKind.DECODED, *what, 0, pixels.nbytes), pixels.data))


def _large(size: tuple[int, int], needed_bytes: int, why: str = "") -> bytes:
    text = why.encode()
    return ANSWER.pack(AnswerKind.LARGE, *size, b"", needed_bytes, len(text)) + text


def _refusal(reason: str, problem: str) -> bytes:
    text = f"{reason} {problem}".encode(errors="replace")[:MAX_TEXT_BYTES]
    return ANSWER.pack(AnswerKind.REFUSED, 0, 0, b"", 0, len(text)) + text


def _receive(connection: socket.socket, size_bytes: int) -> bytes:
    """So many bytes; fewer, where the other side has closed the socket."""
    parts = []
    while size_bytes and (part := connection.recv(size_bytes, socket.MSG_WAITALL)):
        parts.append(part)
        size_bytes -= len(part)
    return b"".join(parts)


def _limit_memory(more_bytes: int) -> None:
    """Has the kernel refuse more than that, beside what this process holds."""
    if sys.platform != "linux":
        return
    with open("/proc/self/statm", encoding="ascii") as sizes:
        held_bytes = int(sizes.read().split()[5]) * resource.getpagesize()
    soft = held_bytes + more_bytes
    hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
    if hard != resource.RLIM_INFINITY:
        soft = min(soft, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


def _lower_priority() -> None:
    if sys.platform == "linux":  # where it is a thread's own
        os.nice(_LOW_PRIORITY)


if __name__ == "__main__":
    main()
