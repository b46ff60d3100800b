"""Picture files of many calls become pixels on a few threads; how is services.common.preprocess."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from glimpse.errors import Overloaded
from services.common import preprocess
from services.common.decode_memory import DecodeMemory
from services.encoder.hardware import usable_cpus
from services.encoder.settings import EncoderSettings

Pixels = NDArray[np.uint8]

_RETRY_AFTER_S = 0.2


class Decoder:
    """A bounded pool of decoding threads; owned by the event loop's thread."""

    def __init__(self, settings: EncoderSettings, image_size: int) -> None:
        threads = settings.decode_threads or usable_cpus()
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="encoder-decode")
        self._memory = DecodeMemory(settings.max_decode_bytes)
        self._max_images = settings.max_decoding_images
        self._image_size = image_size
        self._max_pixels = settings.max_image_pixels
        self._under_way = 0

    async def decode(self, files: Sequence[bytes]) -> list[Pixels | Exception]:
        """Return the pixels of each file, uint8 [S, S, 3], or why there are none.

        Raises Overloaded for all of them where too many files are under way.
        """
        if self._under_way + len(files) > self._max_images:
            raise Overloaded(
                f"{self._under_way} of at most {self._max_images} picture files are being decoded",
                retry_after_s=_RETRY_AFTER_S,
            )
        loop = asyncio.get_running_loop()
        self._under_way += len(files)
        try:
            jobs = [loop.run_in_executor(self._pool, self._pixels, file) for file in files]
            return await asyncio.gather(*jobs)
        finally:
            self._under_way -= len(files)

    def close(self) -> None:
        """Forget what waits and let the threads end."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _pixels(self, file: bytes) -> Pixels | Exception:
        try:
            return preprocess.decode(file, self._image_size, self._max_pixels, self._memory).pixels
        except Exception as error:  # one file's failure is that file's outcome
            return error
