"""The searcher over a store and an encoder on a real port: vectors, pages, cache, lone failures."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from glimpse import errors
from services.common.deadline import Deadline
from services.common.encoder_client import Embedded, EncoderClient
from services.common.encoders import Encoders
from services.query.embedding import Embedder, TextCache
from services.query.metrics import QueryMetrics
from services.query.queries import (
    DEFAULT_FIELDS,
    Given,
    IndexedImage,
    Options,
    Query,
    Text,
    WeightedPart,
)
from services.query.search import Searcher
from services.vectors.filters import Comparison
from services.vectors.records import CollectionSpec, Place
from tests.fakes import vector_of
from tests.memory_store import MemoryStore
from tests.query_service import COLLECTION, DIMENSION, WORDS, fake_encoder, fill, row, rows
from tests.waiting import started, until


class CountingStore(MemoryStore):
    searches = 0

    async def search(self, *args, **options):
        self.searches += 1
        return await super().search(*args, **options)


class World:
    """A searcher, and what it stands on."""

    def __init__(self, encoder, peer, store, max_cached_texts=100, trust_s=60.0):
        self.encoder, self.peer = encoder, peer
        self.store = store
        self.registry = CollectorRegistry()
        metrics = QueryMetrics(self.registry)
        self.cache = TextCache(max_cached_texts)
        embedder = Embedder(peer, store, self.cache, metrics)
        self.searcher = Searcher(store, embedder, metrics, trust_s)

    async def answers(self, *queries, **options):
        return await self.searcher.search(COLLECTION, queries, Options(**options), Deadline(10))

    async def page(self, query, **options):
        result = (await self.answers(query, **options)).results[0]
        if isinstance(result, errors.GlimpseError):
            raise result
        return result

    async def ids(self, query, **options):
        return [hit.id for hit in (await self.page(query, **options)).hits]


@pytest.fixture
async def world():
    encoder, store = fake_encoder(), CountingStore()
    await fill(store, rows())
    async with encoder.serve() as target:
        peer = Encoders([EncoderClient(target, 2**20)])
        yield World(encoder, peer, store)
        await peer.close()


def query(*parts, field="weighted_sum"):
    terms = tuple(
        WeightedPart(f"{field}.terms[{i}]", part, weight) for i, (part, weight) in enumerate(parts)
    )
    return Query(field, terms)


def text(words):
    return query((Text("text", words), 1.0), field="text")


def image(identity):
    return query((IndexedImage("image_id", identity), 1.0), field="image_id")


def given(vector):
    return query((Given("vector.values", np.asarray(vector, np.float32)), 1.0), field="vector")


async def test_text_finds_its_image_with_score_one(world):
    page = await world.page(text("bird"))
    assert (page.hits[0].id, page.hits[0].score) == ("bird", pytest.approx(1, abs=1e-5))
    assert len(page.hits) == len(WORDS)
    assert page.end is None


async def test_weighted_sum_is_the_normalised_sum_of_unit_vectors(world):
    vector = vector_of(b"cup", DIMENSION) * 1000
    page = await world.page(
        query(
            (Text("a", "dog"), 2.0),
            (Given("b", vector), 1.0),
            (IndexedImage("c", "star"), -0.5),
        ),
        include_query_images=True,
    )
    expected = 2 * vector_of(b"dog", DIMENSION) + vector_of(b"cup", DIMENSION)
    expected = expected - 0.5 * vector_of(b"star", DIMENSION)
    expected /= np.linalg.norm(expected)
    for hit in page.hits:
        assert hit.score == pytest.approx(
            expected @ vector_of(hit.id.encode(), DIMENSION), abs=1e-5
        )


async def test_terms_that_cancel_out_are_a_zero_query(world):
    with pytest.raises(errors.InvalidInput) as caught:
        await world.page(query((Text("a", "dog"), 3.0), (Text("b", "dog"), -3.0)))
    assert (caught.value.field, caught.value.reason) == ("weighted_sum", "ZERO_QUERY")


async def test_vector_of_any_length_is_scaled_without_overflow(world):
    vector = vector_of(b"cat", DIMENSION)
    for scale in (1e37, 1e-37):
        page = await world.page(given(vector * np.float32(scale)))
        assert (page.hits[0].id, page.hits[0].score) == ("cat", pytest.approx(1, abs=1e-4))


async def test_vector_of_another_dimension_is_refused(world):
    with pytest.raises(errors.InvalidInput) as caught:
        await world.page(given([1.0, 2.0]))
    assert caught.value.field == "vector.values"
    assert str(DIMENSION) in str(caught.value)


async def test_similar_images_leave_out_the_image_itself_unless_asked(world):
    assert "dog" not in await world.ids(image("dog"))
    assert len(await world.ids(image("dog"), limit=7)) == 7
    assert (await world.ids(image("dog"), include_query_images=True))[0] == "dog"


async def test_unknown_image_is_not_found(world):
    with pytest.raises(errors.NotFound) as caught:
        await world.page(image("nobody"))
    assert caught.value.reason == "IMAGE_NOT_FOUND"


class LaggingStore(MemoryStore):
    """What was written is seen by strong reads only, as on a server in the first moments."""

    async def fetch(self, name, ids, fields, *, deadline, consistency="strong"):
        seen = ids if consistency == "strong" else []
        return await super().fetch(name, seen, fields, deadline=deadline)


async def test_image_that_was_written_just_now_is_found_by_id(world):
    store = LaggingStore()
    await fill(store, rows())
    lagging = World(world.encoder, world.peer, store)
    assert len(await lagging.ids(image("dog"))) == len(WORDS) - 1
    present, missing = await lagging.searcher.get_images(
        COLLECTION, ["cup", "nobody"], ["uri"], Deadline(5)
    )
    assert (present, missing) == ([("cup", {"uri": "file:///cup.jpg"})], ["nobody"])


async def test_prompt_template_goes_around_the_text(world):
    await world.store.upsert(
        COLLECTION, [row("prompted", "a photo of a dog")], deadline=Deadline(5)
    )
    assert (await world.ids(text("dog"), prompt_template="a photo of a {}"))[0] == "prompted"


async def test_the_models_template_goes_around_the_text_unless_the_caller_gives_one(world):
    world.encoder.prompt_template = "a photo of a {}"
    await world.store.upsert(
        COLLECTION,
        [row("prompted", "a photo of a dog"), row("drawn", "a drawing of a dog")],
        deadline=Deadline(5),
    )
    for _ in range(2):  # the second time, from the cache
        for given, said, expected in (
            ("", "a photo of a {}", "prompted"),
            ("{}", "{}", "dog"),
            ("a drawing of a {}", "a drawing of a {}", "drawn"),
        ):
            page = await world.page(text("dog"), prompt_template=given)
            assert (page.hits[0].id, page.prompt_template) == (expected, said)
    assert world.encoder.items["calls"] == 3


async def test_min_score_cuts_hits_and_ends_the_pages(world):
    page = await world.page(text("fish"), limit=1, min_score=0.99)
    assert [hit.id for hit in page.hits] == ["fish"]
    assert page.end is None


async def test_pages_of_equal_scores_are_ordered_by_id_and_neither_repeat_nor_lose_one(world):
    twins = [row(f"twin{number:02}", "same") for number in range(25)]
    await world.store.upsert(COLLECTION, list(reversed(twins)), deadline=Deadline(5))
    seen = []
    for offset in range(0, 24, 6):
        page = await world.page(text("same"), limit=6, offset=offset)
        assert page.end is not None
        seen += [hit.id for hit in page.hits]
    assert seen == [twin.id for twin in twins][:24]


async def test_repeated_texts_are_answered_without_the_encoder(world):
    for _ in range(3):
        await world.page(text("dog"))
    assert world.encoder.items["calls"] == 1
    sample = world.registry.get_sample_value
    assert sample("glimpse_query_texts_total", {"source": "cache"}) == 2
    assert sample("glimpse_query_texts_total", {"source": "encoder"}) == 1


async def test_another_model_empties_the_cache_and_is_refused_by_name(world):
    await world.page(text("dog"))
    world.encoder.fingerprint, world.encoder.model_name = "e" * 64, "new model"
    assert (await world.ids(text("dog")))[0] == "dog"  # the collection's model made this vector
    with pytest.raises(errors.ModelMismatch) as caught:
        await world.page(text("cat"))
    assert "fake" in str(caught.value)
    assert "new model" in str(caught.value)


class NotingStore(MemoryStore):
    """Notes how fresh the answer of each search must be."""

    def __init__(self):
        super().__init__()
        self.searches = []

    async def search(self, *arguments, consistency, **options):
        self.searches.append(consistency)
        return await super().search(*arguments, consistency=consistency, **options)


async def noting(world):
    """The world, its store noting searches."""
    store = NotingStore()
    await fill(store, rows())
    return World(world.encoder, world.peer, store)


async def test_searches_are_bounded_unless_strong_is_asked_for(world):
    world = await noting(world)
    await world.page(text("dog"))
    await world.page(text("dog"), strong=True)
    assert world.store.searches == ["bounded", "strong"]


async def test_batch_takes_one_call_of_encoder_and_milvus_and_answers_in_order(world):
    world = await noting(world)
    queries = [text(word) for word in WORDS] + [image("dog"), given(vector_of(b"cat", DIMENSION))]
    answers = await world.answers(*queries, limit=3)
    assert len(world.store.searches) == 1
    assert [page.hits[0].id for page in answers.results[: len(WORDS)]] == list(WORDS)
    assert answers.results[-1].hits[0].id == "cat"
    assert world.encoder.items["calls"] == 1


async def test_batch_leaves_each_querys_own_images_out(world):
    answers = await world.answers(image("dog"), image("cat"), text("dog"), limit=8, offset=0)
    ids = [{hit.id for hit in page.hits} for page in answers.results]
    assert ids == [set(WORDS) - {"dog"}, set(WORDS) - {"cat"}, set(WORDS)]
    alone = await world.ids(image("dog"), limit=3, offset=2)
    together = await world.answers(image("dog"), text("cat"), limit=3, offset=2)
    assert [hit.id for hit in together.results[0].hits] == alone


async def test_searches_at_the_same_time_share_calls_and_get_their_own_hits(world):
    world.encoder.open.clear()
    first = asyncio.create_task(world.ids(text("cup"), limit=1))
    await until(lambda: world.encoder.in_flight)
    searches = [world.ids(text(word), limit=1) for word in WORDS[:-1]]
    others = asyncio.gather(*searches)
    world.encoder.open.set()
    assert await first == ["cup"]
    assert await others == [[word] for word in WORDS[:-1]]
    assert world.encoder.items["calls"] == 2
    assert world.store.searches <= 2


async def test_searches_at_the_same_time_for_one_new_text_have_it_encoded_once(world):
    assert (
        await asyncio.gather(*(world.ids(text("cup"), limit=1) for _ in range(3))) == [["cup"]] * 3
    )
    assert world.encoder.items["texts"] == 1


async def test_searches_with_different_filters_share_no_call_even_if_python_calls_them_equal(world):
    path = ("number",)
    filters = [Comparison("metadata", "==", value, path) for value in (1, True)]
    found = await asyncio.gather(*(world.ids(text("cat"), filter=filter) for filter in filters))
    assert found == [["cat"], []]


async def test_searches_before_and_after_a_change_of_dimension_share_no_call(world):
    class HeldStore(CountingStore):
        open = asyncio.Event()

        async def search(self, *args, **options):
            self.searches += 1
            await self.open.wait()
            return await super().search(*args, **options)

    store = HeldStore()
    await fill(store, rows())
    world = World(world.encoder, world.peer, store, trust_s=0)
    old = [asyncio.create_task(world.ids(given(vector_of(b"cat", DIMENSION))))]
    await until(lambda: store.searches == 1)
    old.append(asyncio.create_task(world.ids(given(vector_of(b"dog", DIMENSION)))))
    await until(lambda: store.searches == 2)
    old.append(await started(world.ids(given(vector_of(b"cup", DIMENSION)))))  # waits for room
    await store.drop_collection(COLLECTION, deadline=Deadline(5))
    small = CollectionSpec(COLLECTION, 8, "small", "5" * 64)
    await store.create_collection(small, deadline=Deadline(5))
    new = asyncio.create_task(world.ids(given(np.ones(8))))
    await until(lambda: store.searches == 3)
    store.open.set()
    assert await new == []
    for error in await asyncio.gather(*old, return_exceptions=True):
        assert isinstance(error, errors.Unavailable)
        assert error.reason == "COLLECTION_CHANGED"


async def test_batch_is_split_where_the_encoders_limits_ask_for_it(world):
    world.encoder.max_texts = 3
    answers = await world.answers(*[text(word) for word in WORDS])
    assert [page.hits[0].id for page in answers.results] == list(WORDS)
    assert world.encoder.items["calls"] == 3


async def test_query_at_fault_fails_alone(world):
    wrong = errors.InvalidInput("queries[0].text", "is wrong")
    answers = await world.answers(wrong, image("nobody"), text("dog"), limit=1)
    assert answers.results[0] is wrong
    assert isinstance(answers.results[1], errors.NotFound)
    assert [hit.id for hit in answers.results[2].hits] == ["dog"]


async def test_encoder_that_fails_harms_only_those_who_need_it(world):
    world.encoder.failures = 1
    answers = await world.answers(text("dog"), image("cat"))
    assert isinstance(answers.results[0], errors.Unavailable)
    assert len(answers.results[1].hits) == len(WORDS) - 1


async def test_collection_that_was_dropped_is_noticed_at_once(world):
    await world.page(text("dog"))
    await world.store.drop_collection(COLLECTION, deadline=Deadline(5))
    with pytest.raises(errors.NotFound):
        await world.page(text("dog"))
    await fill(world.store, rows()[:2])
    assert len(await world.ids(text("dog"))) == 2


class RememberingStore(MemoryStore):
    """As one in Milvus: gives an old description until the collection turns out to be another."""

    known = None

    async def get_spec(self, name, *, deadline, max_age_s=0.0):
        if self.known is None or not max_age_s:
            self.known = await super().get_spec(name, deadline=deadline)
        return self.known

    async def search(self, *args, **options):
        try:
            return await super().search(*args, **options)
        except errors.InvalidInput:
            self.known = None
            raise


async def test_collection_made_anew_for_another_model_is_noticed_at_the_second_call(world):
    store = RememberingStore()
    await fill(store, rows())
    world = World(world.encoder, world.peer, store)
    await world.page(text("dog"))
    await world.store.drop_collection(COLLECTION, deadline=Deadline(5))
    await world.store.create_collection(
        CollectionSpec(COLLECTION, 8, "small", "5" * 64), deadline=Deadline(5)
    )
    with pytest.raises(errors.Unavailable) as caught:
        await world.page(text("dog"))
    assert caught.value.reason == "COLLECTION_CHANGED"
    with pytest.raises(errors.ModelMismatch):
        await world.page(text("dog"))


async def test_deep_page_has_the_hits_and_attributes_that_the_store_ranks_there(world):
    many = [row(f"many{number}", uri=f"file:///{number}") for number in range(4_200)]
    await world.store.upsert(COLLECTION, many, deadline=Deadline(5))
    deep = await world.page(text("dog"), limit=50, offset=4_120)
    vectors = vector_of(b"dog", DIMENSION)[None]
    (ranked,) = await world.store.search(
        COLLECTION, vectors, 50, offset=4_120, fields=DEFAULT_FIELDS, deadline=Deadline(5)
    )
    assert [hit.id for hit in deep.hits] == [hit.id for hit in ranked]
    assert [hit.fields for hit in deep.hits] == [hit.fields for hit in ranked]
    assert deep.end == Place(4_170, deep.hits[-1].score, deep.hits[-1].id)


async def test_a_row_deleted_during_the_call_is_left_out_of_its_page_and_ends_no_paging(world):
    many = [row(f"many{number}") for number in range(4_200)]
    await world.store.upsert(COLLECTION, many, deadline=Deadline(5))
    fetch = world.store.fetch

    async def without_two(name, ids, fields, **options):
        gone = set(ids[-2:]) if options["consistency"] == "bounded" else set(ids)
        rows = await fetch(name, ids, fields, **options)
        return {id: row for id, row in rows.items() if id not in gone}

    world.store.fetch = without_two
    page = await world.page(text("dog"), limit=50, offset=4_100)
    assert len(page.hits) == 48
    assert page.end is not None
    assert page.end.rank == 4_150


async def test_window_at_milvus_bound_with_images_left_out_is_empty_not_an_error(world):
    assert await world.ids(image("dog"), limit=1, offset=16_383) == []


async def test_deadline_that_has_passed_stops_before_any_work(world):
    with pytest.raises(errors.DeadlineExceeded):
        await world.searcher.search(COLLECTION, [text("dog")], Options(), Deadline(0))
    assert world.encoder.items["calls"] == 0


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"limit": 0}, "options.limit"),
        ({"limit": 1_001}, "options.limit"),
        ({"offset": -1}, "options.offset"),
        ({"limit": 1, "offset": 16_384}, "options.offset"),
        ({"min_score": 1.5}, "options.min_score"),
        ({"min_score": float("nan")}, "options.min_score"),
        ({"fields": ("uri", "colour")}, "options.output_fields[1]"),
        ({"prompt_template": "a photo"}, "options.prompt_template"),
        ({"prompt_template": "{} {}"}, "options.prompt_template"),
        ({"prompt_template": "{}" + "x" * 1_023}, "options.prompt_template"),
        ({"prompt_template": "{}\0"}, "options.prompt_template"),
    ],
)
def test_wrong_options_are_refused_by_name(options, field):
    with pytest.raises(errors.InvalidInput) as caught:
        Options(**options)
    assert caught.value.field == field


@pytest.mark.parametrize("words", ["", " \n\t ", "a\0b", "\x1b[0m", "x" * 8_193, "\x7f"])
def test_wrong_texts_are_refused(words):
    with pytest.raises(errors.InvalidInput) as caught:
        Text("text", words)
    assert caught.value.field == "text"


@pytest.mark.parametrize("words", ["ein weißer Hund", "一只白狗", "x" * 8_192, "a\nb\tc", "🐕"])
def test_text_of_any_language_is_taken(words):
    assert Text("text", words).text == words


def test_cache_drops_what_was_used_longest_ago():
    cache = TextCache(2)
    embedded = Embedded(vector_of(b"a", DIMENSION), None)
    for word in ("a", "b"):
        cache.put(word, embedded, "f")
    cache.get("a", "f")
    cache.put("c", embedded, "f")
    assert [cache.get(word, "f") for word in "abc"] == [embedded, None, embedded]


def test_cache_keeps_models_apart_without_dropping_either():
    cache = TextCache(2)
    one, other = (Embedded(vector_of(word, DIMENSION), None) for word in (b"a", b"b"))
    cache.put("a", one, "f")
    cache.put("a", other, "g")
    assert (cache.get("a", "f"), cache.get("a", "g"), cache.get("a", "h")) == (one, other, None)
