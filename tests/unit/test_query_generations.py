"""Searches while another generation takes over: one answers each, with vectors of its model."""

from __future__ import annotations

import contextlib

import pytest
from prometheus_client import CollectorRegistry

from glimpse import errors
from services.common.deadline import Deadline
from services.common.encoder_client import EncoderClient
from services.common.encoders import Encoders
from services.query.embedding import Embedder, TextCache
from services.query.metrics import QueryMetrics
from services.query.queries import IndexedImage, Options, PageOrigin, Query, Text, WeightedPart
from services.query.search import Searcher
from services.vectors.records import CollectionSpec, Row
from tests.fakes import FakeEncoder, vector_of
from tests.memory_store import MemoryStore
from tests.query_service import COLLECTION, DIMENSION, WORDS, fake_encoder, fill, rows

NEW = "e" * 64
NEW_WORDS = (*WORDS, "kite")


class NewEncoder(FakeEncoder):
    """Another model: its vectors of the same texts are others, of the same length."""

    def __init__(self) -> None:
        super().__init__(dimension=DIMENSION)
        self.fingerprint, self.model_name = NEW, "new"

    def _embedding(self, content):
        return super()._embedding(b"new " + content)


class World:
    """A searcher, its store with a second generation of the new model, and both encoders."""

    def __init__(self, store: MemoryStore, encoders: Encoders, trust_s: float) -> None:
        self.store = store
        self.registry = CollectorRegistry()
        metrics = QueryMetrics(self.registry)
        embedder = Embedder(encoders, store, TextCache(100), metrics)
        self.searcher = Searcher(store, embedder, metrics, trust_s)

    async def answers(self, part, **options):
        query = Query("text", (WeightedPart("text", part, 1.0),))
        return await self.searcher.search(COLLECTION, [query], Options(**options), Deadline(10))

    async def page(self, part, **options):
        (page,) = (await self.answers(part, **options)).results
        assert not isinstance(page, errors.GlimpseError), page
        return page

    async def best(self, part):
        """The model that answered, and the best hit with its score."""
        answers = await self.answers(part, include_query_images=True)
        hit = answers.results[0].hits[0]
        return answers.collection.model_name, hit.id, hit.score

    async def switch(self, number):
        await self.store.switch_generation(COLLECTION, number, deadline=Deadline(5))


class TrustingStore(MemoryStore):
    """Gives what it knew of a collection first, as long as callers trust it."""

    def __init__(self):
        super().__init__()
        self.known = {}

    async def get_spec(self, name, *, deadline, max_age_s=0.0):
        if not (max_age_s and name in self.known):
            self.known[name] = await super().get_spec(name, deadline=deadline)
        return self.known[name]


@contextlib.asynccontextmanager
async def world(trust_s: float = 60.0):
    store = TrustingStore()
    await fill(store, rows())
    spec = CollectionSpec(COLLECTION, DIMENSION, "new", NEW)
    made = await store.create_generation(spec, deadline=Deadline(5))
    images = [Row(word, vector_of(f"new {word}".encode(), DIMENSION)) for word in NEW_WORDS]
    await store.upsert(made.address, images, deadline=Deadline(5))
    async with fake_encoder().serve() as old, NewEncoder().serve() as new:
        encoders = Encoders([EncoderClient(target, 2**20) for target in (old, new)])
        yield World(store, encoders, trust_s)
        await encoders.close()


@pytest.mark.parametrize("part", [Text("text", "bird"), IndexedImage("image_id", "bird")])
async def test_every_search_is_answered_by_one_generation_with_vectors_of_its_model(part):
    async with world(trust_s=0.0) as w:
        for number, model in ((0, "fake"), (1, "new"), (0, "fake"), (1, "new")):
            await w.switch(number)
            found, identity, score = await w.best(part)
            assert (found, identity, score) == (model, "bird", pytest.approx(1, abs=1e-5))


@pytest.mark.parametrize("part", [Text("text", "bird"), IndexedImage("image_id", "bird")])
async def test_who_trusts_what_served_before_gets_all_of_it_from_there(part):
    async with world() as w:
        assert (await w.best(part))[0] == "fake"
        await w.switch(1)
        assert await w.best(part) == ("fake", "bird", pytest.approx(1, abs=1e-5))


@pytest.mark.parametrize("part", [Text("text", "bird"), IndexedImage("image_id", "bird")])
async def test_what_served_before_may_be_dropped_at_once_and_no_search_fails(part):
    async with world() as w:
        await w.best(part)
        await w.switch(1)
        await w.store.drop_generation(COLLECTION, 0, deadline=Deadline(5))
        assert await w.best(part) == ("new", "bird", pytest.approx(1, abs=1e-5))
        w.store.known.clear()
        present, missing = await w.searcher.get_images(
            COLLECTION, ["kite", "gone"], (), Deadline(5)
        )
        assert ([identity for identity, _ in present], missing) == (["kite"], ["gone"])


async def test_images_are_of_the_successor_once_what_served_was_dropped():
    async with world() as w:
        await w.searcher.get_images(COLLECTION, ["dog"], (), Deadline(5))
        await w.switch(1)
        await w.store.drop_generation(COLLECTION, 0, deadline=Deadline(5))
        present, _ = await w.searcher.get_images(COLLECTION, ["kite"], (), Deadline(5))
        assert [identity for identity, _ in present] == ["kite"]


async def test_a_collection_that_is_gone_is_not_found():
    async with world() as w:
        await w.best(Text("text", "bird"))
        await w.store.drop_collection(COLLECTION, deadline=Deadline(5))
        with pytest.raises(errors.NotFound):
            await w.best(Text("text", "bird"))


async def test_pages_stay_with_the_generation_that_the_first_one_came_from():
    async with world(trust_s=0.0) as w:
        everything = [hit.id for hit in (await w.page(Text("text", "dog"))).hits]
        first = await w.answers(Text("text", "dog"), limit=3)
        await w.switch(1)
        rest = await w.answers(
            Text("text", "dog"), after=first.results[0].end, origin=PageOrigin.of(first.collection)
        )
        assert rest.collection.model_name == "fake"
        assert [hit.id for hit in rest.results[0].hits] == everything[3:]


@pytest.mark.parametrize("end", ["dropped", "made anew"])
async def test_a_page_of_a_generation_that_is_gone_is_refused_with_the_reason(end):
    async with world(trust_s=0.0) as w:
        first = await w.answers(Text("text", "dog"), limit=3)
        origin = PageOrigin.of(first.collection)
        if end == "dropped":
            await w.switch(1)
            await w.store.drop_generation(COLLECTION, 0, deadline=Deadline(5))
        else:
            origin = PageOrigin(origin.generation, origin.created_at_ms - 1)
        with pytest.raises(errors.InvalidInput) as caught:
            await w.answers(Text("text", "dog"), after=first.results[0].end, origin=origin)
        assert (caught.value.field, caught.value.reason) == ("page_token", "PAGE_TOKEN_OUTDATED")


async def test_a_switch_back_and_forth_keeps_the_cached_texts_of_both_models():
    async with world(trust_s=0.0) as w:
        for number in (0, 1, 0, 1):
            await w.switch(number)
            await w.best(Text("text", "bird"))
        labels = {"source": "encoder"}
        assert w.registry.get_sample_value("glimpse_query_texts_total", labels) == 2
