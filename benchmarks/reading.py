"""A text alone beside the least that it can take: reading its tower's weights once from memory."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from benchmarks.report import Bar, Figure, alternate, percentile
from services.encoder.checkpoint import Checkpoint
from services.encoder.hardware import cpu_has_bf16

_PAST_CACHES_BYTES = 256 * 2**20
_NOT_READ = ("visual.", "token_embedding.")  # of a table, a few rows are


def text_bytes(checkpoint: Checkpoint, made: Mapping[str, Tensor]) -> int:
    """The text tower's numbers as an int8 model keeps them; `made` is as of ClipModel."""
    floating = 2 if cpu_has_bf16() else 4
    total = 0
    for name, tensor in checkpoint.weights.items():
        if not name.startswith(_NOT_READ):
            is_rounded = f"{name}.rounded" in made
            total += tensor.numel() * (1 if is_rounded else floating)
    return total


def figures(
    rounds: int, seconds: float, encode: Callable[[], object], size_bytes: int
) -> list[Figure]:
    """Of encoding one text, which reads `size_bytes` of weights."""
    buffers = [torch.ones(size_bytes // 4) for _ in range(_PAST_CACHES_BYTES // size_bytes + 2)]
    turns = itertools.cycle(buffers)
    text_ms, reading_ms = alternate(
        rounds,
        lambda: _p50_ms(encode, seconds),
        lambda: _p50_ms(lambda: next(turns).sum(), seconds),
    )
    meaning = f"p50 of one text in process ÷ reading its tower's {size_bytes / 1e6:.0f} MB once"
    return [
        Figure.ratio("text.ratio_to_reading", meaning, text_ms, reading_ms, Bar("at most", 1.5)),
        Figure("text.p50_ms", "p50 of one text in process", percentile(text_ms, 0.5)),
    ]


def _p50_ms(action: Callable[[], object], seconds: float) -> float:
    latencies_ms: list[float] = []
    ends_s = time.perf_counter() + seconds
    while time.perf_counter() < ends_s:
        started_s = time.perf_counter()
        action()
        latencies_ms.append((time.perf_counter() - started_s) * 1000)
    return percentile(latencies_ms, 0.5)
