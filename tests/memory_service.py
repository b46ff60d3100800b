"""A service on a store in memory, as a process: `python -m tests.memory_service indexer`."""

from __future__ import annotations

import sys

from services.common.server import run_service
from services.common.settings import load
from services.indexer import main as indexer
from services.indexer.settings import IndexerSettings
from services.query import main as query
from services.query.settings import QuerySettings
from tests.memory_store import MemoryStore


def main(service: str) -> int:
    if service == "indexer":
        settings = load(IndexerSettings)
        return run_service(settings, lambda: indexer.serve(settings, MemoryStore()))
    queries = load(QuerySettings)
    return run_service(queries, lambda: query.serve(queries, MemoryStore()))


if __name__ == "__main__":
    sys.exit(main(sys.argv.pop(1)))  # settings take no arguments
