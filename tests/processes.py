"""A service as a process of its own; what it does is for tests to say."""

from __future__ import annotations

import asyncio
import os
import sys


def environment(service: str, **settings: object) -> dict[str, str]:
    """This process' environment, and with it settings of a service on free loopback ports, which
    are given by name, without the prefix."""
    values = {"LISTEN": "127.0.0.1:0", "METRICS_LISTEN": "127.0.0.1:0", "LOG_FORMAT": "text"}
    if service != "encoder":
        values["MILVUS_URI"] = "http://127.0.0.1:1"  # where nobody listens
    return os.environ | {
        f"{service.upper()}_{name}": str(value) for name, value in {**values, **settings}.items()
    }


async def started(
    service: str, program: tuple[str, ...] = (), **settings: object
) -> asyncio.subprocess.Process:
    """`python -m services.SERVICE`, or `program` in its place, in such an environment."""
    return await asyncio.create_subprocess_exec(
        *(sys.executable, *(program or ("-m", f"services.{service}"))),
        env=environment(service, **settings),
        stderr=asyncio.subprocess.PIPE,
    )
