"""Batches of images whose vectors were made before, over Indexer.ImportImages, and resuming; where
they come from is the caller's job.

Two threads meet in an UploadWindow: the caller's fills and empties it, gRPC's sending thread takes
from it what is to be sent. A third one, for each stream, puts the answers, and the stream's end,
into a queue of events, which the caller's thread reads.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Iterable, Iterator

import grpc

from glimpse import errors
from glimpse.backoff import backoff_s
from glimpse.indexer.v1 import indexer_pb2, indexer_pb2_grpc
from glimpse.ingest import is_resumable
from glimpse.transport.diagnosis import Diagnosis
from glimpse.transport.status import from_rpc_error
from glimpse.transport.tracing import calling

MAX_BATCH_IMAGES = 1_000
MAX_BATCH_BYTES = 3 * 2**20
"""Of the images of a batch together: three quarters of what the indexer takes."""

_MAX_UNACKNOWLEDGED = 4
_TURN_S = 0.2

_Event = tuple[int, indexer_pb2.ImportImagesResponse | Exception | None]
"""A stream's number, and an answer from it, its error, or its end."""


class UploadWindow:
    """Batches that are not acknowledged yet; every method may be called from any thread."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._batches: dict[int, indexer_pb2.ImportBatch] = {}  # by sequence, in their order
        self._unsent: list[int] = []
        self._stream = 0
        self._ended = False

    @property
    def is_full(self) -> bool:
        """Whether no batch more may be added now."""
        return len(self._batches) >= _MAX_UNACKNOWLEDGED

    @property
    def is_empty(self) -> bool:
        """Whether all batches are acknowledged."""
        return not self._batches

    def add(self, batch: indexer_pb2.ImportBatch) -> None:
        """One more to be sent."""
        with self._changed:
            self._batches[batch.sequence] = batch
            self._unsent.append(batch.sequence)
            self._changed.notify_all()

    def acknowledge(self, sequence: int) -> bool:
        """Takes a batch out; False when it was acknowledged before."""
        with self._changed:
            return self._batches.pop(sequence, None) is not None

    def end(self) -> None:
        """No further batch comes."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def restart(self) -> int:
        """All that is not acknowledged is unsent again; returns the new stream's number."""
        with self._changed:
            self._stream += 1
            self._unsent = list(self._batches)
            self._changed.notify_all()
            return self._stream

    def next_unsent(self, stream: int) -> indexer_pb2.ImportBatch | None:
        """Waits for a batch to send; None when none will come, or not for this stream."""
        with self._changed:
            self._changed.wait_for(lambda: self._unsent or self._ended or self._stream != stream)
            if self._stream != stream or not self._unsent:
                return None
            return self._batches[self._unsent.pop(0)]


class Upload:
    """One import: `run` sends batches and yields an acknowledgement for each, in their order.

    Raises GlimpseError when the stream fails for good or no progress was made for `patience_s`.
    """

    def __init__(
        self,
        channel: grpc.Channel,
        diagnosis: Diagnosis,
        options: indexer_pb2.ImportOptions,
        patience_s: float,
    ) -> None:
        self._stub = indexer_pb2_grpc.IndexerStub(channel)
        self._diagnosis = diagnosis
        self._options = options
        self._patience_s = patience_s
        self._window = UploadWindow()
        self._events: queue.SimpleQueue[_Event] = queue.SimpleQueue()
        self._stream = 0
        self._call: grpc.Call | None = None
        self._failures = 0
        self._progress_s = time.monotonic()
        self._is_whole = False
        self.interruptions = 0
        """How often the stream was cut and opened again."""

    def run(
        self, batches: Iterable[indexer_pb2.ImportBatch]
    ) -> Iterator[indexer_pb2.ImportAcknowledgement]:
        """Batches have different sequences, and hold at most MAX_BATCH_IMAGES and
        MAX_BATCH_BYTES. The last acknowledgement comes before the images are indexed; the end of
        the iteration waits for that, as the indexer's settings say.
        """
        try:
            self._open()
            for batch in batches:
                while self._window.is_full or not self._events.empty():
                    yield from self._take(self._next_event())
                self._window.add(batch)
            self._window.end()
            while not self._is_whole:
                yield from self._take(self._next_event())
        finally:
            self._window.restart()  # which lets gRPC's thread return
            if self._call is not None:
                self._call.cancel()

    def _open(self) -> None:
        first = indexer_pb2.ImportImagesRequest(options=self._options)
        self._stream = stream = self._window.restart()
        with calling(first) as trace:
            call = self._stub.ImportImages(self._requests(first, stream), metadata=trace)
        self._call = call
        threading.Thread(
            target=self._receive, args=(stream, call), name="glimpse-answers", daemon=True
        ).start()

    def _requests(
        self, first: indexer_pb2.ImportImagesRequest, stream: int
    ) -> Iterator[indexer_pb2.ImportImagesRequest]:
        yield first
        while (batch := self._window.next_unsent(stream)) is not None:
            yield indexer_pb2.ImportImagesRequest(batch=batch)

    def _receive(self, stream: int, answers: Iterable[indexer_pb2.ImportImagesResponse]) -> None:
        try:
            for answer in answers:
                self._events.put((stream, answer))
        except Exception as error:  # gRPC's, which whoever waits for the answers is to have
            self._events.put((stream, error))
        else:
            self._events.put((stream, None))

    def _next_event(self) -> _Event:
        """Waits for it; in short turns, for on Windows Ctrl-C does not end a longer wait."""
        while True:
            try:
                return self._events.get(timeout=_TURN_S)
            except queue.Empty:
                continue

    def _take(self, event: _Event) -> Iterator[indexer_pb2.ImportAcknowledgement]:
        stream, answer = event
        if stream != self._stream:
            return
        if isinstance(answer, indexer_pb2.ImportImagesResponse):
            if answer.WhichOneof("message") == "totals":
                self._is_whole = self._window.is_empty
            elif self._window.acknowledge(answer.acknowledgement.sequence):
                self._failures, self._progress_s = 0, time.monotonic()
                yield answer.acknowledgement
        elif not self._is_whole:
            self._resume(answer)

    def _resume(self, error: Exception | None) -> None:
        """Opens the next stream, after a while; raises where that would not help."""
        peer = self._diagnosis.peer
        ended: errors.GlimpseError = errors.Unavailable(f"{peer} ended the stream too early")
        if isinstance(error, grpc.RpcError):
            ended = from_rpc_error(error, peer)
        elif error is not None:
            raise error
        has_patience = time.monotonic() - self._progress_s < self._patience_s
        if not (is_resumable(ended) and has_patience):
            raise self._diagnosis.explained(ended) from error
        self._failures += 1
        self.interruptions += 1
        time.sleep(max(backoff_s(self._failures), ended.retry_after_s or 0.0))
        self._open()
