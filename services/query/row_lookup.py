"""Rows by their ids, fresh and fast."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from services.common.deadline import Deadline
from services.vectors.store import VectorStore


async def find_rows(
    store: VectorStore, name: str, ids: Sequence[str], fields: Sequence[str], deadline: Deadline
) -> dict[str, dict[str, Any]]:
    """The asked fields by id; ids that are not there are absent.

    Sees everything that was written before the call, and is slow only for ids written just now.
    """
    if not ids:
        return {}
    rows = await store.fetch(name, ids, fields, deadline=deadline, consistency="bounded")
    late = [identity for identity in ids if identity not in rows]
    if late:
        rows |= await store.fetch(name, late, fields, deadline=deadline, consistency="strong")
    return rows
