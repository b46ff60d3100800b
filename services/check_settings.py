"""`python -m services.check_settings`: prints names in the environment that look like a service's
settings and are none; for who starts services and does not read their logs."""

from __future__ import annotations

import os

from services.common.unknown_settings import unknown_settings
from services.encoder.settings import EncoderSettings
from services.indexer.settings import IndexerSettings
from services.query.settings import QuerySettings

if __name__ == "__main__":
    for kind in (EncoderSettings, IndexerSettings, QuerySettings):
        print(*unknown_settings(kind, os.environ), sep="\n", end="")
