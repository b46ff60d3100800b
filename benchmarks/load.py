"""Callers: closed loops of N, open loops at a rate; whom they call is the generator's business."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from benchmarks.report import percentile

Ask = Callable[[], Awaitable[str]]
"""One call; returns its status' name, OK or another. It must not raise."""


@dataclass
class Answers:
    """What came back. latencies_ms: by status. late_ms: how late an open loop sent each call."""

    seconds: float
    latencies_ms: dict[str, list[float]] = field(default_factory=dict)
    late_ms: list[float] = field(default_factory=list)
    unanswered: int = 0

    @property
    def ok(self) -> list[float]:
        return self.latencies_ms.get("OK", [])

    @property
    def per_s(self) -> float:
        """Calls that went well, per second."""
        return len(self.ok) / self.seconds

    @property
    def failed(self) -> int:
        return sum(len(values) for status, values in self.latencies_ms.items() if status != "OK")

    def ms(self, share: float) -> float:
        """A percentile of the calls that went well."""
        return percentile(self.ok, share)

    def summary(self) -> dict[str, object]:
        """For a report."""
        return {
            "per_s": round(self.per_s, 2),
            **{f"p{int(s * 100)}_ms": round(self.ms(s), 2) for s in (0.5, 0.95, 0.99) if self.ok},
            "statuses": {status: len(values) for status, values in self.latencies_ms.items()},
            "unanswered": self.unanswered,
        }

    def whole(self) -> Answers:
        """Itself: only a load without a failed call is a measurement. Raises RuntimeError."""
        if self.failed or self.unanswered or not self.ok:
            raise RuntimeError(f"calls failed: {self.summary()}")
        return self

    def add(self, status: str, latency_ms: float) -> None:
        self.latencies_ms.setdefault(status, []).append(latency_ms)


async def closed_loop(ask: Ask, callers: int, seconds: float) -> Answers:
    """Each caller asks again as soon as it has its answer; calls that end later count too."""
    started_s = time.perf_counter()
    answers = Answers(seconds)

    async def call_on() -> None:
        while time.perf_counter() - started_s < seconds:
            await _timed(ask, answers)

    await asyncio.gather(*(call_on() for _ in range(callers)))
    answers.seconds = time.perf_counter() - started_s
    return answers


async def open_loop(ask: Ask, per_s: float, seconds: float, patience_s: float) -> Answers:
    """Asks at a rate, whatever comes back; what is unanswered `patience_s` after the end, hangs."""
    answers = Answers(seconds)
    calls: set[asyncio.Task[None]] = set()
    started_s = time.perf_counter()
    for number in range(int(per_s * seconds)):
        due_s = started_s + number / per_s
        await asyncio.sleep(max(due_s - time.perf_counter(), 0))
        answers.late_ms.append((time.perf_counter() - due_s) * 1000)
        calls.add(asyncio.create_task(_timed(ask, answers)))
    _, hanging = await asyncio.wait(calls, timeout=patience_s)
    answers.unanswered = len(hanging)
    for call in hanging:
        call.cancel()
    return answers


async def _timed(ask: Ask, answers: Answers) -> None:
    started_s = time.perf_counter()
    status = await ask()
    answers.add(status, (time.perf_counter() - started_s) * 1000)
