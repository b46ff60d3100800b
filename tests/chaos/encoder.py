"""`python -m tests.chaos.encoder PORT`: the tests' encoder as a process that can be killed."""

from __future__ import annotations

import asyncio
import sys

from tests.chaos.pictures import DIMENSION, SIZE
from tests.fakes import FakeEncoder


async def _serve(port: int) -> None:
    async with FakeEncoder(DIMENSION, SIZE).serve(port):
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_serve(int(sys.argv[1])))
