"""Peers that are openai/CLIP in this process: the tutorial's loop, batches, and those compiled;
exports it, too."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from benchmarks import tutorial
from benchmarks.peers.backend import (
    CONTEXT_TOKENS,
    DEVIATION,
    MEAN,
    Backend,
    Pixels,
    tokenize,
)
from services.encoder import openai_clip


class TutorialLoop(Backend):
    """One picture and one text at a time, with autograd's graph, as such loops are written."""

    images_per_call = texts_per_call = 1

    def __init__(self, weights: Path, threads: int) -> None:
        torch.set_num_threads(threads)
        self._tutorial = tutorial.Tutorial(weights)

    def encode_images(self, pixels: Pixels) -> Any:
        model = self._tutorial.model
        features = model.encode_image(tutorial.preprocess(Image.fromarray(pixels[0])).unsqueeze(0))
        return features / features.norm(dim=-1, keepdim=True)

    def encode_texts(self, texts: Sequence[str]) -> Any:
        return self._tutorial.encode_text(texts[0])


class Batches(Backend):
    """openai/CLIP as its README calls it, 32 at a time, in fp32 under no_grad."""

    def __init__(self, weights: Path, threads: int) -> None:
        torch.set_num_threads(threads)
        model = openai_clip.build_model(torch.load(weights, weights_only=True))
        self._images, self._texts = ImageTower(model), TextTower(model)

    def encode_images(self, pixels: Pixels) -> Any:
        with torch.no_grad():
            return self._images(torch.from_numpy(pixels))

    def encode_texts(self, texts: Sequence[str]) -> Any:
        with torch.no_grad():
            return self._texts(torch.from_numpy(tokenize(texts)))


class Compiled(Batches):
    """Batches by programs that torch's inductor makes, one for each size of a call; it needs a C++
    compiler. `precision` is fp32 or bf16."""

    def __init__(self, weights: Path, threads: int, precision: str) -> None:
        import torch._inductor.config as inductor

        super().__init__(weights, threads)
        inductor.freezing = True  # weights are constants, and packed
        self._cast = torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16")
        self._compiled = [
            torch.compile(tower.eval(), dynamic=False) for tower in (self._images, self._texts)
        ]
        self.encode_texts(["one alone"])  # those of a whole call the worker has compiled

    def encode_images(self, pixels: Pixels) -> Any:
        with torch.no_grad(), self._cast:
            return self._compiled[0](torch.from_numpy(pixels))

    def encode_texts(self, texts: Sequence[str]) -> Any:
        with torch.no_grad(), self._cast:
            return self._compiled[1](torch.from_numpy(tokenize(texts)))

    def vectors(self, answer: Any) -> NDArray[np.float32]:
        found = answer.float()  # in bf16, lengths are off by thousandths
        return (found / found.norm(dim=-1, keepdim=True)).numpy()


class ImageTower(torch.nn.Module):
    """uint8 pixels [N, S, S, 3] to unit vectors [N, 512]."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self._model = model
        self._mean = torch.tensor(MEAN)[:, None, None] * 255
        self._deviation = torch.tensor(DEVIATION)[:, None, None] * 255

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        images = (pixels.permute(0, 3, 1, 2).float() - self._mean) / self._deviation
        features = self._model.encode_image(images)
        return features / features.norm(dim=-1, keepdim=True)


class TextTower(torch.nn.Module):
    """Tokens [N, 77] to unit vectors [N, 512]."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self._model = model

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        features = self._model.encode_text(tokens)
        return features / features.norm(dim=-1, keepdim=True)


def export(weights: Path, folder: Path) -> None:
    """Writes images.onnx and texts.onnx, in fp32, for any batch size."""
    model = openai_clip.build_model(torch.load(weights, weights_only=True))
    torch.backends.mha.set_fastpath_enabled(False)  # its one fused operator has no counterpart
    side: Any = model.get_submodule("visual").input_resolution
    folder.mkdir(parents=True, exist_ok=True)
    examples = {
        "images": (ImageTower(model), torch.zeros(2, side, side, 3, dtype=torch.uint8)),
        "texts": (TextTower(model), torch.ones(2, CONTEXT_TOKENS, dtype=torch.int64)),
    }
    for name, (tower, example) in examples.items():
        torch.onnx.export(
            tower.eval(),
            (example,),
            str(folder / f"{name}.onnx"),
            input_names=["input"],
            output_names=["vectors"],
            dynamic_shapes=({0: torch.export.Dim("batch", min=1, max=256)},),
            external_data=False,
        )


if __name__ == "__main__":
    export(Path(sys.argv[1]), Path(sys.argv[2]))
