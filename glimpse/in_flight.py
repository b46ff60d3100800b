"""What an ingest has taken and not yet seen acknowledged; it reads and sends nothing itself."""

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
    message, for how long an ingest that makes no progress goes on trying, and how many files are
    read at once."""

    max_in_flight: int = 2_048
    max_in_flight_bytes: int = 256 * 2**20
    max_message_bytes: int = 64 * 2**20
    patience_s: float = 120.0
    max_reads: int = 32


@dataclass
class Entry:
    """A picture that was read and not yet acknowledged."""

    image: ImageFile
    request: indexer_pb2.IndexImagesRequest
    size_bytes: int
    attempts: int = 0
    postponed_on: int = 0
    """The last stream that refused it for a time; streams count from 1."""


class InFlight:
    """What is in flight; every method may be called from any thread.

    A picture has a place from `reserve` to `acknowledge` or `drop`; between `begin` and `add`, or
    `drop`, it is being read, and counts as many bytes as the mean of those before it. So the bytes
    are at most those of the limits, and one file for each reader.
    """

    def __init__(self, limits: IngestLimits) -> None:
        self._limits = limits
        self._changed = threading.Condition()
        self._unread: dict[int, str] = {}  # by sequence, the ids of pictures not yet read
        self._unread_ids: set[str] = set()  # of those that have one
        self._reading = 0
        self._entries: dict[int, Entry] = {}
        self._bytes = 0
        self._added, self._added_bytes = 0, 0
        self._unsent: list[tuple[float, int]] = []  # heap of (not before, sequence)
        self._stream = 0
        self._ended = False
        self._closed = False

    def reserve(self, sequence: int, identity: str = "") -> bool:
        """Waits for a place; False when the ingest is over.

        A picture waits for another of the same id to be read, for they are sent in their order.
        """

        def has_place() -> bool:
            held = len(self._entries) + len(self._unread)
            return held < self._limits.max_in_flight and identity not in self._unread_ids

        with self._changed:
            self._changed.wait_for(lambda: self._closed or has_place())
            self._unread[sequence] = identity
            if identity:
                self._unread_ids.add(identity)
            return not self._closed

    def begin(self) -> bool:
        """Waits until another picture may be read; False when the ingest is over."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._may_read())
            self._reading += 1
            return not self._closed

    def _may_read(self) -> bool:
        mean_bytes = self._added_bytes // max(1, self._added)
        expected_bytes = self._bytes + (self._reading + 1) * mean_bytes
        is_alone = not self._reading and not self._entries
        return is_alone or expected_bytes <= self._limits.max_in_flight_bytes

    def add(self, sequence: int, entry: Entry) -> bool:
        """Waits for room and takes the picture that was read; False when the ingest is over."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._has_room(entry.size_bytes))
            self._reading -= 1
            self._unread_ids.discard(self._unread.pop(sequence))
            if self._closed:
                return False
            self._entries[sequence] = entry
            self._bytes += entry.size_bytes
            self._added += 1
            self._added_bytes += entry.size_bytes
            heapq.heappush(self._unsent, (0.0, sequence))
            self._changed.notify_all()
            return True

    def _has_room(self, size_bytes: int) -> bool:
        # A picture that is larger than the bound goes alone.
        return not self._entries or self._bytes + size_bytes <= self._limits.max_in_flight_bytes

    def end_reading(self) -> None:
        """A picture could not be read; its place stays taken until it is dropped."""
        with self._changed:
            self._reading -= 1
            self._changed.notify_all()

    def drop(self, sequence: int) -> None:
        """Gives up the place of a picture that could not be read."""
        with self._changed:
            self._unread_ids.discard(self._unread.pop(sequence))
            self._changed.notify_all()

    def end(self) -> None:
        """No picture comes after those that have a place."""
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
                if not self._unsent and self._ended and not self._unread:
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
            entry.postponed_on = self._stream
            not_before_s = time.monotonic() + max(backoff_s(entry.attempts), min_delay_s)
            heapq.heappush(self._unsent, (not_before_s, sequence))
            self._changed.notify_all()

    @property
    def is_answered(self) -> bool:
        """Whether the stream has answered all that was read: what is left here was postponed."""
        with self._changed:
            return all(entry.postponed_on == self._stream for entry in self._entries.values())

    @property
    def is_done(self) -> bool:
        """Whether nothing is left to do: all is acknowledged, or nobody waits for it any more."""
        with self._changed:
            return self._closed or (self._ended and not self._entries and not self._unread)
