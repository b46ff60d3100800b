"""Trains the bundled model on the drawn world and writes its checkpoint; measures as it goes.

It takes less than two hours on 2 cores. It may be stopped at any time and continued with --resume.
"""

from __future__ import annotations

import argparse
import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from demo import dataset, evaluate, network
from demo.optimiser import Optimiser

_GRAY = dataset.Fading(0.15)
_TINTED = dataset.Fading(0.3, light=(0.7, 1.5))
_NO_PART = -1e4  # a logit that adds nothing to a softmax, and no NaN as infinity would


@dataclass(frozen=True)
class Recipe:
    """All that decides the weights, with the world and the network's shape."""

    seed: int = 2026
    pictures_per_pair: int = 400
    images: int = 192
    texts: int = 128
    learning_rate: float = 2e-3
    weight_decay: float = 0.1
    warm_up_steps: int = 100
    steps: int = 1700
    cool_down_steps: int = 500
    tinted_steps: int = 500
    average: float = 0.998
    max_logit_scale: float = 100.0

    @property
    def all_steps(self) -> int:
        return self.steps + self.tinted_steps

    def learning_rate_at(self, step: int) -> float:
        """First stage: warm-up, constant, then linearly towards zero over `cool_down_steps`.
        Second stage: from a half of the constant rate linearly towards zero."""
        if step >= self.steps:
            return self.learning_rate / 2 * (self.all_steps - step) / self.tinted_steps
        left = (self.steps - step) / max(1, self.cool_down_steps)
        return self.learning_rate * min(1.0, (step + 1) / self.warm_up_steps, left)

    def fading_at(self, step: int) -> dataset.Fading:
        """First stage: some pictures are gray. Second stage: more, and in coloured light."""
        return _TINTED if step >= self.steps else _GRAY


def contrastive_loss(
    logits: torch.Tensor, positives: torch.Tensor, comparable: torch.Tensor, kinds: torch.Tensor
) -> torch.Tensor:
    """The mean of text-to-image and image-to-text cross entropy, with several right answers.

    logits, positives and comparable are [k, n], captions by images; what is not comparable takes
    no part. For a caption, all its positives share the target. An image chooses among captions of
    one kind at a time, since a caption that tells more does not compete with one that tells less.
    """
    logits = logits.masked_fill(~comparable, _NO_PART)
    targets = (positives & comparable).float()
    to_image = _cross_entropy(logits, targets)
    to_text = []
    for kind in kinds.unique():
        chosen = kinds == kind
        columns, column_targets = logits[chosen].t(), targets[chosen].t()
        answered = column_targets.any(1)
        to_text.append(_cross_entropy(columns[answered], column_targets[answered]) * chosen.sum())
    return (to_image + torch.stack(to_text).sum() / len(kinds)) / 2


def _cross_entropy(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Mean cross entropy of rows against targets spread evenly over each row's positives."""
    spread = targets / targets.sum(1, keepdim=True)
    return -(spread * F.log_softmax(logits, 1)).sum(1).mean()


class Training:
    """The network in training with its running average; one step after another."""

    def __init__(self, recipe: Recipe, pool: dataset.CaptionPool) -> None:
        torch.manual_seed(recipe.seed)
        self.recipe, self.pool, self.steps_done = recipe, pool, 0
        self.network = network.new_network(pool.vocabulary)
        self.optimiser = Optimiser(self.network.named_parameters(), recipe.weight_decay)
        self.average = {k: v.clone() for k, v in self.network.state_dict().items()}

    def step(self, pictures: dataset.Pictures, learning_rate: float) -> float:
        """Learn from one batch, which the seed and the step's number decide; return the loss."""
        recipe = self.recipe
        rng = np.random.default_rng((recipe.seed, self.steps_done))
        fading = recipe.fading_at(self.steps_done)
        batch = dataset.batch(pictures, self.pool, rng, recipe.images, recipe.texts, fading)
        images = network.encode_images(
            self.network, network.normalised(torch.from_numpy(batch.pixels))
        )
        texts = network.encode_texts(self.network, torch.from_numpy(batch.tokens))
        logits = self.network.logit_scale.exp() * texts @ images.t()
        loss = contrastive_loss(
            logits,
            torch.from_numpy(batch.positives),
            torch.from_numpy(batch.comparable),
            torch.from_numpy(batch.kinds),
        )
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        self.optimiser.step(learning_rate)
        self.steps_done += 1
        self._update_average()
        return loss.item()

    @torch.no_grad()
    def _update_average(self) -> None:
        self.network.logit_scale.clamp_(max=math.log(self.recipe.max_logit_scale))
        # A short memory at first: early weights are soon worth nothing.
        keep = min(self.recipe.average, self.steps_done / (self.steps_done + 10))
        for name, value in self.network.state_dict().items():
            self.average[name].lerp_(value, 1 - keep)

    def weights(self) -> dict[str, torch.Tensor]:
        """The averaged weights as a checkpoint stores them."""
        return network.checkpoint_weights(self.average, self.pool.vocabulary)

    def save(self, path: Path) -> None:
        """Write all that `restore` needs, in one piece."""
        state = {
            "steps_done": self.steps_done,
            "network": self.network.state_dict(),
            "average": self.average,
            "optimiser": self.optimiser.state_dict(),
        }
        write(state, path)

    def restore(self, path: Path) -> None:
        """Go on from a file that `save` wrote."""
        state = torch.load(path, weights_only=True)
        self.steps_done, self.average = state["steps_done"], state["average"]
        self.network.load_state_dict(state["network"])
        self.optimiser.load_state_dict(state["optimiser"])


def write(state: dict[str, Any], path: Path) -> None:
    """torch.save that never leaves half a file under `path`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    torch.save(state, partial)
    partial.replace(path)


def train(training: Training, pictures: dataset.Pictures, every: int, folder: Path) -> None:
    """Train to the end; every `every` steps save both states and print a line."""
    recipe, steps = training.recipe, training.recipe.all_steps
    pixels = evaluate.collection(recipe.seed, network.IMAGE_SIZE)
    started, first, losses = time.monotonic(), training.steps_done, []
    while training.steps_done < steps:
        rate = recipe.learning_rate_at(training.steps_done)
        losses.append(training.step(pictures, rate))
        if training.steps_done % every and training.steps_done < steps:
            continue
        training.save(folder / "training.pt")
        write(training.weights(), folder / "average.pt")
        precision = evaluate.evaluate(network.load(folder / "average.pt"), pixels)
        seconds, done = time.monotonic() - started, training.steps_done - first
        print(
            f"step {training.steps_done:5d} of {steps}  loss {np.mean(losses):.4f}  {precision}  "
            f"{done * recipe.images / seconds:.0f} images/s  {seconds / 60:.1f} min, "
            f"{seconds / done * (steps - training.steps_done) / 60:.1f} min left",
            flush=True,
        )
        losses.clear()


def main() -> None:
    """Train the bundled model, or continue a stopped run."""
    parser = argparse.ArgumentParser(prog="python -m demo.train", description=main.__doc__)
    parser.add_argument("--out", type=Path, required=True, help="where the checkpoint goes")
    parser.add_argument("--seed", type=int, default=Recipe.seed, help="default: %(default)s")
    parser.add_argument("--resume", type=Path, help="continue from this training.pt")
    parser.add_argument("--every", type=int, default=200, help="steps between progress lines")
    parser.add_argument(
        "--folder", type=Path, default=Path("build/train"), help="pictures and saved states"
    )
    options = parser.parse_args()
    recipe = Recipe(seed=options.seed)
    training = Training(recipe, dataset.CaptionPool(recipe.seed))
    if options.resume:
        training.restore(options.resume)
    pictures = dataset.draw_pictures(
        dataset.seen_pairs(),
        recipe.pictures_per_pair,
        recipe.seed,
        network.IMAGE_SIZE,
        options.folder,
    )
    train(training, pictures, options.every, options.folder)
    write(training.weights(), options.out)


if __name__ == "__main__":
    main()
