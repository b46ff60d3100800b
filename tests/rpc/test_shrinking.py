"""Pictures to search by, sent as what the model sees of them: hits and scores are those of the
whole files."""

from __future__ import annotations

import asyncio
import io

import numpy as np
import pillow_heif
import pytest
from google.rpc import code_pb2
from PIL import Image, ImageCms

from glimpse import AsyncClient, Client, Term, errors
from glimpse.pictures.preprocessing import PREPROCESSING_VERSION, Preprocessing, Resize
from glimpse.query.v1 import query_pb2
from services.common.deadline import Deadline
from tests.memory_store import MemoryStore
from tests.query_service import (
    COLLECTION,
    fake_encoder,
    fill,
    query_service,
    query_target,
    rows,
)
from tests.scripted import NOBODY, Query, abort, serve, status

pillow_heif.register_heif_opener()


def samples(height: int, width: int, channels: int = 3, most: int = 255) -> np.ndarray:
    kind = np.uint8 if most < 256 else np.uint16
    return np.random.default_rng(1).integers(0, most + 1, (height, width, channels), dtype=kind)


def file_of(image: Image.Image, file_format: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, file_format, **options)
    return buffer.getvalue()


def rgb(width: int = 400, height: int = 300) -> Image.Image:
    return Image.fromarray(samples(height, width))


def with_alpha() -> Image.Image:
    return Image.fromarray(samples(300, 400, 4))


def turned() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    return file_of(rgb(), "JPEG", quality=95, exif=exif)


PICTURES = {
    "rgb": lambda: file_of(rgb(), "PNG"),
    "tall": lambda: file_of(rgb(60, 3_000), "PNG"),
    "jpeg": lambda: file_of(rgb(), "JPEG", quality=95),
    "gray": lambda: file_of(Image.fromarray(samples(400, 400, 1)[..., 0]), "PNG"),
    "alpha": lambda: file_of(with_alpha(), "PNG"),
    "alpha-webp": lambda: file_of(with_alpha(), "WEBP", lossless=True),
    "palette": lambda: file_of(rgb().quantize(256), "PNG"),
    "palette-with-alpha": lambda: file_of(rgb().quantize(256), "PNG", transparency=7),
    "16-bit": lambda: file_of(Image.fromarray(samples(300, 400, 1, 4_095)[..., 0]), "PNG"),
    "turned": turned,
    "cmyk": lambda: file_of(rgb().convert("CMYK"), "TIFF"),
    "heic": lambda: file_of(rgb(800, 600), "HEIF", quality=90),
    "avif": lambda: file_of(rgb(800, 600), "AVIF", quality=90),
    "profile": lambda: file_of(
        rgb(), "PNG", icc_profile=ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    ),
    "cut-short": lambda: file_of(rgb(), "JPEG", quality=95)[:-200],
}


@pytest.fixture
async def searched():
    """An encoder, and the target of a query service with images."""
    store, encoder = MemoryStore(), fake_encoder()
    await fill(store, rows())
    async with (
        encoder.serve() as peer,
        query_target(store, peer, collection_cache_s=0) as target,
    ):
        yield store, encoder, target


@pytest.mark.parametrize("name", PICTURES)
async def test_hits_are_those_of_the_whole_file(searched, name):
    _, encoder, target = searched
    content = PICTURES[name]()
    assert len(content) > 2**16
    async with AsyncClient(target) as small, AsyncClient(target, shrink_pictures=False) as whole:
        found = await small.search(COLLECTION, image=content)
        assert [(hit.id, hit.score) for hit in found.hits] == [
            (hit.id, hit.score) for hit in (await whole.search(COLLECTION, image=content)).hits
        ]
    size = encoder.image_size
    assert encoder.sizes_bytes[0] < 3 * size * size + 200
    assert encoder.sizes_bytes[1] == len(content)


@pytest.mark.parametrize("resize", Resize)
async def test_every_way_in_which_models_see_is_known(searched, resize):
    _, encoder, target = searched
    encoder.resize = resize
    content = PICTURES["rgb"]()
    async with AsyncClient(target) as client:
        model = await client.get_model(COLLECTION)
        assert model.preprocessing == Preprocessing(encoder.image_size, resize)
        assert (model.model.name, model.model.fingerprint) == ("fake", encoder.fingerprint)
        await client.search(COLLECTION, image=content)
    assert encoder.sizes_bytes[0] < len(content)


async def test_pictures_of_batches_and_sums_are_sent_small_by_both_clients(searched):
    _, encoder, target = searched
    one, other = PICTURES["rgb"](), PICTURES["gray"]()
    queries = [Term(image=one), "dog", [Term(image=other, weight=0.5), Term(text="cat")]]

    def search(**options):
        with Client(target, **options) as client:
            answers = client.batch_search(COLLECTION, queries).answers
        return [[(hit.id, hit.score) for hit in answer.hits] for answer in answers]

    assert await asyncio.to_thread(search) == await asyncio.to_thread(search, shrink_pictures=False)
    assert max(encoder.sizes_bytes[:2]) < 2_000 < min(encoder.sizes_bytes[2:])


async def test_the_pages_of_a_search_by_a_picture_go_on(searched):
    _, _, target = searched
    content = PICTURES["rgb"]()
    async with AsyncClient(target) as client:
        first = await client.search(COLLECTION, image=content, limit=5)
        rest = await client.search(
            COLLECTION, image=content, limit=5, page_token=first.next_page_token
        )
    assert len({hit.id for hit in (*first.hits, *rest.hits)}) == len(rows())


async def test_files_that_are_small_or_no_pictures_go_as_they_are(searched):
    _, encoder, target = searched
    tiny = file_of(rgb(40, 30), "PNG")
    async with AsyncClient(target) as client:
        await client.search(COLLECTION, image=tiny)
        with pytest.raises(errors.InvalidImage, match="not a picture"):
            await client.search(COLLECTION, image=b"no picture" * 10_000)
    assert encoder.sizes_bytes == [len(tiny), 100_000]


async def test_a_collection_filled_anew_by_another_model_is_searched_by_what_that_one_sees(
    searched,
):
    store, encoder, target = searched
    content = PICTURES["rgb"]()
    async with AsyncClient(target) as client, AsyncClient(target, shrink_pictures=False) as whole:
        await client.search(COLLECTION, image=content)
        encoder.fingerprint, encoder.image_size = "e" * 64, 24
        await store.drop_collection(COLLECTION, deadline=Deadline(5))
        await fill(store, rows(), fingerprint="e" * 64)
        expected = (await whole.search(COLLECTION, image=content)).hits
        for _ in range(2):
            found = (await client.search(COLLECTION, image=content)).hits
            assert [(hit.id, hit.score) for hit in found] == [
                (hit.id, hit.score) for hit in expected
            ]
    small = encoder.sizes_bytes[-1]
    assert 16 * 16 * 3 < small < len(content)


async def test_a_model_that_this_release_does_not_know_gets_whole_files(searched):
    _, encoder, target = searched
    encoder.preprocessing_version = "next"
    content = PICTURES["jpeg"]()
    async with AsyncClient(target) as client:
        assert (await client.get_model(COLLECTION)).preprocessing is None
        await client.search(COLLECTION, image=content)
    assert encoder.sizes_bytes == [len(content)]


async def test_a_collection_of_another_model_has_none_to_tell_of(searched):
    store, encoder, target = searched
    await fill(store, rows(), "older", fingerprint="0" * 64)
    async with AsyncClient(target) as client:
        with pytest.raises(errors.ModelMismatch):
            await client.get_model("older")
        with pytest.raises(errors.ModelMismatch):
            await client.search("older", image=PICTURES["jpeg"]())
        with pytest.raises(errors.NotFound):
            await client.get_model("nowhere")
    assert encoder.sizes_bytes == []


async def test_a_service_that_does_not_tell_gets_whole_files_and_is_asked_once():
    asked = []

    class Older(Query):
        def GetModel(self, request, context):
            asked.append(request.collection)
            abort(context, status(code_pb2.UNIMPLEMENTED, "no such method"))

    query = Older(query_pb2.SearchResponse())
    content = PICTURES["jpeg"]()
    with serve(query=query) as target:
        async with AsyncClient(target, NOBODY) as client:
            for _ in range(2):
                await client.search("c", image=content)
    assert [request.image for request in query.requests] == [content] * 2
    assert asked == ["c"]


async def test_the_encoder_is_asked_anew_whenever_somebody_asks_for_the_model(searched):
    store, encoder, _ = searched
    async with encoder.serve() as peer, query_service(store, peer, collection_cache_s=0) as query:
        request = query_pb2.GetModelRequest(collection=COLLECTION)
        assert (await query.GetModel(request)).preprocessing.version == PREPROCESSING_VERSION
        encoder.image_size = 32
        assert (await query.GetModel(request)).preprocessing.image_size == 32
