"""On a GPU, the towers are recorded for batches of some sizes, and replayed for those of any size.

A tower is two hundred small operations. Called one by one from Python, they take milliseconds of
it, during which a GPU that computes a few texts mostly waits, and so do the threads that receive
the next ones; replaying all of them is a single call.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from services.encoder.blocks import Between
from services.encoder.towers import TextTower

# What is left of a batch after parts of the last size is filled up to the next one.
_IMAGES = (1, 2, 4, 8, 16, 32, 64)
_TEXTS = (1, 2, 4, 8, 16, 32, 64)
_TOKENS = (16, 32)  # of the longest text in a part; and the whole context

_SLOTS = 2  # parts of images in pinned memory: one is filled while the other is copied
_LOOK_S = 1e-4  # between looks at whether the GPU has done

Function = Callable[[Tensor], Tensor]
Replay = Callable[[], Tensor]


class Mark(Protocol):
    """A place in the order of what a GPU was asked for."""

    def query(self) -> bool:
        """Whether all before it is done."""
        ...

    def synchronize(self) -> None:
        """Waits for that."""
        ...


class Graphs(Protocol):
    """Recorded functions that run one after the other, beside those of other Graphs."""

    def record(self, function: Function, given: Tensor) -> Replay:
        """What computes function(given) anew; its result lasts until it is called again."""
        ...

    def in_turn(self) -> contextlib.AbstractContextManager[object]:
        """Within it, copies and replays wait for those before them, and for no others."""
        ...

    def mark(self) -> Mark:
        """The place behind all that was asked for so far."""
        ...


class CudaGraphs:
    """Graphs on a stream of their own; what is urgent gets the GPU's next free processors."""

    def __init__(self, device: torch.device, urgent: bool) -> None:
        self._stream = torch.cuda.Stream(device, priority=-1 if urgent else 0)
        self._pool = torch.cuda.graph_pool_handle()  # only one of them at a time needs memory

    def record(self, function: Function, given: Tensor) -> Replay:
        torch.cuda.synchronize(given.device)  # weights may still be on their way, on another stream
        with self.in_turn():
            function(given)  # what libraries do at their first call cannot be recorded
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._pool, stream=self._stream):
            result = function(given)

        def replay() -> Tensor:
            graph.replay()
            return result

        return replay

    def in_turn(self) -> contextlib.AbstractContextManager[object]:
        return torch.cuda.stream(self._stream)

    def mark(self) -> Mark:
        return self._stream.record_event()


class RecordedTexts:
    """A text tower, of tables of token ids int64 [N, L], where shorter texts are filled up."""

    def __init__(self, tower: TextTower, device: torch.device, graphs: Graphs) -> None:
        self._graphs, self._length_of = graphs, tower.length
        context = tower.context_length
        # Fillers would change tokens that see what follows them: such a model's texts are all as
        # long as the context.
        self._lengths = [n for n in _TOKENS if n < context and tower.is_causal] + [context]
        self._host = _pinned(device, _TEXTS[-1] * (context + 1), dtype=torch.int64)
        self._given: dict[tuple[int, int], Tensor] = {}
        self._replay: dict[tuple[int, int], Replay] = {}
        for size in ((n, length) for n in _TEXTS for length in self._lengths):
            given = torch.zeros(size[0], size[1] + 1, dtype=torch.int64, device=device)
            self._given[size] = given
            self._replay[size] = graphs.record(
                lambda table: tower.of_table(table[:, :-1], table[:, -1]), given
            )

    def __call__(self, texts: Sequence[NDArray[np.int64]]) -> Tensor:
        """Unit vectors, float32 [N, D] on the CPU, of texts given as token ids."""
        with self._graphs.in_turn():
            return torch.cat(
                [self._part(texts[i : i + _TEXTS[-1]]) for i in range(0, len(texts), _TEXTS[-1])]
            )

    def _part(self, texts: Sequence[NDArray[np.int64]]) -> Tensor:
        lengths = [self._length_of(ids) for ids in texts]
        count, length = _next(_TEXTS, len(texts)), _next(self._lengths, max(lengths))
        host = self._host[: count * (length + 1)].view(count, length + 1)
        table = host.numpy()
        table.fill(0)
        for row, (ids, own_length) in enumerate(zip(texts, lengths, strict=True)):
            table[row, :own_length] = ids[:own_length]
            table[row, -1] = row * length + own_length - 1
        self._given[count, length].copy_(host, non_blocking=True)
        return self._replay[count, length]()[: len(texts)].to("cpu", copy=True)


class RecordedImages:
    """An image tower, of pixels uint8 [N, S, S, 3]."""

    def __init__(self, tower: Function, side: int, device: torch.device, graphs: Graphs) -> None:
        self._graphs = graphs
        shape = (_IMAGES[-1], side, side, 3)
        self._slots = [_pinned(device, *shape, dtype=torch.uint8) for _ in range(_SLOTS)]
        self._given = torch.zeros(shape, dtype=torch.uint8, device=device)
        self._replay = {n: graphs.record(tower, self._given[:n]) for n in _IMAGES}

    def __call__(self, pixels: Sequence[NDArray[np.uint8]], between: Between) -> Tensor:
        """Unit vectors, float32 [N, D] on the CPU, of N images [S, S, 3].

        `between` is called before each part of the batch and while the GPU is at them.
        """
        vectors: list[Tensor] = []
        copied: list[Mark] = []
        with self._graphs.in_turn():
            for number, start in enumerate(range(0, len(pixels), _IMAGES[-1])):
                between()
                if number >= _SLOTS:
                    copied[number - _SLOTS].synchronize()
                part, slot = pixels[start : start + _IMAGES[-1]], self._slots[number % _SLOTS]
                np.stack(part, out=slot.numpy()[: len(part)])
                self._given[: len(part)].copy_(slot[: len(part)], non_blocking=True)
                copied.append(self._graphs.mark())
                # The next replay of that size has the same result's place.
                vectors.append(self._replay[_next(_IMAGES, len(part))]()[: len(part)].clone())
            done = self._graphs.mark()
            while not done.query():
                between()
                time.sleep(_LOOK_S)
            return torch.cat(vectors).cpu()


def _next(sizes: Sequence[int], least: int) -> int:
    return next(size for size in sizes if size >= least)


def _pinned(device: torch.device, *shape: int, dtype: torch.dtype) -> Tensor:
    """Memory of the host that a GPU copies from while Python goes on."""
    return torch.empty(shape, dtype=dtype, pin_memory=device.type == "cuda")
