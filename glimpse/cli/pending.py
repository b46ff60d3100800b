"""The pictures of a command that are not done, over all the connections that it takes."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator

from glimpse.results import Acknowledgement, ImageFile


class Pending:
    """Gives pictures out, and again those that are not done when another attempt begins.

    It keeps those that are out, and no others. One thread begins attempts and takes note of what is
    done; those that read ask for the next, also when their attempt has ended.
    """

    def __init__(self, images: Iterator[ImageFile]) -> None:
        self._images = images
        self._asking = threading.Lock()  # held for as long as the next picture is looked for
        self._attempt = 0
        self._out: dict[int, ImageFile] = {}  # by identity: metadata make pictures unhashable
        self._again: deque[ImageFile] = deque()
        self._given = 0
        self.total: int | None = None
        """How many there are, once that is known."""

    def attempt(self) -> Iterator[ImageFile]:
        """All that is not done; an attempt before it gets no more."""
        with self._asking:
            self._attempt += 1
            self._again = deque(self._out.values())
            return _Attempt(self, self._attempt)

    def done(self, acknowledgement: Acknowledgement) -> None:
        """This picture is not given out again."""
        self._out.pop(id(acknowledgement.image), None)

    def next_of(self, attempt: int) -> ImageFile:
        """The next picture; StopIteration when there is none, or another attempt has begun."""
        with self._asking:
            if attempt != self._attempt:
                raise StopIteration
            if self._again:
                return self._again.popleft()
            image = next(self._images, None)
            if image is None:
                self.total = self._given
                raise StopIteration
            self._given += 1
            self._out[id(image)] = image
            return image


class _Attempt(Iterator[ImageFile]):
    def __init__(self, pending: Pending, number: int) -> None:
        self._pending, self._number = pending, number

    def __next__(self) -> ImageFile:
        return self._pending.next_of(self._number)
