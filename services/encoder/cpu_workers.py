"""Parts of a batch side by side on a CPU, each on a thread of its own through all layers.

torch alone would share each operation out among its threads, and all would wait for the slowest of
them, hundreds of times a batch; where other processes run too, that is often one put off its CPU.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from typing import TypeVar

import torch

# Between operations a worker needs Python's lock; many workers would wait for that.
_MOST = 4

Part = TypeVar("Part")
Result = TypeVar("Result")


class CpuWorkers:
    """A few threads, among which those that torch computes with are shared out."""

    def __init__(self, threads: int) -> None:
        """Let torch use `threads` CPUs: all by a thread that calls it, or a part by each worker."""
        self.count = min(threads, _MOST)
        self._pool = ThreadPoolExecutor(self.count, thread_name_prefix="encoder-cpu")
        self._thread = threading.local()
        all_started = threading.Barrier(self.count)

        def start(number: int) -> None:
            torch.get_num_threads()  # else torch, at a thread's first operation, forgets its number
            torch.set_num_threads((threads + number) // self.count)
            self._thread.is_worker = True
            all_started.wait()

        list(self._pool.map(start, range(self.count)))
        torch.set_num_threads(threads)  # for all threads but these

    def map(self, function: Callable[[Part], Result], parts: Sequence[Part]) -> list[Result]:
        """Return the function's results, in order; of a single part, computed on this thread.

        When all parts have ended, raises what the function raised for the first one that failed.
        The function may call this again: a worker has no other threads than itself.
        """
        if len(parts) == 1 or hasattr(self._thread, "is_worker"):
            return [function(part) for part in parts]
        futures = [self._pool.submit(torch.inference_mode()(function), part) for part in parts]
        wait(futures)
        return [future.result() for future in futures]
