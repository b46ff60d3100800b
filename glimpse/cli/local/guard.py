"""Stops process groups when whoever started them is gone, killed outright included; starts nothing.

Run as a script of its own, outside the starter's session, reading lines from its standard input:
`watch GROUP SIGNAL` and `forget GROUP`. The input ends when the starter does, however it ends:
then each group still watched gets its signal, last one first, and SIGKILL when it stays.
It imports nothing of glimpse, so that it costs little.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time

_GRACE_S = 15.0
_KILLED_S = 2.0
_LOOK_S = 0.05


def is_alive(group: int) -> bool:
    """Whether a process group has a member left."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def stop_group(group: int, number: int) -> None:
    """Signals a group, waits until it is gone, and kills what stays."""
    for signal_number, wait_s in ((number, _GRACE_S), (signal.SIGKILL, _KILLED_S)):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(group, signal_number)
        deadline_s = time.monotonic() + wait_s
        while time.monotonic() < deadline_s:
            if not is_alive(group):
                return
            time.sleep(_LOOK_S)


def main() -> None:
    """Follows the lines until they end, then stops what is left."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    watched: dict[int, int] = {}
    for line in sys.stdin:
        verb, group, *number = line.split()
        if verb == "watch":
            watched[int(group)] = int(number[0])
        else:
            watched.pop(int(group), None)
    for group, number in reversed(watched.items()):
        stop_group(group, number)


if __name__ == "__main__":
    main()
