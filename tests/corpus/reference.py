"""What libvips makes of a file: a decoder that shares no code of ours, nor of Pillow's own."""

from __future__ import annotations

import numpy as np

from tests.corpus.case import Colours


def decoded(content: bytes) -> Colours:
    """The picture as libvips shows it: turned upright, in sRGB, on white."""
    import pyvips  # where it is needed: the corpus is also read without it

    image = pyvips.Image.new_from_buffer(content, "").autorot()
    if image.interpretation != "srgb":
        image = image.colourspace("srgb")
    if image.hasalpha():
        image = image.flatten(background=255)
    return np.asarray(image.cast("uchar").numpy()).reshape(image.height, image.width, -1)[..., :3]
