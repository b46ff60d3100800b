"""A web server that answers each request after a while, as a distant object store does, and takes
as little of the processors as it can: they are what is measured beside it.

A process of its own: python -m tests.corpus.object_store FOLDER DELAY_S; it prints its port.
"""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

_ROOT = Path(__file__).parents[2]
_END = b"\r\n\r\n"
_BACKLOG = 1_024


class _Connection(asyncio.Protocol):
    """One connection, kept alive; its requests have no bodies."""

    def __init__(self, answers: dict[bytes, bytes], delay_s: float) -> None:
        self._answers, self._delay_s = answers, delay_s
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        *requests, self._received = (self._received + data).split(_END)
        for request in requests:
            answer = self._answers.get(request.split(b" ", 2)[1], _NOT_FOUND)
            loop = asyncio.get_running_loop()
            loop.call_later(self._delay_s, self._transport.write, answer)


_NOT_FOUND = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0" + _END


def _answer(content: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d" % len(content) + _END + content


async def _serve(answers: dict[bytes, bytes], delay_s: float) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(
        lambda: _Connection(answers, delay_s), "127.0.0.1", 0, backlog=_BACKLOG
    )
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.to_thread(sys.stdin.read)  # until whoever has started it ends
    server.close()


@contextlib.contextmanager
def object_store(folder: Path, delay_s: float) -> Iterator[str]:
    """Serves the files of a folder until the block ends; the value is its URL."""
    command = [sys.executable, "-m", "tests.corpus.object_store", str(folder), str(delay_s)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=_ROOT, stdin=pipe, stdout=pipe) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            yield f"http://127.0.0.1:{int(process.stdout.readline())}"
        finally:
            process.stdin.close()
            process.wait(10)


def main() -> None:
    folder, delay_s = sys.argv[1:]
    files = {
        f"/{path.name}".encode(): _answer(path.read_bytes()) for path in Path(folder).iterdir()
    }
    asyncio.run(_serve(files, float(delay_s)))


if __name__ == "__main__":
    main()
