"""A JPEG of 200 megapixels, as phones make them, without ever having all of them in memory."""

from __future__ import annotations

import re
import struct

import numpy as np
from PIL import Image

from tests.corpus.jpegs import jpeg

WIDTH, HEIGHT = 16_320, 12_240
_ROWS, _ROW_LINES = 8, 16  # of blocks; a restart marker, of which there are eight, is behind each


def jpeg_of_200_megapixels() -> bytes:
    """Eight rows of blocks, again and again."""
    return tall_jpeg(WIDTH, HEIGHT)


def tall_jpeg(width: int, height: int) -> bytes:
    """Of colours, half as many as pixels each way; each row of blocks decodes by itself."""
    across = np.linspace(0, 60, width)[None, :, None]
    down = np.linspace(0, 8, _ROWS * _ROW_LINES)[:, None, None]
    waves = 128 + 100 * np.sin(across + np.array([0.0, 1.0, 2.0])) * np.cos(down)
    noise = np.random.default_rng(2).normal(0, 3, waves.shape)
    strip = Image.fromarray(np.clip(waves + noise, 0, 255).astype(np.uint8))
    content = jpeg(strip, quality=80, subsampling=2, restart_marker_rows=1)
    scan = content.index(b"\xff\xda")
    start = scan + 2 + int.from_bytes(content[scan + 2 : scan + 4], "big")
    rows = re.split(rb"\xff[\xd0-\xd7]", content[start:-2])
    assert len(rows) == _ROWS
    count = -(-height // _ROW_LINES)
    body = bytearray(rows[0])
    for number in range(1, count):
        body += bytes((0xFF, 0xD0 + (number - 1) % 8)) + rows[number % _ROWS]
    size = struct.pack(">2H", height, width)
    head = content[:start].replace(struct.pack(">2H", strip.height, width), size, 1)
    return head + bytes(body) + b"\xff\xd9"
