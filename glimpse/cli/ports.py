"""Where the stack listens: a port for each process."""

from __future__ import annotations

import random
import socket
from dataclasses import astuple, dataclass

HOST = "127.0.0.1"

# Below the range from which Linux and macOS take ports for outgoing connections: a port that is
# free now is not taken by chance before its process listens.
_FREE_FROM, _FREE_TO = 20_000, 32_000
_COUNT = 7


@dataclass(frozen=True)
class Ports:
    """One port per listener, all on the loopback address."""

    encoder: int = 50_051
    indexer: int = 50_052
    query: int = 50_053
    milvus: int = 19_530
    encoder_metrics: int = 9_051
    indexer_metrics: int = 9_052
    query_metrics: int = 9_053

    @classmethod
    def starting_at(cls, base: int) -> Ports:
        """Seven ports from `base` upwards, in the order of the fields."""
        return cls(*range(base, base + _COUNT))

    @classmethod
    def free(cls) -> Ports:
        """Seven ports that nobody listens on. Raises OSError when there are none."""
        return cls(*free_ports(_COUNT))

    def taken(self) -> list[int]:
        """Those that somebody listens on already."""
        return [port for port in astuple(self) if not _is_free(port)]


DEFAULT_QUERY = f"{HOST}:{Ports.query}"
DEFAULT_INDEXER = f"{HOST}:{Ports.indexer}"


def free_ports(count: int) -> list[int]:
    """Different ports that nobody listens on. Raises OSError when there are none."""
    for _ in range(100):
        ports = random.sample(range(_FREE_FROM, _FREE_TO), count)
        if all(map(_is_free, ports)):
            return ports
    raise OSError("no free ports found")


def _is_free(port: int) -> bool:
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((HOST, port))
        except OSError:
            return False
        return True
