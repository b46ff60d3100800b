"""Answers become messages, serialised hit by hit: a whole one would be so in one turn of the loop.

How many bytes there may be is bounds.py's.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from google.protobuf.message import Message

from glimpse.errors import GlimpseError
from glimpse.query.v1 import query_pb2 as pb
from glimpse.transport.status import to_status
from services.common.encoder_client import EncoderModel
from services.common.event_loop import paced
from services.common.json_values import write_object
from services.common.raw_messages import Part, delimited, size_of
from services.query.bounds import AnswerRoom
from services.query.search import Answers, Page
from services.vectors.records import CollectionSpec, ScoredRow


async def search_response(
    answers: Answers, page: Page, room: AnswerRoom
) -> tuple[list[Part], pb.SearchResponse]:
    """The hits of the one query, serialised; and the rest of its answer, but for its page token and
    the time in all."""
    rest = pb.SearchResponse(
        model=_model(answers.collection),
        text_truncated=page.truncated,
        prompt_template=page.prompt_template,
        timing=_timing(answers),
        generation=answers.collection.generation,
    )
    return await _hits(pb.SearchResponse.HITS_FIELD_NUMBER, page.hits, room), rest


async def batch_response(
    answers: Answers, room: AnswerRoom
) -> tuple[list[Part], pb.BatchSearchResponse]:
    """One result per query, in order, serialised; and the rest, but for the time in all."""
    results: list[Part] = []
    async for outcome in paced(answers.results):
        if isinstance(outcome, GlimpseError):
            result = [pb.BatchResult(error=to_status(outcome)).SerializeToString()]
            room.take(len(result[0]))
        else:
            hits = await _hits(pb.Hits.HITS_FIELD_NUMBER, outcome.hits, room)
            said = pb.BatchResult(
                text_truncated=outcome.truncated, prompt_template=outcome.prompt_template
            ).SerializeToString()
            room.take(len(said))
            result = [*delimited(pb.BatchResult.HITS_FIELD_NUMBER, *hits), said]
        results += delimited(pb.BatchSearchResponse.RESULTS_FIELD_NUMBER, *result)
    rest = pb.BatchSearchResponse(
        model=_model(answers.collection),
        timing=_timing(answers),
        generation=answers.collection.generation,
    )
    return results, rest


def model_response(model: EncoderModel) -> pb.GetModelResponse:
    """A collection's model, and how it sees pictures."""
    return pb.GetModelResponse(
        model=pb.Model(name=model.name, fingerprint=model.fingerprint),
        preprocessing=pb.Preprocessing(
            version=model.preprocessing_version,
            image_size=model.image_size,
            resize=model.resize,  # type: ignore[arg-type]
            interpolation=model.interpolation,  # type: ignore[arg-type]
        ),
    )


async def images_response(
    present: Iterable[tuple[str, dict[str, Any]]], missing: Sequence[str], room: AnswerRoom
) -> tuple[list[Part], pb.GetImagesResponse]:
    """Images in the order asked, serialised; and the ids that are not there."""
    rest = pb.GetImagesResponse(missing_ids=missing)
    room.take(rest.ByteSize())
    images: list[Part] = []
    async for identity, fields in paced(present):
        image = pb.Image(id=identity)
        _write_attributes(image.attributes, fields)
        images += _written(pb.GetImagesResponse.IMAGES_FIELD_NUMBER, image, room)
    return images, rest


async def _hits(number: int, hits: Sequence[ScoredRow], room: AnswerRoom) -> list[Part]:
    """Serialised one by one: in a message they would be so all in one turn."""
    written: list[Part] = []
    async for hit in paced(hits):
        message = pb.Hit(id=hit.id, score=hit.score)
        _write_attributes(message.attributes, hit.fields)
        written += _written(number, message, room)
    return written


def _written(number: int, message: Message, room: AnswerRoom) -> list[Part]:
    parts = delimited(number, message.SerializeToString())
    room.take(size_of(parts))
    return parts


def _write_attributes(message: pb.Attributes, fields: dict[str, Any]) -> None:
    """Attributes by name; those that are not in `fields` stay unset."""
    message.SetInParent()
    for name, value in fields.items():
        if name == "metadata":
            write_object(message.metadata, value)
        elif name == "vector":
            # .tolist(): five times as fast as handing the array over.
            message.vector.values.extend(value.tolist())
        else:
            setattr(message, name, value)


def _model(collection: CollectionSpec) -> pb.Model:
    return pb.Model(name=collection.model_name, fingerprint=collection.model_fingerprint)


def _timing(answers: Answers) -> pb.Timing:
    timing = answers.timing
    return pb.Timing(
        queue_us=timing.queue_us, encode_us=timing.encode_us, search_us=timing.search_us
    )
