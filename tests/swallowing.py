"""An address that neither takes a connection nor refuses it, as that of a pod that has gone may."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator

_SOON_S = 0.2


@contextlib.contextmanager
def swallowing(host: str = "127.0.0.1", port: int = 0) -> Iterator[int]:
    """The port. Linux drops what would connect where as many wait already as may."""
    with contextlib.ExitStack() as sockets:
        listener = sockets.enter_context(socket.create_server((host, port), backlog=0))
        takes_more = True
        while takes_more:
            waiting = sockets.enter_context(socket.socket())
            waiting.settimeout(_SOON_S)
            try:
                waiting.connect(listener.getsockname())
            except TimeoutError:
                takes_more = False
        yield listener.getsockname()[1]
