"""Reads an ingest's pictures ahead, several at once; sending them is the ingest's job."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Generator, Iterable

from glimpse import converters, errors
from glimpse.files import check_size
from glimpse.in_flight import Entry, InFlight, IngestLimits
from glimpse.indexer.v1 import indexer_pb2
from glimpse.results import ImageFile

Refuse = Callable[[int, ImageFile, errors.GlimpseError], None]


class Reader:
    """Fills an InFlight with what the caller's iterable gives.

    One thread owns the iterable; as many as the limits say read files, in any order, and are
    started as they are needed. All are daemons, so that a file system that hangs keeps no program
    from ending, and return when the InFlight is closed. `refuse` is told, on any of them, of a
    picture that cannot be sent, by its sequence; whoever takes note of it drops it.
    """

    def __init__(
        self, images: Iterable[ImageFile], limits: IngestLimits, in_flight: InFlight, refuse: Refuse
    ) -> None:
        self._images = images
        self._limits = limits
        self._in_flight = in_flight
        self._refuse = refuse
        self._tasks: queue.SimpleQueue[tuple[int, ImageFile] | None] = queue.SimpleQueue()
        self._idle = threading.Semaphore(0)
        self._workers = 0
        self.error: BaseException | None = None
        """What the caller's iterable has raised."""

    def start(self) -> None:
        """Begins to read."""
        threading.Thread(target=self._run, name="glimpse-reader", daemon=True).start()

    def _run(self) -> None:
        images = iter(self._images)
        try:
            for sequence, image in enumerate(images):
                if not isinstance(image, ImageFile):
                    raise TypeError(f"images: must hold ImageFile, not {type(image).__name__}")
                if not self._in_flight.reserve(sequence, image.id):
                    if isinstance(images, Generator):
                        images.close()  # what it holds open is not needed any more
                    break
                if image.content is not None:
                    self._read(sequence, image)
                else:
                    self._hand_over(sequence, image)
        except BaseException as error:  # the caller's iterable may raise anything; it gets it back
            self.error = error
        finally:
            self._in_flight.end()
            for _ in range(self._workers):
                self._tasks.put(None)

    def _hand_over(self, sequence: int, image: ImageFile) -> None:
        self._tasks.put((sequence, image))
        if self._workers < self._limits.max_reads and not self._idle.acquire(blocking=False):
            self._workers += 1
            threading.Thread(target=self._work, name="glimpse-read", daemon=True).start()

    def _work(self) -> None:
        while (task := self._tasks.get()) is not None:
            self._read(*task)
            self._idle.release()

    def _read(self, sequence: int, image: ImageFile) -> None:
        if not self._in_flight.begin():
            return
        try:
            entry = self._entry(sequence, image)
        except errors.GlimpseError as error:
            self._in_flight.end_reading()
            self._refuse(sequence, image, error)
        except BaseException as error:  # a bug, which is the ingest's end
            self.error = self.error or error
            self._in_flight.end_reading()
            self._refuse(sequence, image, errors.GlimpseError(f"{image.address}: {error!r}"))
        else:
            self._in_flight.add(sequence, entry)

    def _entry(self, sequence: int, image: ImageFile) -> Entry:
        max_bytes = self._limits.max_message_bytes
        content = image.read(max_bytes)
        message = converters.image_message(image, content, sequence)
        request = indexer_pb2.IndexImagesRequest(image=message)
        size_bytes = request.ByteSize()
        check_size(size_bytes, max_bytes)
        return Entry(image, request, size_bytes)
