"""How a child process is started that a terminal's Ctrl-C does not reach."""

import sys
from typing import Any

OWN_GROUP: dict[str, Any] = (
    {"process_group": 0} if sys.version_info >= (3, 11) else {"start_new_session": True}
)
"""Arguments of subprocess.Popen: the child leads a group of its own, with its id.

A session of its own would do as well, and does for Python 3.10. But Linux may share the processors
out among sessions (/proc/sys/kernel/sched_autogroup_enabled): whoever waits for several of them in
turn then waits up to 0.1 s for each, where two cores are busy. The services say the same of their
decode workers: their images have the wheel, which leaves this package out.
"""
