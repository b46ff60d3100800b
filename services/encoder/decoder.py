"""How many picture files the encoder has under way; decoding is services.common.decode_workers'."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from glimpse.errors import Overloaded, as_value
from glimpse.pictures.preprocessing import Preprocessing
from services.common.decode_workers import DecodeWorkers
from services.encoder.settings import EncoderSettings

Pixels = NDArray[np.uint8]

_RETRY_AFTER_S = 0.2


class Decoder:
    """Decodes the files of calls; owned by the event loop's thread."""

    def __init__(self, settings: EncoderSettings, preprocessing: Preprocessing) -> None:
        self._workers = DecodeWorkers(settings)
        self._max_images = settings.max_decoding_images
        self._preprocessing = preprocessing
        self._under_way = 0

    def start(self) -> None:
        """Has a process ready for the first file."""
        self._workers.start()

    async def decode(self, files: Sequence[bytes]) -> list[Pixels | Exception]:
        """Return the pixels of each file, uint8 [S, S, 3], or why there are none.

        Raises Overloaded for all of them where too many files are under way.
        """
        if self._under_way + len(files) > self._max_images:
            raise Overloaded(
                f"{self._under_way} of at most {self._max_images} picture files are being decoded",
                retry_after_s=_RETRY_AFTER_S,
            )
        self._under_way += len(files)
        call = object()  # that takes turns with the others
        try:
            return await asyncio.gather(*(self._pixels(file, call) for file in files))
        finally:
            self._under_way -= len(files)

    async def close(self) -> None:
        """End the processes, and forget what waits."""
        await self._workers.close()

    async def _pixels(self, file: bytes, call: object) -> Pixels | Exception:
        try:
            return (await self._workers.decode(file, self._preprocessing, call)).pixels
        except Exception as error:  # one file's failure is that file's outcome
            return as_value(error)
