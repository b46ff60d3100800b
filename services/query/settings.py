"""The query service's settings; reading them is the job of services.common.settings."""

from __future__ import annotations

from pydantic import Field, SecretStr
from pydantic_settings import SettingsConfigDict

from services.common.peer_settings import PeerSettings
from services.common.settings import HostPort


class QuerySettings(PeerSettings):
    """Query: finds the images of a collection that fit a text, an image, or a mix of these."""

    model_config = SettingsConfigDict(env_prefix="QUERY_", frozen=True)

    listen: HostPort = Field(
        "127.0.0.1:50053", description="address of the gRPC port; port 0 selects a free one"
    )
    metrics_listen: HostPort = Field(
        "127.0.0.1:9053",
        description="address of the HTTP port for /metrics; port 0 selects a free one",
    )
    max_in_flight: int = Field(
        48,
        ge=1,
        le=100_000,
        description="calls worked on at once; further calls wait for a place",
    )
    # Searches that wait at the caller could not be refused, nor told when to come again.
    max_calls_per_connection: int = Field(
        0, ge=0, le=100_000, description="calls open at once on one connection; 0: any number"
    )
    max_image_bytes: int = Field(
        32 * 2**20, ge=1, le=2**30, description="largest picture file in a query, in bytes"
    )
    max_cached_texts: int = Field(
        10_000,
        ge=0,
        le=10_000_000,
        description="texts whose vectors are kept (512 values: 2 KiB each); 0: none",
    )
    collection_cache_s: float = Field(
        5.0,
        ge=0,
        le=3600,
        description="how long a collection's description is cached; 0: not at all",
    )
    page_token_key: SecretStr = Field(
        SecretStr(""),
        description=(
            "secret that signs page tokens; several replicas behind one name need the same one; "
            "empty: a random one, so that tokens are only valid within this process"
        ),
    )
    health_interval_s: float = Field(
        2.0, gt=0, le=300, description="interval of Milvus' health checks"
    )
