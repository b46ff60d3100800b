"""How a model sees pictures, as data; making the pixels is glimpse.pictures.preprocess' job."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

PREPROCESSING_VERSION = "2"
"""Of the steps from a file to pixels: counts up with any change of them, as vectors change, too."""


class Resize(IntEnum):
    """How a picture becomes square; numbered as in the contracts."""

    CROP = 1  # the short side to the square's, and the middle cut out, as CLIP does
    STRETCH = 2  # both sides to the square's, as SigLIP does
    CROP_DOWN = 3  # as CROP; a corner between two pixels is the lower one's, as in transformers


class Interpolation(IntEnum):
    """How pixels are computed when a picture is resized; numbered as in the contracts."""

    BICUBIC = 1
    BILINEAR = 2


@dataclass(frozen=True)
class Preprocessing:
    """How a model sees a picture; mean and deviation of its input are the encoder's to apply."""

    image_size: int  # side of the square, in pixels
    resize: Resize = Resize.CROP
    interpolation: Interpolation = Interpolation.BICUBIC

    @classmethod
    def numbered(
        cls, version: str, image_size: int, resize: int, interpolation: int
    ) -> Preprocessing:
        """What the contracts' fields say, where 0 is the default. Raises ValueError for what this
        release does not know, and so cannot make the pixels of."""
        if version != PREPROCESSING_VERSION:
            raise ValueError(f"version {version}")
        seen = Resize(resize or Resize.CROP), Interpolation(interpolation or Interpolation.BICUBIC)
        return cls(image_size, *seen)

    @property
    def fingerprint(self) -> str:
        """Changes with all that changes pixels, such as "224px/v2"."""
        parts = [f"{self.image_size}px"]
        if self.resize is not Resize.CROP:
            parts.append(self.resize.name.lower())
        if self.interpolation is not Interpolation.BICUBIC:
            parts.append(self.interpolation.name.lower())
        return "/".join((*parts, f"v{PREPROCESSING_VERSION}"))


def told_difference(filled: str, runs: str) -> str:
    """What to add about the fingerprints of a collection's model and the encoder's, where it is not
    the weights that differ; else ""."""
    (weights, _, before), (same, _, now) = filled.partition("/"), runs.partition("/")
    if weights != same or before == now:
        return ""
    return f"; the weights are the same, but pictures are seen otherwise: {before} then, {now} now"
