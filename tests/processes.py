"""A service as a process of its own; what it does is for tests to say."""

from __future__ import annotations

import asyncio
import os
import sys


async def started(
    service: str, program: tuple[str, ...] = (), **settings: object
) -> asyncio.subprocess.Process:
    """`python -m services.SERVICE`, or `program` in its place, on free loopback ports.

    Settings are given by name, without the prefix.
    """
    values = {"LISTEN": "127.0.0.1:0", "METRICS_LISTEN": "127.0.0.1:0", "LOG_FORMAT": "text"}
    if service != "encoder":
        values["MILVUS_URI"] = "http://127.0.0.1:1"  # where nobody listens
    environment = {
        f"{service.upper()}_{name}": str(value) for name, value in {**values, **settings}.items()
    }
    return await asyncio.create_subprocess_exec(
        *(sys.executable, *(program or ("-m", f"services.{service}"))),
        env=os.environ | environment,
        stderr=asyncio.subprocess.PIPE,
    )
