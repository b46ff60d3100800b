"""One ingest over Indexer.IndexImages: what is in flight, resuming; files are read by a Reader.

Threads meet in an InFlight: those of the reader fill it, gRPC's sending thread takes from it what
is to be sent, the caller's thread empties it. That one learns of what the others have for it from
a queue of events: a thread for each stream puts its answers there, the reader what it could not
read. They stop in this order: the InFlight is closed, which lets reader and sender return at their
next look at it, and then the call is cancelled, which ends the thread of its answers.
"""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections.abc import Generator, Iterable, Iterator

import grpc
from google.rpc import code_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc

from glimpse import errors
from glimpse.backoff import backoff_s
from glimpse.in_flight import InFlight, IngestLimits
from glimpse.indexer.v1 import indexer_pb2, indexer_pb2_grpc
from glimpse.reader import Reader
from glimpse.results import Acknowledgement, ImageFile, Outcome
from glimpse.transport.diagnosis import Diagnosis
from glimpse.transport.status import from_rpc_error, from_status
from glimpse.transport.tracing import calling

_ANSWER_S = 10.0  # within which an indexer that is there says so
_TURN_S = 0.2

_Refusal = tuple[int, Acknowledgement]
_Event = indexer_pb2.IndexImagesResponse | _Refusal | Exception | None
"""An answer; or a picture that could not be sent, with its sequence; or a stream's end."""

_OUTCOMES = {
    indexer_pb2.OUTCOME_INDEXED: Outcome.INDEXED,
    indexer_pb2.OUTCOME_UNCHANGED: Outcome.UNCHANGED,
    indexer_pb2.OUTCOME_FAILED: Outcome.FAILED,
}


class Ingest(Iterator[Acknowledgement]):
    """A running ingest: iterate it for one acknowledgement per picture, in any order.

    Raises Unavailable when nobody is there at the start, GlimpseError when the stream fails for
    good or no progress was made for `patience_s`, and whatever the caller's iterable raises.
    Leaving early needs `close()`.
    """

    def __init__(
        self,
        channel: grpc.Channel,
        diagnosis: Diagnosis,
        options: indexer_pb2.IndexOptions,
        images: Iterable[ImageFile],
        limits: IngestLimits,
    ) -> None:
        self._stub = indexer_pb2_grpc.IndexerStub(channel)
        self._health = health_pb2_grpc.HealthStub(channel)
        self._diagnosis = diagnosis
        self._peer = diagnosis.peer
        self._options = options
        self._limits = limits
        self._in_flight = InFlight(limits)
        self._reader = Reader(images, limits, self._in_flight, self._refuse)
        self._events: queue.SimpleQueue[_Event] = queue.SimpleQueue()
        self._call: grpc.Call | None = None
        self._progress_s = time.monotonic()
        self._acknowledgements = self._run()
        self.counts = dict.fromkeys(Outcome, 0)
        """How many pictures came to which end so far."""
        self.interruptions = 0
        """How often the stream was cut, and taken up again after one try or several."""

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

    def stop(self) -> None:
        """As close, but from any thread: a wait for the next acknowledgement ends."""
        self._in_flight.close()
        if self._call is not None:
            self._call.cancel()

    def _run(self) -> Generator[Acknowledgement, None, None]:
        self._check_peer()
        self._reader.start()
        failures = 0
        self._progress_s = time.monotonic()
        try:
            while not self._in_flight.is_done:
                before_s = self._progress_s
                error = yield from self._one_stream()
                if self._progress_s > before_s:
                    failures = 0
                # A service that acknowledged all may still have to say that something is amiss.
                if self._in_flight.is_done and not isinstance(error, errors.FailedPrecondition):
                    break
                self._give_up_if(error)
                if not failures:
                    self.interruptions += 1
                failures += 1
                asked_s = (error and error.retry_after_s) or 0.0
                self._in_flight.pause(max(backoff_s(failures), asked_s))
            if self._reader.error is not None:
                raise self._reader.error
        finally:
            self.stop()

    def _check_peer(self) -> None:
        """Raises Unavailable when nobody is there; a service that starts up is somebody."""
        try:
            request = health_pb2.HealthCheckRequest()
            self._health.Check(request, timeout=_ANSWER_S)  # type: ignore[attr-defined]
        except grpc.RpcError as error:
            failure = from_rpc_error(error, self._peer)
            if isinstance(failure, errors.Unavailable | errors.DeadlineExceeded):
                raise self._diagnosis.explained(failure) from error

    def _one_stream(self) -> Generator[Acknowledgement, None, errors.GlimpseError | None]:
        """One stream until its end; returns why it ended early, or None."""
        first = indexer_pb2.IndexImagesRequest(options=self._options)
        try:
            with calling(first) as trace:
                requests = self._requests(first, self._in_flight.restart())
                self._call = call = self._stub.IndexImages(requests, metadata=trace)
                if self._in_flight.is_done:  # stopped just before there was a call to cancel
                    call.cancel()
                threading.Thread(
                    target=self._receive, args=(call,), name="glimpse-answers", daemon=True
                ).start()
                while (event := self._next_event()) is not None:
                    if isinstance(event, Exception):
                        raise event
                    yield from self._take(event)
        except grpc.RpcError as error:
            return from_rpc_error(error, self._peer)
        return None

    def _next_event(self) -> _Event:
        """Waits for it; in short turns, for on Windows Ctrl-C does not end a longer wait."""
        while True:
            with contextlib.suppress(queue.Empty):
                return self._events.get(timeout=_TURN_S)

    def _receive(self, answers: Iterable[indexer_pb2.IndexImagesResponse]) -> None:
        """The answers of one stream, and its end, become events."""
        try:
            for answer in answers:
                self._events.put(answer)
        except Exception as error:  # gRPC's, which whoever waits for the answers is to have
            self._events.put(error)
        else:
            self._events.put(None)

    def _refuse(self, sequence: int, image: ImageFile, error: errors.GlimpseError) -> None:
        refused = Acknowledgement(image, image.id, Outcome.FAILED, error)
        self._events.put((sequence, refused))

    def _take(self, event: indexer_pb2.IndexImagesResponse | _Refusal) -> Iterator[Acknowledgement]:
        if isinstance(event, tuple):
            sequence, refused = event
            self._in_flight.drop(sequence)
            yield refused
        elif event.WhichOneof("message") == "acknowledgement":
            yield from self._acknowledge(event.acknowledgement)

    def _requests(
        self, first: indexer_pb2.IndexImagesRequest, stream: int
    ) -> Iterator[indexer_pb2.IndexImagesRequest]:
        yield first
        while (request := self._in_flight.next_unsent(stream)) is not None:
            yield request

    def _acknowledge(self, message: indexer_pb2.Acknowledgement) -> Iterator[Acknowledgement]:
        error = from_status(message.error) if message.HasField("error") else None
        if isinstance(error, errors.Unavailable) and self._has_patience():
            self._in_flight.postpone(message.sequence, error.retry_after_s or 0.0)
            return
        entry = self._in_flight.acknowledge(message.sequence)
        if entry is None:
            return
        if not isinstance(error, errors.Unavailable):
            self._progress_s = time.monotonic()
        outcome = _OUTCOMES.get(message.outcome, Outcome.FAILED)
        yield Acknowledgement(entry.image, message.id, outcome, error)

    def _has_patience(self) -> bool:
        return time.monotonic() - self._progress_s < self._limits.patience_s

    def _give_up_if(self, error: errors.GlimpseError | None) -> None:
        if self._reader.error is not None:
            raise self._reader.error
        if error is None:
            if self._in_flight.is_answered:  # pictures were postponed when all had been sent
                return
            error = errors.Unavailable(f"{self._peer} ended the stream too early")
        if not (is_resumable(error) and self._has_patience()):
            raise self._diagnosis.explained(error)


def is_resumable(error: errors.GlimpseError) -> bool:
    """Whether a new stream may do better. Errors without a reason came from the connection."""
    if isinstance(error, errors.Overloaded):
        return error.retry_after_s is not None
    cut = (code_pb2.CANCELLED, code_pb2.UNKNOWN, code_pb2.INTERNAL)
    return isinstance(error, errors.Unavailable) or (error.code in cut and not error.reason)
