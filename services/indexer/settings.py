"""The indexer's settings; how they are read and printed is services.common.settings' job."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from services.common.decode_settings import DecodeSettings
from services.common.peer_settings import PeerSettings
from services.common.settings import HostPort


class IndexerSettings(DecodeSettings, PeerSettings):
    """Indexer: decodes images, has them encoded, and writes them into Milvus."""

    model_config = SettingsConfigDict(
        env_prefix="INDEXER_", frozen=True, extra="ignore", env_ignore_empty=True
    )

    listen: HostPort = Field(
        "127.0.0.1:50052", description="address of the gRPC port; port 0 selects a free one"
    )
    metrics_listen: HostPort = Field(
        "127.0.0.1:9052",
        description="address of the HTTP port for /metrics; port 0 selects a free one",
    )
    encoder_timeout_s: float = Field(
        30.0, gt=0, le=600, description="timeout of the encoder for one batch"
    )
    milvus_timeout_s: float = Field(
        30.0, gt=0, le=600, description="timeout of Milvus for one call"
    )
    milvus_lite_dir: Path | None = Field(
        None,
        description=(
            "folder of Milvus Lite's data, where it is on this machine: `glimpse up` sets it; "
            "none: its disk is not looked at"
        ),
    )
    min_free_bytes: int = Field(
        512 * 2**20,
        ge=0,
        description=(
            "free bytes on that disk below which no rows are written: streams wait for more, as "
            "for Milvus; Milvus Lite needs some hundred MB itself"
        ),
    )
    retry_budget_s: float = Field(
        60.0,
        ge=0,
        le=3600,
        description="longest time that a stream waits for an unavailable encoder or Milvus",
    )
    settle: bool = Field(
        True, description="whether a stream's end waits until its rows are indexed"
    )
    settle_timeout_s: float = Field(
        30.0,
        gt=0,
        le=3600,
        description="longest time that a stream's end waits for that; then it goes on by itself",
    )
    max_streams: int = Field(
        8,
        ge=1,
        le=1000,
        description=(
            "concurrent IndexImages, ImportImages and BatchIndexImages calls; of these, the last "
            "wait"
        ),
    )
    max_streams_per_caller: int = Field(
        0,
        ge=0,
        le=1000,
        description="IndexImages and ImportImages calls of one caller; 0: the same as the total",
    )
    max_stream_bytes: int = Field(
        128 * 2**20,
        ge=2**20,
        le=2**34,
        description="files, pixels and rows that one stream holds; a sender over it has to wait",
    )
    max_file_bytes: int = Field(
        32 * 2**20, ge=1024, le=2**30, description="largest picture file, in bytes"
    )
    max_encode_batch: int = Field(
        32,
        ge=1,
        le=4096,
        description="most images in one call to the encoder, if it accepts that many",
    )
    max_encode_calls: int = Field(
        4, ge=1, le=64, description="one stream's concurrent calls to the encoder"
    )
    max_look_up_rows: int = Field(
        256, ge=1, le=5000, description="most rows that are compared with one read from Milvus"
    )
    max_write_rows: int = Field(2000, ge=1, le=5000, description="most rows in one write to Milvus")
    write_wait_ms: int = Field(
        300, ge=0, le=10_000, description="longest time that a row waits for others to join it"
    )
