"""The training of the bundled model: what it may see, what it learns towards, what it writes."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch

from demo import dataset, network, world
from demo.optimiser import orthogonal
from demo.train import Recipe, Training, contrastive_loss, write

TINTED = dataset.Fading(0.5, light=(0.7, 1.5))


@pytest.fixture(scope="module")
def pool() -> dataset.CaptionPool:
    return dataset.CaptionPool(seed=1, phrasings=4)


@pytest.fixture(scope="module")
def pictures() -> dataset.Pictures:
    scenes = list(world.scenes(dataset.seen_pairs()[::12], 1, seed=1))
    pixels = [dataset.resized(world.draw(scene, 96), network.IMAGE_SIZE) for scene in scenes]
    return dataset.Pictures(np.stack(pixels), dataset.attributes_of(scenes))


@pytest.fixture(scope="module")
def training(pool: dataset.CaptionPool, pictures: dataset.Pictures) -> tuple[Training, list[float]]:
    """Two steps with a small batch, and their losses."""
    training = Training(Recipe(images=8, texts=12), pool)
    return training, [training.step(pictures, 1e-3) for _ in range(2)]


def _full_tokens(pool: dataset.CaptionPool, compact: torch.Tensor) -> torch.Tensor:
    return torch.tensor([0, *pool.vocabulary.tokens])[compact]


def _unit(vectors: torch.Tensor) -> torch.Tensor:
    return vectors / vectors.norm(dim=-1, keepdim=True)


def test_no_picture_shows_an_unseen_pair() -> None:
    shown = {(scene.colour, scene.thing) for scene in world.scenes(dataset.seen_pairs(), 1, 0)}
    assert shown.isdisjoint(world.UNSEEN)
    assert len(shown) == len(world.COLOURS) * len(world.THINGS) - len(world.UNSEEN)


def test_no_caption_names_an_unseen_pair(pool: dataset.CaptionPool) -> None:
    texts = [text for group in pool.texts.values() for text in group]
    assert len(texts) > 5_000
    for text in texts:
        words = set(re.findall("[a-z]+", text.replace("grey", "gray")))
        assert not any({colour, thing} <= words for colour, thing in world.UNSEEN), text


def test_white_dog_is_an_unseen_pair_of_the_collection() -> None:
    assert ("white", "dog") in world.UNSEEN
    assert ("white", "dog") in world.COLLECTION


def test_a_caption_fits_every_picture_that_has_what_it_tells() -> None:
    attributes = np.array([[0, 1, 1], [0, 0, 1], [4, 1, 4]])  # red cat, red dog, blue cat
    meanings = np.array([[0, -1, -1], [-1, 1, -1], [-1, -1, 4], [0, 1, 1], [4, 0, -1]])
    expected = [
        [True, True, False],
        [True, False, True],
        [False, False, True],
        [True, False, False],
        [False, False, False],
    ]
    assert dataset.positives(meanings, attributes).tolist() == expected


def test_absence_of_an_unseen_pair_counts_as_nothing() -> None:
    white, dog, cat = world.COLOURS.index("white"), 0, 1
    assert world.THINGS[dog] == "dog"
    white_cat, faded_cat = [white, cat, 0], [dataset.UNKNOWN, cat, 0]
    meanings = np.array([[-1, dog, -1], [-1, cat, -1], [white, -1, -1], [white, cat, -1]])
    expected = [[False, True], [True, True], [True, False], [True, False]]
    assert dataset.comparable(meanings, np.array([white_cat, faded_cat])).tolist() == expected


def test_what_is_not_comparable_does_not_move_the_loss() -> None:
    positives = torch.tensor([[True, False, False], [False, True, True]])
    comparable = torch.tensor([[True, True, False], [True, True, True]])
    logits, kinds = torch.randn(2, 3, generator=torch.Generator().manual_seed(0)), torch.zeros(2)
    changed = logits.clone()
    changed[0, 2] += 5
    before, after = (
        contrastive_loss(values, positives, comparable, kinds) for values in (logits, changed)
    )
    assert before == after


def test_every_caption_of_a_batch_fits_a_picture(
    pool: dataset.CaptionPool, pictures: dataset.Pictures
) -> None:
    batch = dataset.batch(
        pictures, pool, np.random.default_rng(1), images=16, texts=32, fading=TINTED
    )
    assert (batch.positives & batch.comparable).any(1).all()
    assert batch.tokens.shape[0] == len(batch.kinds) == len(batch.positives) == 32


def test_loss_is_least_where_captions_choose_exactly_their_pictures() -> None:
    positives = torch.tensor([[True, True, False], [False, False, True], [True, False, True]])
    kinds = torch.tensor([0, 0, 1])
    everything = torch.ones_like(positives)
    right = contrastive_loss(20.0 * positives, positives, everything, kinds)
    wrong = contrastive_loss(20.0 * ~positives, positives, everything, kinds)
    even = contrastive_loss(torch.zeros(3, 3), positives, everything, kinds)
    # The floor of text-to-image is the entropy of its targets: log 2 for two of the three texts.
    assert right.item() == pytest.approx(np.log(2) * 2 / 3 / 2, abs=1e-3)
    assert right < even < wrong


def test_two_steps_change_the_weights_and_give_finite_losses(
    training: tuple[Training, list[float]], pool: dataset.CaptionPool
) -> None:
    trained, losses = training
    assert np.isfinite(losses).all()
    torch.manual_seed(trained.recipe.seed)
    fresh = network.new_network(pool.vocabulary).state_dict()
    unchanged = [n for n, v in trained.network.state_dict().items() if torch.equal(v, fresh[n])]
    assert unchanged == []


def test_same_seed_gives_same_weights(
    pool: dataset.CaptionPool, pictures: dataset.Pictures
) -> None:
    recipe = Recipe(images=4, texts=4)
    first, second = Training(recipe, pool), Training(recipe, pool)
    assert first.step(pictures, 1e-3) == second.step(pictures, 1e-3)


def test_a_resumed_run_goes_on_as_if_never_stopped(
    pool: dataset.CaptionPool, pictures: dataset.Pictures, tmp_path: Path
) -> None:
    recipe = Recipe(images=4, texts=4)
    whole, resumed = Training(recipe, pool), Training(recipe, pool)
    whole.step(pictures, 1e-3)
    whole.save(tmp_path / "training.pt")
    resumed.restore(tmp_path / "training.pt")
    assert resumed.step(pictures, 1e-3) == whole.step(pictures, 1e-3)
    for name, value in whole.average.items():
        torch.testing.assert_close(resumed.average[name], value)


def test_learning_rate_warms_up_stays_falls_and_falls_again_in_the_second_stage() -> None:
    recipe = Recipe(
        learning_rate=1.0, warm_up_steps=10, steps=100, cool_down_steps=20, tinted_steps=10
    )
    rates = [recipe.learning_rate_at(step) for step in range(recipe.all_steps)]
    assert rates[0] == pytest.approx(0.1)
    assert rates[10:80] == [1.0] * 70
    assert rates[99] == pytest.approx(0.05)
    assert rates[100] == pytest.approx(0.5)
    assert rates[109] == pytest.approx(0.05)


def test_coloured_light_begins_with_the_second_stage() -> None:
    recipe = Recipe(steps=2)
    assert [recipe.fading_at(step).light is None for step in (0, 1, 2)] == [True, True, False]


def test_no_picture_fades_into_a_colour_that_is_withheld_from_its_thing() -> None:
    fills = np.array(list(world.FILLS.values()), dtype=np.uint8)
    seen = [(c, t) for t in range(len(world.THINGS)) for c in range(len(world.COLOURS))]
    seen = [(c, t) for c, t in seen if (world.COLOURS[c], world.THINGS[t]) not in world.UNSEEN]
    attributes = np.array([(c, t, 0) for c, t in seen] * 40)
    pixels = np.tile(fills[attributes[:, 0]][:, None, None], (1, 4, 4, 1))
    pictures = dataset.Pictures(pixels, attributes)
    rng = np.random.default_rng(5)
    batch = dataset.batch(
        pictures, dataset.CaptionPool(1, phrasings=1), rng, len(pixels), 4, TINTED
    )
    # Which thing each pixel shows follows from the same draw of pictures.
    things = attributes[np.random.default_rng(5).integers(len(pixels), size=len(pixels)), 1]
    shown = batch.pixels[:, 0, 0].astype(float)
    distances = np.sqrt(((shown[:, None] - fills) ** 2).sum(-1))
    first, second = np.sort(distances, axis=1)[:, :2].T
    clear = second - first > 1  # nearer to one colour by more than a pixel's rounding
    nearest = distances.argmin(1)[clear]
    pairs = {
        (world.COLOURS[c], world.THINGS[t]) for c, t in zip(nearest, things[clear], strict=True)
    }
    assert len(pairs) > 100
    assert pairs.isdisjoint(world.UNSEEN)


def test_fast_forward_equals_the_reference(
    training: tuple[Training, list[float]], pool: dataset.CaptionPool, pictures: dataset.Pictures
) -> None:
    model = training[0].network
    batch = dataset.batch(
        pictures, pool, np.random.default_rng(2), images=4, texts=8, fading=TINTED
    )
    images = network.normalised(torch.from_numpy(batch.pixels))
    tokens = torch.from_numpy(batch.tokens)
    with torch.inference_mode():
        torch.testing.assert_close(
            network.encode_images(model, images), _unit(model.encode_image(images))
        )
        torch.testing.assert_close(
            network.encode_texts(model, tokens), _unit(model.encode_text(tokens))
        )


def test_checkpoint_loads_as_clip_and_knows_no_word_it_never_met(
    training: tuple[Training, list[float]], pool: dataset.CaptionPool, tmp_path: Path
) -> None:
    trained = training[0]
    write(trained.weights(), tmp_path / "model.pt")
    weights = torch.load(tmp_path / "model.pt", weights_only=True)
    assert {tensor.dtype for tensor in weights.values()} == {torch.float16}
    assert (tmp_path / "model.pt").stat().st_size < 20_000_000
    used = weights["token_embedding.weight"].any(1).nonzero().flatten().tolist()
    assert used == pool.vocabulary.tokens
    model = network.load(tmp_path / "model.pt")
    compact = torch.tensor([pool.vocabulary.compact(pool.vocabulary.tokens[:3])])
    trained.network.load_state_dict(trained.average)
    with torch.inference_mode():
        # Rounding to half precision is all that lies between the two.
        torch.testing.assert_close(
            _unit(model.encode_text(_full_tokens(pool, compact))),
            network.encode_texts(trained.network, compact),
            atol=2e-3,
            rtol=0,
        )


@pytest.mark.parametrize("shape", [(2, 6, 6), (1, 12, 4), (1, 4, 12)])
def test_orthogonal_brings_singular_values_near_one(shape: tuple[int, int, int]) -> None:
    matrices = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    values = torch.linalg.svdvals(orthogonal(matrices))
    assert values.min() > 0.3
    assert values.max() < 1.4
