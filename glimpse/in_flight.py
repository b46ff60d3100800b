"""What an ingest has read and not yet seen acknowledged; it reads and sends nothing itself."""

from __future__ import annotations

import heapq
import threading
import time
from dataclasses import dataclass

from glimpse.backoff import backoff_s
from glimpse.indexer.v1 import indexer_pb2
from glimpse.results import ImageFile


@dataclass(frozen=True)
class IngestLimits:
    """Bounds of one ingest: pictures and bytes that are read and not yet acknowledged, the largest
    message, and for how long an ingest that makes no progress goes on trying."""

    max_in_flight: int = 2_048
    max_in_flight_bytes: int = 256 * 2**20
    max_message_bytes: int = 64 * 2**20
    patience_s: float = 120.0


@dataclass
class Entry:
    """A picture that was read and not yet acknowledged."""

    image: ImageFile
    request: indexer_pb2.IndexImagesRequest
    size_bytes: int
    attempts: int = 0


class InFlight:
    """What is in flight; every method may be called from any thread."""

    def __init__(self, limits: IngestLimits) -> None:
        self._limits = limits
        self._changed = threading.Condition()
        self._entries: dict[int, Entry] = {}
        self._bytes = 0
        self._unsent: list[tuple[float, int]] = []  # heap of (not before, sequence)
        self._stream = 0
        self._ended = False
        self._closed = False

    def add(self, sequence: int, entry: Entry) -> bool:
        """Waits for room and takes the picture; False when the ingest is over."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._has_room(entry.size_bytes))
            if self._closed:
                return False
            self._entries[sequence] = entry
            self._bytes += entry.size_bytes
            heapq.heappush(self._unsent, (0.0, sequence))
            self._changed.notify_all()
            return True

    def _has_room(self, size_bytes: int) -> bool:
        # A picture that is larger than the bound goes alone.
        return not self._entries or (
            len(self._entries) < self._limits.max_in_flight
            and self._bytes + size_bytes <= self._limits.max_in_flight_bytes
        )

    def end(self) -> None:
        """No picture comes after this."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def close(self) -> None:
        """Lets every thread that waits here return."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def pause(self, delay_s: float) -> None:
        """Waits that long, or until this is closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed, delay_s)

    def restart(self) -> int:
        """Everything that is not acknowledged is unsent again; returns the new stream's number."""
        with self._changed:
            self._stream += 1
            self._unsent = [(0.0, sequence) for sequence in sorted(self._entries)]
            self._changed.notify_all()
            return self._stream

    def next_unsent(self, stream: int) -> indexer_pb2.IndexImagesRequest | None:
        """Waits for something to send; None when nothing will come, or not for this stream."""
        with self._changed:
            while not self._closed and self._stream == stream:
                now_s = time.monotonic()
                if self._unsent and self._unsent[0][0] <= now_s:
                    entry = self._entries.get(heapq.heappop(self._unsent)[1])
                    if entry is not None:
                        return entry.request
                    continue
                if not self._unsent and self._ended:
                    return None
                self._changed.wait(self._unsent[0][0] - now_s if self._unsent else None)
            return None

    def acknowledge(self, sequence: int) -> Entry | None:
        """Takes the picture out; None when it was acknowledged before."""
        with self._changed:
            entry = self._entries.pop(sequence, None)
            if entry is not None:
                self._bytes -= entry.size_bytes
                self._changed.notify_all()
            return entry

    def postpone(self, sequence: int, min_delay_s: float) -> None:
        """Has the picture sent again after a delay that doubles each time."""
        with self._changed:
            entry = self._entries.get(sequence)
            if entry is None:
                return
            entry.attempts += 1
            not_before_s = time.monotonic() + max(backoff_s(entry.attempts), min_delay_s)
            heapq.heappush(self._unsent, (not_before_s, sequence))
            self._changed.notify_all()

    @property
    def is_done(self) -> bool:
        """Whether nothing is left to do: all is acknowledged, or nobody waits for it any more."""
        with self._changed:
            return self._closed or (self._ended and not self._entries)
