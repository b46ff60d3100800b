"""The settings of a service that decodes pictures; how it decodes them is preprocess' job."""

from __future__ import annotations

from pydantic import Field

from glimpse.pictures.preprocess import MAX_BYTES_PER_PIXEL
from services.common.cpus import usable_cpus
from services.common.settings import ServiceSettings


class DecodeSettings(ServiceSettings):
    """What encoder and indexer have in common."""

    decode_workers: int = Field(
        0,
        ge=0,
        le=256,
        description=(
            "picture files decoded concurrently, by a process each; 0: one per CPU; "
            "one more decodes small pictures while all are at large ones"
        ),
    )
    max_decode_bytes: int = Field(
        4 * 2**30,
        ge=2**20,
        le=2**40,
        description=(
            "memory of all pictures over 2 megapixels that are being decoded, in bytes: "
            f"{MAX_BYTES_PER_PIXEL} per pixel, less of JPEGs over 50 megapixels; further ones "
            "wait, and one that needs more by itself is refused"
        ),
    )
    max_image_pixels: int = Field(
        250_000_000, ge=1, le=2**30, description="largest picture, width times height"
    )

    @property
    def decoders(self) -> int:
        """How many pictures are decoded concurrently."""
        return self.decode_workers or usable_cpus()
