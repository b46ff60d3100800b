"""A store on a server that others use as well: its collections have a prefix, unknown to tests."""

from __future__ import annotations

import inspect
from dataclasses import replace
from typing import Any

from services.common.deadline import Deadline
from services.vectors.bounds import COLLECTION_NAME
from services.vectors.generation_names import parts_of
from services.vectors.records import CollectionInfo, CollectionSpec, StoredGeneration
from services.vectors.store import VectorStore


class PrefixedStore:
    """A VectorStore whose every name gets the prefix, except those that no collection may have."""

    def __init__(self, store: VectorStore, prefix: str) -> None:
        self._store, self._prefix = store, prefix

    def __getattr__(self, method: str) -> Any:
        """Of the calls, those that are told a collection's name first."""
        call = getattr(self._store, method)
        if "name" not in inspect.signature(call).parameters:
            return call
        return lambda name, *args, **options: call(self._full(name), *args, **options)

    async def create_collection(self, spec: CollectionSpec, *, deadline: Deadline) -> None:
        spec = replace(spec, name=self._full(spec.name))
        await self._store.create_collection(spec, deadline=deadline)

    async def create_generation(
        self, spec: CollectionSpec, *, deadline: Deadline
    ) -> CollectionSpec:
        full = replace(spec, name=self._full(spec.name))
        made = await self._store.create_generation(full, deadline=deadline)
        return replace(made, name=spec.name)

    async def list_generations(self, name: str, **options: Any) -> list[StoredGeneration]:
        listed = await self._store.list_generations(self._full(name), **options)
        return [replace(each, spec=replace(each.spec, name=name)) for each in listed]

    async def describe_collection(self, name: str, **options: Any) -> CollectionInfo:
        info = await self._store.describe_collection(self._full(name), **options)
        return replace(info, name=name)

    async def get_spec(self, name: str, **options: Any) -> CollectionSpec:
        spec = await self._store.get_spec(self._full(name), **options)
        return replace(spec, name=spec.name.removeprefix(self._prefix))

    async def list_collections(self, *, after: str = "", **options: Any) -> list[str]:
        """Names with the prefix stand together: what comes after them in a page is others'."""
        after = self._prefix + after
        names = await self._store.list_collections(after=after, **options)
        ours = [name for name in names if name.startswith(self._prefix)]
        return [name.removeprefix(self._prefix) for name in ours]

    def _full(self, name: str) -> str:
        is_name = COLLECTION_NAME.fullmatch(parts_of(name)[0])
        return self._prefix + name if is_name else name
