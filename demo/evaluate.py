"""How well a checkpoint finds the drawn world's pictures by their words; trains nothing.

`python -m demo.evaluate CHECKPOINT` draws collections as the demo does, keeps each picture as a
JPEG, reads it back, and ranks all of them for each class with openai/CLIP's own forward.
"""

from __future__ import annotations

import argparse
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from demo import captions, dataset, network, world
from services.encoder import openai_clip

_PICTURES_PER_CLASS = 10
_JPEG_QUALITY = 95


@dataclass(frozen=True)
class Precision:
    """Precision at 10 of each class of the collection, between 0 and 1."""

    by_class: dict[tuple[str, str], float]

    @property
    def all(self) -> float:
        """The mean over all classes."""
        return float(np.mean(list(self.by_class.values())))

    @property
    def unseen(self) -> float:
        """The mean over classes that training never showed nor named."""
        return float(np.mean([p for pair, p in self.by_class.items() if pair in world.UNSEEN]))

    def worst(self, count: int) -> list[tuple[tuple[str, str], float]]:
        """The classes found worst, worst first."""
        return sorted(self.by_class.items(), key=lambda item: item[1])[:count]

    def __str__(self) -> str:
        white_dog = self.by_class["white", "dog"]
        return f"p@10 all {self.all:.3f}  unseen {self.unseen:.3f}  white dog {white_dog:.2f}"


def precision_at_10(
    image_vectors: NDArray[np.float32], text_vectors: NDArray[np.float32]
) -> Precision:
    """Rank unit vectors of the collection's pictures, class by class, for each class's query."""
    found = np.argsort(-(text_vectors @ image_vectors.T), axis=1)[:, :_PICTURES_PER_CLASS]
    right = found // _PICTURES_PER_CLASS == np.arange(len(text_vectors))[:, None]
    return Precision(dict(zip(world.COLLECTION, map(float, right.mean(1)), strict=True)))


def collection(seed: int, size: int) -> NDArray[np.uint8]:
    """uint8 [n, size, size, 3]: a collection, class by class, drawn at full size, kept as JPEG."""
    pictures = []
    for scene in world.scenes(world.COLLECTION, _PICTURES_PER_CLASS, seed):
        file = io.BytesIO()
        world.draw(scene).save(file, "JPEG", quality=_JPEG_QUALITY)
        pictures.append(dataset.resized(Image.open(file), size))
    return np.stack(pictures)


def queries() -> list[str]:
    """The question for each class of the collection."""
    return [captions.query(colour, thing) for colour, thing in world.COLLECTION]


@torch.inference_mode()
def evaluate(model: Any, pixels: NDArray[np.uint8]) -> Precision:
    """Measure a `clip.model.CLIP` on the pixels of a collection."""
    images = network.normalised(torch.from_numpy(pixels))
    encode = openai_clip.tokenizer().encode
    tokens = torch.zeros(len(world.COLLECTION), model.context_length, dtype=torch.long)
    for row, query in zip(tokens, queries(), strict=True):
        words = [network.START, *encode(query), network.END]
        row[: len(words)] = torch.tensor(words)
    image_vectors = torch.cat([model.encode_image(part) for part in images.split(100)])
    text_vectors = model.encode_text(tokens)
    return precision_at_10(*(_unit(vectors) for vectors in (image_vectors, text_vectors)))


def _unit(vectors: torch.Tensor) -> NDArray[np.float32]:
    return (vectors / vectors.norm(dim=-1, keepdim=True)).numpy()


def main() -> None:
    """Print the figures of a checkpoint, one line per collection."""
    parser = argparse.ArgumentParser(prog="python -m demo.evaluate", description=main.__doc__)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--collections", type=int, default=5, help="how many (default: 5)")
    parser.add_argument(
        "--seed", type=int, default=7, help="the first's seed (default: 7, the demo's)"
    )
    options = parser.parse_args()
    model = network.load(options.checkpoint)
    for seed in range(options.seed, options.seed + options.collections):
        precision = evaluate(model, collection(seed, model.visual.input_resolution))
        worst = ", ".join(f"{c} {t} {p:.1f}" for (c, t), p in precision.worst(5))
        print(f"collection {seed}: {precision}  worst: {worst}", flush=True)


if __name__ == "__main__":
    main()
