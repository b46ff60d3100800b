"""The encoder's settings; how they are read and printed is services.common.settings' job."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from services.common.decode_settings import DecodeSettings
from services.common.settings import HostPort
from services.encoder.hardware import RequestedPrecision


class EncoderSettings(DecodeSettings):
    """Encoder: turns texts and images into the vectors of one CLIP model."""

    model_config = SettingsConfigDict(
        env_prefix="ENCODER_", frozen=True, extra="ignore", env_ignore_empty=True
    )

    listen: HostPort = Field(
        "127.0.0.1:50051", description="address of the gRPC port; port 0 selects a free one"
    )
    metrics_listen: HostPort = Field(
        "127.0.0.1:9051",
        description="address of the HTTP port for /metrics; port 0 selects a free one",
    )
    model: str = Field(
        "demo",
        min_length=1,
        description=(
            "demo (the bundled model), a published name such as ViT-B/32 (downloaded once), the "
            "path of a checkpoint in openai/CLIP's format, or of a folder of Hugging Face "
            "(CLIP, SigLIP 2) or OpenCLIP"
        ),
    )
    activation: Literal["", "quick_gelu", "gelu"] = Field(
        "",
        description=(
            "activation of a checkpoint that does not say it: quick_gelu (openai/CLIP) or gelu "
            "(OpenCLIP); empty: such a checkpoint is refused"
        ),
    )
    cache_dir: Path = Field(
        Path("~/.cache/glimpse"),
        description="folder for downloaded weights, and for models that were made int8",
    )
    weights_url: str = Field(
        "",
        pattern=r"^(https?://.+)?$",
        description=(
            "download location instead of the published one: openai/CLIP's files as "
            "URL/SHA-256/FILE, others' as URL/OWNER/NAME/raw/main/FILE and …/resolve/main/FILE"
        ),
    )
    device: str = Field(
        "auto", pattern=r"^(auto|cpu|cuda(:\d+)?)$", description="auto, cpu, cuda or cuda:N"
    )
    precision: RequestedPrecision = Field(
        "auto",
        description=(
            "fp32, bf16, fp16 (GPU), int8 (CPU), or auto: the fastest that the device has, int8 "
            "only where it agrees with fp32 as the next two settings say"
        ),
    )
    min_int8_neighbours: float = Field(
        0.98,
        ge=0,
        le=1,
        description=(
            "refuse int8 if it keeps a smaller share of the nearest pictures that fp32 finds, in "
            "the check at the start"
        ),
    )
    min_int8_cosine: float = Field(
        0.99,
        ge=0,
        le=1,
        description="refuse int8 if a vector's cosine to that in fp32 is smaller, in that check",
    )
    threads: int = Field(
        0, ge=0, le=1024, description="CPUs that the model uses; 0: those this process may use"
    )
    max_decoding_images: int = Field(
        128, ge=1, le=100_000, description="picture files being decoded or waiting for it"
    )
    max_texts: int = Field(256, ge=1, le=10_000, description="texts in one call")
    max_images: int = Field(64, ge=1, le=10_000, description="images in one call")
    max_file_bytes: int = Field(
        32 * 2**20, ge=1024, le=2**30, description="largest picture file, in bytes"
    )
    max_batch_texts: int = Field(
        64, ge=1, le=10_000, description="most texts that the device computes at once"
    )
    max_batch_images: int = Field(
        0,
        ge=0,
        le=10_000,
        description="most images that the device computes at once; 0: 32 on a CPU, 256 on a GPU",
    )
    max_batch_bytes: int = Field(
        256 * 2**20, ge=2**20, le=2**34, description="most pixel bytes in one such batch"
    )
    max_queued_texts: int = Field(
        2048,
        ge=1,
        le=1_000_000,
        description="maximum waiting texts; further ones get RESOURCE_EXHAUSTED",
    )
    max_queued_images: int = Field(
        512,
        ge=1,
        le=1_000_000,
        description="maximum waiting images, interactive and bulk each; further ones as for texts",
    )
    max_cached_texts: int = Field(
        10_000,
        ge=0,
        le=10_000_000,
        description="texts whose vectors are kept (512 values: 2 KiB each); 0: none",
    )

    def contradictions(self) -> Iterator[str]:
        yield from super().contradictions()
        for queued, one_call in (
            ("max_queued_texts", "max_texts"),
            ("max_queued_images", "max_images"),
            ("max_decoding_images", "max_images"),
        ):
            if getattr(self, queued) < getattr(self, one_call):
                names = f"{self.prefix()}{queued.upper()}", f"{self.prefix()}{one_call.upper()}"
                yield "{}: must be at least {}: one call has to fit".format(*names)
