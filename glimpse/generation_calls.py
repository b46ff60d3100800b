"""Calls about a collection's generations; as calls has the others."""

from __future__ import annotations

from glimpse import calls, converters
from glimpse.arguments import checked
from glimpse.indexer.v1 import indexer_pb2
from glimpse.results import Generation


@checked
def create_generation(
    collection: str,
    model_fingerprint: str = "",
    *,
    index_kind: str = "AUTO",
    metric: str = "INNER_PRODUCT",
    timeout_s: float | None = None,
) -> calls.UnaryCall[Generation]:
    """Makes a further, empty generation of a collection, which does not serve, for a model that one
    of the indexer's encoders runs; without a fingerprint, for that of new collections."""
    request = indexer_pb2.CreateGenerationRequest(
        collection=collection,
        model_fingerprint=model_fingerprint,
        index_kind=converters.index_kind(index_kind),
        metric=converters.metric(metric),
    )
    return calls.UnaryCall("indexer", "CreateGeneration", request, _its_generation, timeout_s)


@checked
def list_generations(
    collection: str, *, exact: bool = True, timeout_s: float | None = None
) -> calls.UnaryCall[list[Generation]]:
    """A collection's generations, by their numbers; rows as in get_collection."""
    request = indexer_pb2.ListGenerationsRequest(collection=collection, exact_rows=exact)
    return calls.UnaryCall("indexer", "ListGenerations", request, _generations, timeout_s)


@checked
def hold_writes(
    collection: str, generation: int, hold_ms: int, timeout_s: float | None = None
) -> calls.UnaryCall[int]:
    """Has writes to the generation that serves not be acknowledged for at most 60,000 milliseconds;
    returns until when, in milliseconds since 1970. Another call replaces that; 0 ends it."""
    request = indexer_pb2.HoldWritesRequest(
        collection=collection, generation=generation, hold_ms=hold_ms
    )
    return calls.UnaryCall("indexer", "HoldWrites", request, lambda it: it.held_until_ms, timeout_s)


@checked
def switch_generation(
    collection: str,
    generation: int,
    *,
    expected: int | None = None,
    held_until_ms: int = 0,
    timeout_s: float | None = None,
) -> calls.UnaryCall[Generation]:
    """Has a generation serve; with `expected`, only if that one does until now; with what
    hold_writes has returned, only while that holds writes."""
    request = indexer_pb2.SwitchGenerationRequest(
        collection=collection,
        generation=generation,
        expected=expected,
        held_until_ms=held_until_ms,
    )
    return calls.UnaryCall("indexer", "SwitchGeneration", request, _its_generation, timeout_s)


@checked
def drop_generation(
    collection: str, generation: int, timeout_s: float | None = None
) -> calls.UnaryCall[None]:
    """Removes a generation that does not serve, for good."""
    request = indexer_pb2.DropGenerationRequest(
        collection=collection, generation=generation, confirm=f"{collection}@{generation}"
    )
    return calls.UnaryCall("indexer", "DropGeneration", request, lambda _: None, timeout_s)


def _its_generation(
    response: indexer_pb2.CreateGenerationResponse | indexer_pb2.SwitchGenerationResponse,
) -> Generation:
    return converters.generation(response.generation)


def _generations(response: indexer_pb2.ListGenerationsResponse) -> list[Generation]:
    return [converters.generation(message) for message in response.generations]
