"""One ingest over Indexer.IndexImages: reading ahead, what is in flight, resuming; files are read
by ImageFile, messages made in converters.

Three threads meet in an InFlight and nowhere else: the reader owns the caller's iterable and fills
it, gRPC's sending thread takes from it what is to be sent, the caller's thread takes
acknowledgements and empties it. They stop in this order: it is closed, which lets the
other two return at their next look at it, and then the call is cancelled.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Generator, Iterable, Iterator

import grpc
from google.rpc import code_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc

from glimpse import converters, errors
from glimpse.backoff import backoff_s
from glimpse.in_flight import Entry, InFlight, IngestLimits
from glimpse.indexer.v1 import indexer_pb2, indexer_pb2_grpc
from glimpse.results import Acknowledgement, ImageFile, Outcome
from glimpse.transport.diagnosis import Diagnosis
from glimpse.transport.status import from_rpc_error, from_status
from glimpse.transport.tracing import calling

_ANSWER_S = 10.0  # within which an indexer that is there says so

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
        self._images = images
        self._limits = limits
        self._in_flight = InFlight(limits)
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

    def stop(self) -> None:
        """As close, but from any thread: a wait for the next acknowledgement ends."""
        self._in_flight.close()
        if self._call is not None:
            self._call.cancel()

    def _run(self) -> Generator[Acknowledgement, None, None]:
        self._check_peer()
        threading.Thread(target=self._read, name="glimpse-reader", daemon=True).start()
        failures = 0
        self._progress_s = time.monotonic()
        try:
            while not self._in_flight.is_done:
                before_s = self._progress_s
                error = yield from self._one_stream()
                yield from self._drain_unreadable()
                if self._progress_s > before_s:
                    failures = 0
                if self._in_flight.is_done:
                    break
                self._give_up_if(error)
                self.interruptions += 1
                failures += 1
                asked_s = (error and error.retry_after_s) or 0.0
                self._in_flight.pause(max(backoff_s(failures), asked_s))
            yield from self._drain_unreadable()
            if self._reader_error is not None:
                raise self._reader_error
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
                for response in call:
                    yield from self._drain_unreadable()
                    if response.WhichOneof("message") == "acknowledgement":
                        yield from self._acknowledge(response.acknowledgement)
        except grpc.RpcError as error:
            return from_rpc_error(error, self._peer)
        return None

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
        if self._reader_error is not None:
            raise self._reader_error
        if error is None:
            error = errors.Unavailable(f"{self._peer} ended the stream too early")
        if not (_is_resumable(error) and self._has_patience()):
            raise self._diagnosis.explained(error)

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
                if not self._in_flight.add(sequence, entry):
                    if isinstance(images, Generator):
                        images.close()  # what it holds open is not needed any more
                    break
        except BaseException as error:  # the caller's iterable may raise anything; it gets it back
            self._reader_error = error
        finally:
            self._in_flight.end()

    def _entry(self, sequence: int, image: ImageFile) -> Entry:
        if not isinstance(image, ImageFile):
            raise TypeError(f"images: must hold ImageFile, not {type(image).__name__}")
        content = image.read()
        message = converters.image_message(image, content, sequence)
        request = indexer_pb2.IndexImagesRequest(image=message)
        size_bytes = request.ByteSize()
        if size_bytes > self._limits.max_message_bytes:
            raise errors.InvalidInput(
                "content",
                f"{len(content):,} bytes do not fit into a message of at most "
                f"{self._limits.max_message_bytes:,} bytes",
                reason="IMAGE_TOO_LARGE",
            )
        return Entry(image, request, size_bytes)


def _is_resumable(error: errors.GlimpseError) -> bool:
    """Whether a new stream may do better. Errors without a reason came from the connection."""
    if isinstance(error, errors.Overloaded):
        return error.retry_after_s is not None
    cut = (code_pb2.CANCELLED, code_pb2.UNKNOWN, code_pb2.INTERNAL)
    return isinstance(error, errors.Unavailable) or (error.code in cut and not error.reason)
