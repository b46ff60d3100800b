"""Attacks that need more than one field: the largest calls that are allowed, ties, pages, and
fields that only hurt together. Fields one by one are contents.py's.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from random import Random

import numpy as np
from google.protobuf.message import Message

from benchmarks.texts import new_texts
from glimpse.encoder.v1 import encoder_pb2
from glimpse.indexer.v1 import indexer_pb2
from glimpse.query.v1 import query_pb2
from tests.hostile import pictures, sizes
from tests.hostile.attacks import Assault, Attack, Calls
from tests.hostile.contracts import ATTACKED, IMPORTED, short_name
from tests.hostile.ties import DIFFERENT, ROWS, TEXT, TIES
from tests.robustness.messages import METHODS, Method, picture

Make = Callable[[Random, int], Message | list[Message]]
"""The n-th call's request, or the messages of its stream."""

_METHODS = {short_name(method): method for method in METHODS}
_ALL_FIELDS = ("uri", "width", "height", "format", "metadata", "indexed_at_ms", "vector")
_STREAMED_IMAGES = 2_000
_IMPORTED_BATCHES = 4


def batch_attacks() -> Iterator[Attack]:
    """Each by hand: its name says what it is."""
    for name, make in _ATTACKS.items():
        yield Attack(name, _prepared(_METHODS[name.partition(":")[0]], make))


def _prepared(method: Method, make: Make) -> Callable[[Random], Assault]:
    def prepare(rng: Random) -> Assault:
        def messages(call: int) -> list[bytes]:
            made = make(rng, call)
            each = made if isinstance(made, list) else [made]
            return [message.SerializeToString() for message in each]

        first = messages(0)  # what takes long to make is made before the attack
        return Calls(method, lambda call: messages(call) if call else first)

    return prepare


def _texts(rng: Random, count: int) -> list[str]:
    texts = new_texts(rng.randrange(2**32))
    return [next(texts) for _ in range(count)]


def _long_texts(rng: Random, count: int) -> list[str]:
    texts = _texts(rng, count)
    return [(text + " ") * (sizes.MAX_TEXT_CHARACTERS // (len(text) + 1)) for text in texts]


def _encode_long_texts(rng: Random, _: int) -> Message:
    return encoder_pb2.EncodeTextsRequest(texts=_long_texts(rng, sizes.MAX_TEXTS))


def _encode_emoji(rng: Random, call: int) -> Message:
    """What takes the tokenizer of CLIP longest."""
    texts = [f"{call}.{n}".ljust(sizes.MAX_TEXT_CHARACTERS, "😀") for n in range(sizes.MAX_TEXTS)]
    return encoder_pb2.EncodeTextsRequest(texts=texts)


def _encode_short_texts(rng: Random, _: int) -> Message:
    return encoder_pb2.EncodeTextsRequest(texts=_texts(rng, sizes.MAX_TEXTS))


def _encode_files(name: str, count: int = sizes.MAX_ENCODED_IMAGES) -> Make:
    def make(rng: Random, _: int) -> Message:
        image = encoder_pb2.Image(file=pictures.file(name, 2**20))
        return encoder_pb2.EncodeImagesRequest(images=[image] * count)

    return make


def _encode_pixels(rng: Random, _: int) -> Message:
    image = encoder_pb2.Image(pixels=bytes(3 * sizes.IMAGE_SIZE**2))
    return encoder_pb2.EncodeImagesRequest(images=[image] * sizes.MAX_ENCODED_IMAGES)


def _index_options() -> indexer_pb2.IndexOptions:
    return indexer_pb2.IndexOptions(collection=ATTACKED, force=True)


def _index_files(name: str) -> Make:
    def make(rng: Random, call: int) -> Message:
        images = [
            indexer_pb2.Image(id=f"{call}.{n}", content=pictures.file(name, 2**20))
            for n in range(sizes.MAX_INDEXED_IMAGES // 4)
        ]
        return indexer_pb2.BatchIndexImagesRequest(options=_index_options(), images=images)

    return make


def _index_small(rng: Random, call: int) -> Message:
    images = [
        indexer_pb2.Image(id=f"small/{n}", content=picture(8 + n % 64, 8 + call % 64))
        for n in range(sizes.MAX_INDEXED_IMAGES)
    ]
    return indexer_pb2.BatchIndexImagesRequest(options=_index_options(), images=images)


def _stream_of(image: Callable[[int], indexer_pb2.Image]) -> Make:
    def make(rng: Random, call: int) -> list[Message]:
        images = (image(n) for n in range(_STREAMED_IMAGES))
        return [
            indexer_pb2.IndexImagesRequest(options=_index_options()),
            *(indexer_pb2.IndexImagesRequest(image=each) for each in images),
        ]

    return make


def _small_image(number: int) -> indexer_pb2.Image:
    content = picture(8 + number % 64, 8 + number // 64)
    return indexer_pb2.Image(sequence=number, id=f"small/{number}", content=content)


def _wrong_image(number: int) -> indexer_pb2.Image:
    return indexer_pb2.Image(sequence=number, id="no id!", content=b"no picture")


def _image_of_metadata(number: int, keys: int = 1_000) -> indexer_pb2.Image:
    image = indexer_pb2.Image(id=f"metadata/{number}", content=picture())
    image.metadata.update({f"key{n}": n for n in range(keys)})
    return image


def _index_metadata(keys: int) -> Make:
    """1,000 keys are just taken, 1,500 are too many, which shows once most are converted."""

    def make(rng: Random, _: int) -> Message:
        images = [_image_of_metadata(number, keys) for number in range(sizes.MAX_INDEXED_IMAGES)]
        return indexer_pb2.BatchIndexImagesRequest(options=_index_options(), images=images)

    return make


def _import_rows(metadata_json: str, dimension: int = sizes.DIMENSION) -> Make:
    """As many rows as a message takes, of as many bytes."""

    def make(rng: Random, call: int) -> list[Message]:
        options = indexer_pb2.ImportOptions(
            collection=f"{IMPORTED}_{dimension}",
            create_collection=True,
            model_name="elsewhere",
            dimension=dimension,
        )
        vector = np.eye(1, dimension, dtype="<f4").tobytes()
        size_bytes = len(vector) + len(metadata_json) + 64
        count = min(sizes.MAX_IMPORTED_IMAGES, 4 * 2**20 // size_bytes)
        batch = indexer_pb2.ImportBatch(
            images=[
                indexer_pb2.ImportedImage(
                    id=f"{call}/{number}", vector=vector, metadata_json=metadata_json
                )
                for number in range(count)
            ]
        )
        return [
            indexer_pb2.ImportImagesRequest(options=options),
            *[indexer_pb2.ImportImagesRequest(batch=batch)] * _IMPORTED_BATCHES,
        ]

    return make


def _list_packed(rng: Random, _: int) -> Message:
    return indexer_pb2.ListImagesRequest(
        collection=DIFFERENT, output_fields=_ALL_FIELDS, packed=True
    )


def _ids(rng: Random, call: int) -> list[str]:
    return [f"{call}/{n}".ljust(128, "x") for n in range(sizes.MAX_IDS)]


def _batch(queries: list[query_pb2.BatchQuery], **options: object) -> Message:
    return query_pb2.BatchSearchRequest(
        collection=ATTACKED, queries=queries, options=query_pb2.SearchOptions(**options)
    )


def _batch_of_sums(rng: Random, _: int) -> Message:
    texts = iter(_texts(rng, sizes.MAX_BATCH_QUERIES * sizes.MAX_TERMS))
    queries = [
        query_pb2.BatchQuery(
            weighted_sum=query_pb2.WeightedSum(
                terms=[query_pb2.Term(text=next(texts)) for _ in range(sizes.MAX_TERMS)]
            )
        )
        for _ in range(sizes.MAX_BATCH_QUERIES)
    ]
    return _batch(queries)


def _batch_of_long_texts(rng: Random, _: int) -> Message:
    texts = _long_texts(rng, sizes.MAX_BATCH_QUERIES)
    return _batch([query_pb2.BatchQuery(text=text) for text in texts])


def _batch_of_ids(rng: Random, call: int) -> Message:
    # Different ids are left out of each query's hits.
    ids = [f"{(call + n) % ROWS}" for n in range(sizes.MAX_BATCH_QUERIES)]
    batch = _batch([query_pb2.BatchQuery(image_id=each) for each in ids])
    batch.collection = TIES  # type: ignore[attr-defined]
    return batch


def _batch_of_vectors(rng: Random, _: int) -> Message:
    generator = np.random.default_rng(rng.randrange(2**32))
    vectors = generator.standard_normal((sizes.MAX_BATCH_QUERIES, sizes.DIMENSION))
    queries = [
        query_pb2.BatchQuery(vector=query_pb2.Vector(values=vector.tolist())) for vector in vectors
    ]
    request = _batch(queries, limit=256, output_fields=_ALL_FIELDS)
    request.collection = DIFFERENT  # type: ignore[attr-defined]
    return request


def _search(**options: object) -> Make:
    def make(rng: Random, _: int) -> Message:
        return query_pb2.SearchRequest(
            collection=TIES, text=TEXT, options=query_pb2.SearchOptions(**options)
        )

    return make


def _search_by_large_picture(rng: Random, call: int) -> Message:
    """A picture as large as is taken, in a collection that has more hits than the page."""
    file = bytearray(pictures.file("small-png@max-bytes", 16 * 2**20))
    file[-8:] = call.to_bytes(8, "big")
    return query_pb2.SearchRequest(collection=DIFFERENT, image=bytes(file))


def _search_by_large_picture_and_token(rng: Random, call: int) -> Message:
    request = _search_by_large_picture(rng, call)
    request.page_token = "A" * 70  # type: ignore[attr-defined]
    return request


_COMPARISONS = " or ".join(f'metadata["{number}"] == "b"' for number in range(256))
"""As many as are taken: Milvus Lite reads the metadata of a row for each of them."""


def _search_by_comparisons(rng: Random, _: int) -> Message:
    options = query_pb2.SearchOptions(filter=_COMPARISONS)
    return query_pb2.SearchRequest(collection=TIES, text=TEXT, options=options)


def _delete_by_comparisons(rng: Random, _: int) -> Message:
    return indexer_pb2.DeleteImagesRequest(collection=TIES, filter=_COMPARISONS)


def _search_by_prefix(rng: Random, _: int) -> Message:
    comparison = query_pb2.Comparison(field="uri", operator=query_pb2.OPERATOR_PREFIX)
    comparison.value.string_value = "\U0010ffff" * 2**20
    options = query_pb2.SearchOptions(condition=query_pb2.Condition(comparison=comparison))
    return query_pb2.SearchRequest(collection=ATTACKED, text=TEXT, options=options)


def _search_by_lists(rng: Random, _: int) -> Message:
    """As many conditions as are taken, each with as many values."""
    lists = []
    for number in range(255):
        comparison = query_pb2.Comparison(field="metadata", operator=query_pb2.OPERATOR_IN)
        comparison.path.append(f"key{number}")
        values = comparison.value.list_value.values
        for value in range(1_024):
            values.add().string_value = f"{value}"
        lists.append(query_pb2.Condition(comparison=comparison))
    condition = query_pb2.Condition(any_of=query_pb2.Conditions(conditions=lists))
    options = query_pb2.SearchOptions(condition=condition)
    return query_pb2.SearchRequest(collection=ATTACKED, text=TEXT, options=options)


def _template(rng: Random, _: int) -> Message:
    options = query_pb2.SearchOptions(prompt_template="a " * 510 + "{}")
    text = _long_texts(rng, 1)[0][:7_100]
    return query_pb2.SearchRequest(collection=ATTACKED, text=text, options=options)


def _get_ties(rng: Random, _: int) -> Message:
    ids = [f"{n}" for n in range(sizes.MAX_IDS)]
    return query_pb2.GetImagesRequest(collection=TIES, ids=ids, output_fields=_ALL_FIELDS)


_ATTACKS: dict[str, Make] = {
    "encoder.EncodeTexts:256-long-texts": _encode_long_texts,
    "encoder.EncodeTexts:256-short-texts": _encode_short_texts,
    "encoder.EncodeTexts:256-texts-of-emoji": _encode_emoji,
    "encoder.EncodeImages:64-pngs-of-50-megapixels": _encode_files("png@max-pixels"),
    "encoder.EncodeImages:64-jpegs-of-50-megapixels": _encode_files("jpeg@max-pixels"),
    "encoder.EncodeImages:64-tiffs-of-50-megapixels": _encode_files("tiff@max-pixels"),
    "encoder.EncodeImages:16-grays-of-16-bits": _encode_files("png-gray-of-16-bits@max-pixels", 16),
    "encoder.EncodeImages:64-pixels": _encode_pixels,
    "indexer.BatchIndexImages:64-pngs-of-50-megapixels": _index_files("png@max-pixels"),
    "indexer.BatchIndexImages:64-jpegs-of-50-megapixels": _index_files("jpeg@max-pixels"),
    "indexer.BatchIndexImages:256-small-pictures": _index_small,
    "indexer.BatchIndexImages:256-images-with-1,000-keys": _index_metadata(1_000),
    "indexer.BatchIndexImages:256-images-with-1,500-keys": _index_metadata(1_500),
    "indexer.IndexImages:2,000-small-pictures": _stream_of(_small_image),
    "indexer.IndexImages:2,000-wrong-images": _stream_of(_wrong_image),
    "indexer.IndexImages:2,000-images-with-1,000-keys": _stream_of(_image_of_metadata),
    "indexer.ImportImages:1,000-rows": _import_rows('{"n": 7}'),
    "indexer.ImportImages:nested-metadata": _import_rows("[" * 16_000),
    "indexer.ImportImages:metadata-of-5,000-numbers": _import_rows(
        json.dumps({"n": [1] * 5_000}), dimension=1
    ),
    "indexer.ImportImages:long-vectors": _import_rows("", dimension=32_768),
    "indexer.ListImages:packed": _list_packed,
    "indexer.DeleteImages:1,000-long-ids": lambda rng, call: indexer_pb2.DeleteImagesRequest(
        collection=ATTACKED, ids=indexer_pb2.Ids(ids=_ids(rng, call))
    ),
    "query.BatchSearch:256-sums-of-16-texts": _batch_of_sums,
    "query.BatchSearch:256-long-texts": _batch_of_long_texts,
    "query.BatchSearch:256-different-ids": _batch_of_ids,
    "query.BatchSearch:65,536-hits-with-vectors": _batch_of_vectors,
    "query.Search:5,000-ties": _search(),
    "query.Search:5,000-ties-1,000-hits": _search(limit=1_000, output_fields=_ALL_FIELDS),
    "query.Search:ties-at-the-window's-end": _search(
        offset=sizes.MAX_WINDOW - 1_000, limit=1_000, consistency=query_pb2.CONSISTENCY_STRONG
    ),
    "query.Search:16-MiB-picture-with-more-hits": _search_by_large_picture,
    "query.Search:16-MiB-picture-with-page-token": _search_by_large_picture_and_token,
    "query.Search:256-comparisons-of-5,000-rows": _search_by_comparisons,
    "indexer.DeleteImages:256-comparisons-of-5,000-rows": _delete_by_comparisons,
    "query.Search:4-MiB-prefix": _search_by_prefix,
    "query.Search:255-lists-of-1,024-values": _search_by_lists,
    "query.Search:long-template-and-text": _template,
    "query.GetImages:1,000-long-ids": lambda rng, call: query_pb2.GetImagesRequest(
        collection=ATTACKED, ids=_ids(rng, call)
    ),
    "query.GetImages:1,000-images-with-vectors": _get_ties,
}
