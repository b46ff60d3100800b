"""One ingest over Indexer.IndexImages: reading ahead, what is in flight, resuming; files are read
by ImageFile, messages made in convert.

Three threads meet in `_Window` and nowhere else: the reader owns the caller's iterable and fills
the window, gRPC's sending thread takes from it what is to be sent, the caller's thread takes
acknowledgements and empties it. They stop in this order: the window is closed, which lets the
other two return at their next look at it, and then the call is cancelled.
"""

from __future__ import annotations

import heapq
import random
import threading
import time
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass

import grpc
from google.rpc import code_pb2

from glimpse import convert, errors
from glimpse.indexer.v1 import indexer_pb2, indexer_pb2_grpc
from glimpse.results import Acknowledgement, ImageFile, Outcome

_FIRST_DELAY_S = 0.1
_MAX_DELAY_S = 5.0
_OUTCOMES = {
    indexer_pb2.OUTCOME_INDEXED: Outcome.INDEXED,
    indexer_pb2.OUTCOME_UNCHANGED: Outcome.UNCHANGED,
    indexer_pb2.OUTCOME_FAILED: Outcome.FAILED,
}


@dataclass(frozen=True)
class IngestLimits:
    """Bounds of one ingest: pictures and bytes that are read and not yet acknowledged, the largest
    message, and for how long an ingest that makes no progress goes on trying."""

    max_in_flight: int = 2_048
    max_in_flight_bytes: int = 256 * 2**20
    max_message_bytes: int = 64 * 2**20
    patience_s: float = 120.0


@dataclass
class _Entry:
    """A picture that was read and not yet acknowledged."""

    image: ImageFile
    request: indexer_pb2.IndexImagesRequest
    size_bytes: int
    attempts: int = 0


class _Window:
    """What is in flight; every method may be called from any thread."""

    def __init__(self, limits: IngestLimits) -> None:
        self._limits = limits
        self._changed = threading.Condition()
        self._entries: dict[int, _Entry] = {}
        self._bytes = 0
        self._unsent: list[tuple[float, int]] = []  # heap of (not before, sequence)
        self._stream = 0
        self._ended = False
        self._closed = False

    def add(self, sequence: int, entry: _Entry) -> bool:
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

    def acknowledge(self, sequence: int) -> _Entry | None:
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
            delay_s = min(_MAX_DELAY_S, _FIRST_DELAY_S * 2 ** min(entry.attempts, 10))
            entry.attempts += 1
            not_before_s = time.monotonic() + max(delay_s, min_delay_s)
            heapq.heappush(self._unsent, (not_before_s, sequence))
            self._changed.notify_all()

    @property
    def is_done(self) -> bool:
        with self._changed:
            return self._ended and not self._entries


class Ingest(Iterator[Acknowledgement]):
    """A running ingest: iterate it for one acknowledgement per picture, in any order.

    Raises GlimpseError when the stream fails for good or no progress was made for `patience_s`,
    and whatever the caller's iterable raises. Leaving early needs `close()`.
    """

    def __init__(
        self,
        stub: indexer_pb2_grpc.IndexerStub,
        peer: str,
        options: indexer_pb2.IndexOptions,
        images: Iterable[ImageFile],
        limits: IngestLimits,
    ) -> None:
        self._stub = stub
        self._peer = peer
        self._options = options
        self._images = images
        self._limits = limits
        self._window = _Window(limits)
        self._unreadable: deque[Acknowledgement] = deque()
        self._reader_error: BaseException | None = None
        self._call: grpc.Call | None = None
        self._progress_s = time.monotonic()
        self._acknowledgements = self._run()
        self.counts = dict.fromkeys(Outcome, 0)
        """How many pictures came to which end so far."""
        self.interruptions = 0
        """How often the stream was cut and opened again."""

    def __next__(self) -> Acknowledgement:
        acknowledgement = next(self._acknowledgements)
        self.counts[acknowledgement.outcome] += 1
        return acknowledgement

    def close(self) -> None:
        """Stops reading and sending; what is not acknowledged may or may not be indexed."""
        self._acknowledgements.close()

    def __enter__(self) -> Ingest:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _run(self) -> Generator[Acknowledgement, None, None]:
        threading.Thread(target=self._read, name="glimpse-reader", daemon=True).start()
        delays = _delays()
        self._progress_s = time.monotonic()
        try:
            while not self._window.is_done:
                before_s = self._progress_s
                error = yield from self._one_stream()
                yield from self._drain_unreadable()
                if self._progress_s > before_s:
                    delays = _delays()
                if self._window.is_done:
                    break
                self._give_up_if(error)
                self.interruptions += 1
                time.sleep(max(next(delays), (error and error.retry_after_s) or 0.0))
            yield from self._drain_unreadable()
            if self._reader_error is not None:
                raise self._reader_error
        finally:
            self._window.close()
            if self._call is not None:
                self._call.cancel()

    def _one_stream(self) -> Generator[Acknowledgement, None, errors.GlimpseError | None]:
        """One stream until its end; returns why it ended early, or None."""
        call = self._stub.IndexImages(self._requests(self._window.restart()))
        self._call = call
        try:
            for response in call:
                yield from self._drain_unreadable()
                if response.WhichOneof("message") == "acknowledgement":
                    yield from self._acknowledge(response.acknowledgement)
        except grpc.RpcError as error:
            return errors.from_rpc_error(error, self._peer)
        return None

    def _requests(self, stream: int) -> Iterator[indexer_pb2.IndexImagesRequest]:
        yield indexer_pb2.IndexImagesRequest(options=self._options)
        while (request := self._window.next_unsent(stream)) is not None:
            yield request

    def _acknowledge(self, message: indexer_pb2.Acknowledgement) -> Iterator[Acknowledgement]:
        error = errors.from_status(message.error) if message.HasField("error") else None
        if isinstance(error, errors.Unavailable) and self._has_patience():
            self._window.postpone(message.sequence, error.retry_after_s or 0.0)
            return
        entry = self._window.acknowledge(message.sequence)
        if entry is None:
            return
        if not isinstance(error, errors.Unavailable):
            self._progress_s = time.monotonic()
        outcome = _OUTCOMES.get(message.outcome, Outcome.FAILED)
        yield Acknowledgement(entry.image, message.id, outcome, error)

    def _has_patience(self) -> bool:
        return time.monotonic() - self._progress_s < self._limits.patience_s

    def _give_up_if(self, error: errors.GlimpseError | None) -> None:
        if self._reader_error is not None:
            raise self._reader_error
        if error is None:
            error = errors.Unavailable(f"{self._peer} ended the stream before its work")
        if not (_is_resumable(error) and self._has_patience()):
            raise error

    def _drain_unreadable(self) -> Iterator[Acknowledgement]:
        while self._unreadable:
            yield self._unreadable.popleft()

    def _read(self) -> None:
        images = iter(self._images)
        try:
            for sequence, image in enumerate(images):
                try:
                    entry = self._entry(sequence, image)
                except errors.GlimpseError as error:
                    failed = Acknowledgement(image, image.id, Outcome.FAILED, error)
                    self._unreadable.append(failed)
                    continue
                if not self._window.add(sequence, entry):
                    if isinstance(images, Generator):
                        images.close()  # what it holds open is not needed any more
                    break
        except BaseException as error:  # the caller's iterable may raise anything; it gets it back
            self._reader_error = error
        finally:
            self._window.end()

    def _entry(self, sequence: int, image: ImageFile) -> _Entry:
        content = image.read()
        message = convert.image_message(image, content, sequence)
        request = indexer_pb2.IndexImagesRequest(image=message)
        size_bytes = request.ByteSize()
        if size_bytes > self._limits.max_message_bytes:
            raise errors.InvalidInput(
                f"content: {len(content):,} bytes do not fit into a message of at most "
                f"{self._limits.max_message_bytes:,} bytes",
                reason="IMAGE_TOO_LARGE",
                field="content",
            )
        return _Entry(image, request, size_bytes)


def _is_resumable(error: errors.GlimpseError) -> bool:
    """Whether a new stream may do better. Errors without a reason came from the connection."""
    if isinstance(error, errors.Overloaded):
        return error.retry_after_s is not None
    cut = (code_pb2.CANCELLED, code_pb2.UNKNOWN, code_pb2.INTERNAL)
    return isinstance(error, errors.Unavailable) or (error.code in cut and not error.reason)


def _delays() -> Iterator[float]:
    """Seconds to wait before each new stream: doubling, spread so that clients do not meet."""
    delay_s = _FIRST_DELAY_S
    while True:
        yield delay_s * random.uniform(0.5, 1.0)  # noqa: S311 (no secret)
        delay_s = min(_MAX_DELAY_S, 2 * delay_s)
