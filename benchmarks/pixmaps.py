"""Pictures that cost nothing to decode: what is left of an ingest is everything else."""

from __future__ import annotations

import io
from collections.abc import Iterator

from PIL import Image

from glimpse.results import ImageFile

SIZE = 32  # pixels along a side, as many as the stub encoder's model sees


def images(count: int, prefix: str) -> Iterator[ImageFile]:
    """`count` bitmaps, no two of them equal, with ids and addresses that begin with `prefix`."""
    buffer = io.BytesIO()
    Image.new("RGB", (SIZE, SIZE), "gray").save(buffer, "BMP")
    bitmap = buffer.getvalue()
    for number in range(count):
        content = bitmap[:-8] + number.to_bytes(8, "big")
        name = f"{prefix}/{number}"
        yield ImageFile(content=content, id=name, uri=name)
