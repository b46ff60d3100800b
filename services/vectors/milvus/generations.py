"""Which Milvus collection a name means, and the generations that a collection has.

All other requests go to Milvus' own name of a generation, never to the alias: a search whose vector
was made for one generation cannot come to another, and pymilvus, which remembers schemas by name,
cannot take one for another.
"""

from __future__ import annotations

from collections.abc import Iterable

from glimpse.errors import AlreadyExists, FailedPrecondition, NotFound
from services.common.tasks import concurrently
from services.vectors import generation_names
from services.vectors.milvus import schema, vector_index
from services.vectors.milvus.connection import MilvusCall
from services.vectors.records import CollectionSpec, StoredGeneration, now_ms

_REASON_FOREIGN = "FOREIGN_COLLECTION"


async def is_taken(call: MilvusCall) -> bool:
    """Whether the call's name is that of a collection, ours or not."""
    try:
        await resolve(call, call.name)
    except NotFound:
        return False
    except FailedPrecondition as error:
        if error.reason != _REASON_FOREIGN:
            raise
    return True


async def resolve(call: MilvusCall, address: str) -> schema.Known:
    """The generation that is named, or the one that serves the collection that is.

    Raises NotFound, FailedPrecondition (FOREIGN_COLLECTION) and what else Milvus answers.
    """
    collection, number = generation_names.parts_of(address)
    if number is None and generation_names.can_grow(collection):
        alias = generation_names.serving_alias(collection)
        described = await call.find("describe_collection", alias)
        serving = schema.known_of(described, alias) if described else None
        if serving is not None and serving.marks.collection == collection:
            return serving
    known = await _described(call, generation_names.stored_name(collection, number or 0))
    if (known.spec.name, known.spec.generation) != (collection, number or 0):
        raise NotFound(f"no collection {address!r}", reason="COLLECTION_NOT_FOUND")
    return known


def may_be_called(milvus_names: Iterable[str]) -> set[str]:
    """What collections may be called that are there under these names of Milvus'."""
    return {each for name in milvus_names for each in (name, _collection_in(name)) if each}


async def listed(call: MilvusCall) -> list[StoredGeneration]:
    """The generations of the call's collection, by their numbers; empty where there is none."""
    collection = call.name
    there = await call("list_collections")
    names = [name for name in there if collection in (name, _collection_in(name))]
    described = await concurrently(*(_described_if_ours(call, name) for name in names))
    specs = [known.spec for known in described if known and known.spec.name == collection]
    if [spec.generation for spec in specs] in ([], [0]):
        return [StoredGeneration(spec, is_serving=True) for spec in specs]
    try:
        serving = (await resolve(call, collection)).spec.generation
    except NotFound:  # as after a collection was not wholly dropped
        serving = None
    generations = [StoredGeneration(spec, spec.generation == serving) for spec in specs]
    return sorted(generations, key=lambda each: each.spec.generation)


async def get(call: MilvusCall, number: int) -> StoredGeneration:
    """A generation of the call's collection; raises NotFound."""
    for generation in await listed(call):
        if generation.spec.generation == number:
            return generation
    raise NotFound(
        f"collection {call.name!r} has no generation {number}", reason="GENERATION_NOT_FOUND"
    )


async def free_number(call: MilvusCall) -> int:
    """The number of the next generation of the call's collection: behind all that are there.

    Raises NotFound where there is no such collection, AlreadyExists where another one has the name
    that its alias needs.
    """
    collection = call.name
    if not await listed(call):
        await resolve(call, collection)  # which says why
    there = await call("list_collections")
    if (alias := generation_names.serving_alias(collection)) in there:
        raise AlreadyExists(
            f"collection {alias!r} has the name that an alias of {collection!r} needs"
        )
    parts = filter(None, map(generation_names.parts_of_stored, there))
    return 1 + max((number for name, number in parts if name == collection), default=0)


async def create(call: MilvusCall, spec: CollectionSpec) -> None:
    """Makes an empty generation, as the Milvus collection of the call, that can be searched."""
    marks = schema.Marks(
        model_name=spec.model_name,
        model_fingerprint=spec.model_fingerprint,
        index_kind=spec.index_kind,
        metric=spec.metric,
        created_at_ms=now_ms(),
        collection=spec.name if spec.generation else "",
        generation=spec.generation,
    )
    await call(
        "create_collection",
        call.collection,
        schema=schema.schema_of(spec, marks),
        consistency_level="Bounded",
        properties={schema.MARKS: marks.to_json()},
    )
    await vector_index.build_and_load(call, spec)


async def serve(call: MilvusCall, number: int) -> None:
    """Has a generation that is there serve from now on, in one step of Milvus'."""
    try:
        current = (await resolve(call, call.name)).spec.generation
    except NotFound:
        current = 0
    if number == current:
        return
    alias = generation_names.serving_alias(call.name)
    successor = generation_names.stored_name(call.name, number)
    if not number:
        await call("drop_alias", alias)
    elif current:
        await call("alter_alias", successor, alias)
    else:
        await call("create_alias", successor, alias)


async def hold(call: MilvusCall, known: schema.Known, until_ms: int) -> None:
    """Writes on a generation until when what is written to it must not be acknowledged."""
    properties = {schema.HELD: str(until_ms)}
    await call("alter_collection_properties", known.milvus_name, properties)


async def end(call: MilvusCall, generation: StoredGeneration) -> None:
    """Ends that a generation serves, before it is dropped."""
    if generation.spec.generation:
        await call("drop_alias", generation_names.serving_alias(call.name))


def _collection_in(milvus_name: str) -> str:
    """The collection whose generation the name may be that of; else empty."""
    parts = generation_names.parts_of_stored(milvus_name)
    return parts[0] if parts else ""


async def _described_if_ours(call: MilvusCall, milvus_name: str) -> schema.Known | None:
    try:
        return await _described(call, milvus_name)
    except NotFound:
        return None
    except FailedPrecondition as error:
        if error.reason != _REASON_FOREIGN:
            raise
        return None


async def _described(call: MilvusCall, milvus_name: str) -> schema.Known:
    known = schema.known_of(await call("describe_collection", milvus_name), milvus_name)
    if known is None:
        raise FailedPrecondition(
            f"collection {call.name!r} was not created by glimpse", reason=_REASON_FOREIGN
        )
    return known
