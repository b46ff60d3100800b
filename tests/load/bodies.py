"""What the load tests send, from a seed: searches, texts, pixels, pictures; sending is ghz's job.

`python -m tests.load.bodies` writes all of it where the configurations look for it, for whoever
runs ghz by hand. A file is a row of messages, each with its length before it: ghz's `binary-file`.
"""

from __future__ import annotations

import argparse
import io
import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from random import Random

import numpy as np
from google.protobuf.message import Message
from google.protobuf.proto import serialize_length_prefixed
from PIL import Image

from benchmarks.texts import new_texts, repeated_texts
from glimpse.encoder.v1 import encoder_pb2
from glimpse.indexer.v1 import indexer_pb2
from glimpse.query.v1 import query_pb2

COLLECTION = "load"
INGESTED = "load_ingested"

# More than the services keep vectors for: going round the file, no text is still in a cache.
SEARCHES = 20_000
BATCH_QUERIES = 16
CALL_TEXTS = 16
CALL_IMAGES = 8

_POPULAR_TEXTS = 1_000
_DISTINCT_CALLS = 500
_PICTURE_SIZE = (320, 240)


@dataclass(frozen=True)
class World:
    """What the bodies have to fit: ids are "0" to str(rows - 1), pixels are image_size squared, a
    stream is so many images long."""

    rows: int
    image_size: int
    stream_images: int = 256


def write(path: Path, seed: int, world: World) -> None:
    """Writes the messages that a configuration's `binary-file`, KIND.bin, stands for."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(".part")
    with draft.open("wb") as output:
        for message in KINDS[path.stem](seed, world):
            serialize_length_prefixed(message, output)
    draft.replace(path)


def search_new(seed: int, world: World) -> Iterator[Message]:
    """Searches for texts that nobody has asked for yet."""
    for text in itertools.islice(new_texts(seed), SEARCHES):
        yield query_pb2.SearchRequest(collection=COLLECTION, text=text)


def search_mix(seed: int, world: World) -> Iterator[Message]:
    """Of ten searches: four new texts, three popular ones, two with a filter, one by image id."""
    rng = Random(f"mix {seed}")
    new = new_texts(seed)
    popular = repeated_texts(list(itertools.islice(new, _POPULAR_TEXTS)), 1.0, seed)
    for _ in range(SEARCHES):
        request = query_pb2.SearchRequest(collection=COLLECTION)
        kind = rng.choices(("new", "popular", "filtered", "image"), (4, 3, 2, 1))[0]
        if kind == "image":
            request.image_id = str(rng.randrange(world.rows))
        else:
            request.text = next(popular if kind == "popular" else new)
        if kind == "filtered":
            request.options.filter = f'uri like "image/{rng.randint(1, 9)}%"'
        yield request


def batch_search(seed: int, world: World) -> Iterator[Message]:
    """BatchSearch of new texts."""
    texts = new_texts(seed)
    for _ in range(SEARCHES // BATCH_QUERIES):
        queries = [query_pb2.BatchQuery(text=next(texts)) for _ in range(BATCH_QUERIES)]
        yield query_pb2.BatchSearchRequest(collection=COLLECTION, queries=queries)


def encode_texts(seed: int, world: World) -> Iterator[Message]:
    """EncodeTexts of new texts."""
    texts = new_texts(seed)
    for _ in range(SEARCHES // CALL_TEXTS):
        yield encoder_pb2.EncodeTextsRequest(texts=list(itertools.islice(texts, CALL_TEXTS)))


def encode_text(seed: int, world: World) -> Iterator[Message]:
    """EncodeTexts of one new text: what the calibration sends."""
    for text in itertools.islice(new_texts(seed), SEARCHES):
        yield encoder_pb2.EncodeTextsRequest(texts=[text])


def encode_images(seed: int, world: World) -> Iterator[Message]:
    """EncodeImages of pixels, as the indexer calls it."""
    rng = np.random.default_rng(seed)
    shape = (CALL_IMAGES, world.image_size**2 * 3)
    for _ in range(_DISTINCT_CALLS // CALL_IMAGES):
        pixels = rng.integers(0, 256, shape, dtype=np.uint8)
        images = [encoder_pb2.Image(pixels=image.tobytes()) for image in pixels]
        yield encoder_pb2.EncodeImagesRequest(images=images, priority=encoder_pb2.PRIORITY_BULK)


def index_images(seed: int, world: World) -> Iterator[Message]:
    """One stream: options, then JPEGs. They are written anew by each stream that sends them."""
    options = indexer_pb2.IndexOptions(collection=INGESTED, create_collection=True, force=True)
    yield indexer_pb2.IndexImagesRequest(options=options)
    for number, content in enumerate(itertools.islice(jpegs(seed), world.stream_images)):
        image = indexer_pb2.Image(sequence=number, id=f"{seed}/{number}", content=content)
        yield indexer_pb2.IndexImagesRequest(image=image)


def jpegs(seed: int) -> Iterator[bytes]:
    """Endless pictures of soft colours, no two equal, 320 x 240."""
    rng = np.random.default_rng(seed)
    while True:
        colours = rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)
        buffer = io.BytesIO()
        Image.fromarray(colours).resize(_PICTURE_SIZE, Image.Resampling.BICUBIC).save(
            buffer, "JPEG"
        )
        yield buffer.getvalue()


KINDS: Mapping[str, Callable[[int, World], Iterator[Message]]] = {
    "search-new": search_new,
    "search-mix": search_mix,
    "batch-search": batch_search,
    "encode-text": encode_text,
    "encode-texts": encode_texts,
    "encode-images": encode_images,
    "index-images": index_images,
}


def items_per_call(kind: str, world: World) -> int:
    """Queries, texts or images in one call of that kind."""
    many = {
        "batch-search": BATCH_QUERIES,
        "encode-texts": CALL_TEXTS,
        "encode-images": CALL_IMAGES,
        "index-images": world.stream_images,
    }
    return many.get(kind, 1)


def main() -> None:
    """Writes every kind to build/load/bodies."""
    parser = argparse.ArgumentParser(prog="python -m tests.load.bodies", description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--rows", type=int, default=20_000, help='ids "0" to this, less one')
    parser.add_argument("--image-size", type=int, default=64, help="of the encoder's model")
    options = parser.parse_args()
    for kind in KINDS:
        write(
            Path("build/load/bodies") / f"{kind}.bin",
            options.seed,
            World(options.rows, options.image_size),
        )


if __name__ == "__main__":
    main()
