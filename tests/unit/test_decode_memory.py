"""The bytes of the pictures decoded concurrently: who gets them, and when."""

from __future__ import annotations

import io
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from PIL import Image
from pydantic import ValidationError

from glimpse.errors import InvalidImage
from services.common import preprocess
from services.common.decode_memory import DecodeMemory
from services.encoder.settings import EncoderSettings
from services.indexer.settings import IndexerSettings

T = 30.0


def test_no_more_bytes_are_held_than_the_bound_while_many_threads_want_them():
    memory, lock, held, most = DecodeMemory(10), threading.Lock(), 0, 0

    def hold(size_bytes):
        nonlocal held, most
        with memory.reserved(size_bytes):
            with lock:
                held += size_bytes
                most = max(most, held)
            with lock:
                held -= size_bytes

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(hold, [1, 4, 7, 10, 3, 9, 2] * 200, timeout=T))
    assert held == 0
    assert most <= 10


def test_what_is_larger_than_the_bound_passes_alone():
    memory = DecodeMemory(10)
    with memory.reserved(100):
        pass
    with memory.reserved(1):
        waiting = threading.Thread(target=lambda: memory.reserved(100).__enter__())
        waiting.start()
        waiting.join(0.05)
        assert waiting.is_alive()
    waiting.join(T)
    assert not waiting.is_alive()


def test_a_small_picture_does_not_pass_a_large_one_that_waits():
    memory, order = DecodeMemory(10), []
    asked = threading.Event()

    def take(size_bytes):
        asked.set()
        with memory.reserved(size_bytes):
            order.append(size_bytes)

    with memory.reserved(8):
        large = threading.Thread(target=take, args=(9,))
        large.start()
        asked.wait(T)
        while not memory._turn.locked():
            pass
        small = threading.Thread(target=take, args=(1,))
        small.start()
        small.join(0.05)
        assert order == []
    large.join(T)
    small.join(T)
    assert order[0] == 9


def test_a_picture_gives_its_bytes_back_decoded_or_not():
    file = io.BytesIO()
    Image.effect_noise((64, 48), 90).convert("RGB").save(file, "JPEG")
    memory = DecodeMemory(64 * 48 * preprocess.MAX_BYTES_PER_PIXEL)
    with pytest.raises(InvalidImage, match="truncated"):
        preprocess.decode(file.getvalue()[:900], 32, 10**6, memory)
    assert preprocess.decode(file.getvalue(), 32, 10**6, memory).width == 64
    with memory.reserved(64 * 48 * preprocess.MAX_BYTES_PER_PIXEL):
        pass


@pytest.mark.parametrize("kind", [EncoderSettings, IndexerSettings])
def test_settings_under_which_the_largest_picture_does_not_fit_are_refused(kind):
    per_pixel = preprocess.MAX_BYTES_PER_PIXEL
    kind(max_image_pixels=1_000_000, max_decode_bytes=1_000_000 * per_pixel)
    with pytest.raises(ValidationError, match=r"MAX_DECODE_BYTES: must be at least 17000000: "):
        kind(max_image_pixels=1_000_000, max_decode_bytes=1_000_000 * per_pixel - 1)
