"""CLIP's forward pass over its own weights, as fast as plain torch allows.

It computes what `clip.model.CLIP` computes (ResNets by that very class), with these differences,
all exact but for rounding:

- The patch convolution is one matrix product, and CLIP's colour normalisation is folded into it.
- QuickGELU, x * sigmoid(1.702 x), is silu(1.702 x) / 1.702, the factors folded into the weights.
- Texts are packed without padding. The text tower is causal, so what follows the end-of-text token
  changes nothing and is never computed.
- Past its attention, the last layer goes on only with the positions that are read.
"""

from __future__ import annotations

import contextlib
import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from services.common.cpus import usable_cpus
from services.encoder import openai_clip
from services.encoder.batcher import DeviceLost
from services.encoder.checkpoint import HEAD_WIDTH, Checkpoint
from services.encoder.cpu_workers import CpuWorkers
from services.encoder.hardware import RequestedPrecision, choose_precision
from services.encoder.linear import Linear
from services.encoder.tokenizer import Tokenizer
from services.encoder.weights import PIXEL_CENTRE, Weights

# Mean and deviation of R, G, B that CLIP was trained with; from openai/CLIP's clip.py.
_MEAN = (0.48145466, 0.4578275, 0.40821073)
_DEVIATION = (0.26862954, 0.26130258, 0.27577711)

_QUICK_GELU = 1.702

# Waiting texts are let in before every other layer of an image batch. A caller who asks without a
# pause takes a quarter of a CPU's images/s; before every fourth layer, he waits twice as long.
_LAYERS_BETWEEN = 2

# Rows of a batch that a CPU takes through the layers at a time: what one operation writes is still
# in the caches for the next. In int8, 400 make 3% fewer images/s, 100 make 9% fewer.
_MOST_ROWS = 300
# With fewer for each worker, sharing out every single operation is faster.
_LEAST_IMAGES, _LEAST_TEXTS = 3, 8

Between = Callable[[], None]


def _nothing() -> None:
    return


class ClipModel:
    """A CLIP model on one device. One thread at a time may use it, except for `tokenizer`.

    What encode_pixels calls between its layers may use it too.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        device: str = "auto",
        precision: RequestedPrecision = "auto",
        threads: int = 0,
    ) -> None:
        """Put the weights on the device ("auto": the GPU if there is one) in the precision.

        `threads` is how many CPUs torch uses, in the whole process; 0: those that it may use.

        Raises ValueError for a device that is not there or a precision that it does not have, and
        CheckpointError where a weight is missing.
        """
        self.shape = checkpoint.shape
        self.preprocessing = checkpoint.preprocessing
        self.device = _choose_device(device)
        self._workers = CpuWorkers(threads or min(torch.get_num_threads(), usable_cpus()))
        self.precision = choose_precision(precision, self.device.type)
        self.tokenizer = Tokenizer(self.shape.context_length)
        weights = Weights(checkpoint.weights, self.device, self.precision)
        self._text_tower = _TextTower(weights, self.shape.text_layers)
        if self.shape.patch_size:
            self._image_tower = _ImageTower(weights, self.shape.image_layers, self.shape.patch_size)
        else:
            self._image_tower = _ResNetTower(weights)

    @torch.inference_mode()
    def encode_tokens(self, texts: Sequence[NDArray[np.int64]]) -> NDArray[np.float32]:
        """Return unit vectors, float32 [N, D], of N texts given as token ids of any lengths.

        Raises MemoryError where the device's memory does not suffice, DeviceLost where it failed,
        FloatingPointError where a vector is not finite.
        """
        with _translated_errors():
            count = self._parts(len(texts), sum(map(len, texts)), _LEAST_TEXTS)
            bounds = [len(texts) * i // count for i in range(count + 1)]
            parts = [texts[start:end] for start, end in itertools.pairwise(bounds)]
            return _unit(torch.cat(self._workers.map(self._text_tower, parts)))

    @torch.inference_mode()
    def encode_pixels(
        self, pixels: NDArray[np.uint8], between: Between = _nothing
    ) -> NDArray[np.float32]:
        """Return unit vectors, float32 [N, D], of preprocessed images, uint8 RGB [N, S, S, 3].

        `between` is called before every other layer, for work that should not wait for the batch;
        on a CPU by several threads, each with a part of it. Raises as encode_tokens does.
        """
        patch = self.shape.patch_size  # 0: a ResNet, whose batches stay whole
        rows = len(pixels) * ((self.shape.image_size // patch) ** 2 + 1) if patch else 0
        with _translated_errors():
            count = self._parts(len(pixels), rows, _LEAST_IMAGES)
            parts = torch.from_numpy(pixels).to(self.device).tensor_split(count)
            x = self._workers.map(lambda part: self._image_tower(part, between), parts)
            return _unit(torch.cat(x))

    def _parts(self, items: int, rows: int, least: int) -> int:
        """Into how many parts a batch is split, of which a worker has at least `least` items."""
        workers = self._workers.count
        if self.device.type != "cpu" or items < workers * least:
            return 1
        return max(1, min(items, workers * math.ceil(rows / (workers * _MOST_ROWS))))

    def encode_texts(self, texts: Sequence[str]) -> tuple[NDArray[np.float32], list[bool]]:
        """Return unit vectors, float32 [N, D], and for each text whether its end was cut off."""
        tokens = [self.tokenizer.encode(text) for text in texts]
        return self.encode_tokens([t.ids for t in tokens]), [t.truncated for t in tokens]


class _Layer(NamedTuple):
    """The weights of one residual attention block; W is the tower's width."""

    ln_1: tuple[Tensor, Tensor]
    qkv: Linear  # W -> 3W
    out: Linear  # W -> W
    ln_2: tuple[Tensor, Tensor]
    fc: Linear  # W -> 4W, times 1.702
    proj: Linear  # 4W -> W, its input over 1.702


def _layer(weights: Weights, block: str) -> _Layer:
    attn, fc, proj = f"{block}.attn", f"{block}.mlp.c_fc", f"{block}.mlp.c_proj"
    scale = _QUICK_GELU
    return _Layer(
        ln_1=weights.pair(f"{block}.ln_1"),
        qkv=weights.linear(f"{attn}.in_proj_weight", f"{attn}.in_proj_bias"),
        out=weights.linear(f"{attn}.out_proj.weight", f"{attn}.out_proj.bias"),
        ln_2=weights.pair(f"{block}.ln_2"),
        fc=weights.linear(f"{fc}.weight", f"{fc}.bias", scale, scale),
        proj=weights.linear(f"{proj}.weight", f"{proj}.bias", 1 / scale),
    )


class _Rows:
    """How the packed rows [T, W] of N sequences stand in a table of N x L positions."""

    def __init__(self, lengths: Sequence[int], device: torch.device) -> None:
        self._count, self._longest = len(lengths), max(lengths)
        self._places: Tensor | None = None
        if min(lengths) < self._longest:  # otherwise rows and table are the same
            table = np.arange(self._longest) < np.array(lengths)[:, None]  # [N, L]
            self._places = torch.from_numpy(np.flatnonzero(table)).to(device)

    def split(self, qkv: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """[T, 3W] -> three of [N, heads, L, 64], zeros where a sequence has ended."""
        if self._places is not None:
            table = qkv.new_zeros(self._count * self._longest, qkv.shape[1])
            qkv = table.index_copy_(0, self._places, qkv)
        q, k, v = qkv.view(self._count, self._longest, 3, -1, HEAD_WIDTH).unbind(2)
        return q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)

    def join(self, attended: Tensor) -> Tensor:
        """[N, heads, L, 64] -> [T, W]."""
        table = attended.transpose(1, 2).reshape(self._count * self._longest, -1)
        return table if self._places is None else table[self._places]


def _attend(
    x: Tensor, layer: _Layer, rows: _Rows, causal: bool, read: Tensor | None = None
) -> Tensor:
    """One residual attention block, [T, W] -> [T, W]; only of the rows `read` if they are given."""
    width = x.shape[1:]
    q, k, v = rows.split(layer.qkv(F.layer_norm(x, width, *layer.ln_1)))
    attended = rows.join(F.scaled_dot_product_attention(q, k, v, is_causal=causal))
    if read is not None:
        x, attended = x[read], attended[read]
    x = x + layer.out(attended)
    hidden = layer.fc(F.layer_norm(x, width, *layer.ln_2))
    return x + layer.proj(F.silu(hidden, inplace=True))


class _TextTower:
    def __init__(self, weights: Weights, layers: int) -> None:
        self._device = weights.device
        self._embeddings = weights.one("token_embedding.weight")  # [49408, W]
        self._positions = weights.one("positional_embedding")  # [context, W]
        self._layers = [_layer(weights, f"transformer.resblocks.{i}") for i in range(layers)]
        self._ln_final = weights.pair("ln_final")
        self._projection = weights.one("text_projection")  # [W, D]

    def __call__(self, texts: Sequence[NDArray[np.int64]]) -> Tensor:
        # CLIP reads the first place of the highest token, end-of-text; the rest changes nothing.
        lengths = [int(ids.argmax()) + 1 for ids in texts]
        packed = np.concatenate([ids[:n] for ids, n in zip(texts, lengths, strict=True)])
        places = np.concatenate([np.arange(n) for n in lengths])
        ends = torch.from_numpy(np.cumsum(lengths) - 1).to(self._device)
        x = self._embeddings[torch.from_numpy(packed).to(self._device)]  # [T, W]
        x = x + self._positions[torch.from_numpy(places).to(self._device)]
        rows = _Rows(lengths, self._device)
        for layer in self._layers[:-1]:
            x = _attend(x, layer, rows, causal=True)
        x = _attend(x, self._layers[-1], rows, causal=True, read=ends)  # [N, W]
        return F.layer_norm(x, x.shape[1:], *self._ln_final) @ self._projection


class _ImageTower:
    def __init__(self, weights: Weights, layers: int, patch_size: int) -> None:
        self._patch_size = patch_size
        kernel = weights.exact("visual.conv1.weight").permute(0, 2, 3, 1)  # [W, p, p, 3]
        mean, deviation = kernel.new_tensor(_MEAN), kernel.new_tensor(_DEVIATION)
        at_centre = (kernel * ((PIXEL_CENTRE / 255 - mean) / deviation)).sum((1, 2, 3))  # [W]
        self._patches = weights.patches((kernel / 255 / deviation).flatten(1))
        positions = weights.exact("visual.positional_embedding")  # [1 + g * g, W]
        first = weights.exact("visual.class_embedding") + positions[0]
        self._first = first.to(weights.dtype)  # [W]
        self._positions = (positions[1:] + at_centre).to(weights.dtype)  # [g * g, W]
        self._ln_pre = weights.pair("visual.ln_pre")
        self._layers = [_layer(weights, f"visual.transformer.resblocks.{i}") for i in range(layers)]
        self._ln_post = weights.pair("visual.ln_post")
        self._projection = weights.one("visual.proj")  # [W, D]

    def __call__(self, pixels: Tensor, between: Between) -> Tensor:
        x = self._embed(pixels)
        length = len(x) // len(pixels)
        rows = _Rows([length] * len(pixels), x.device)
        for number, layer in enumerate(self._layers[:-1]):
            if number % _LAYERS_BETWEEN == 0:
                between()
            x = _attend(x, layer, rows, causal=False)
        first = torch.arange(0, len(x), length, device=x.device)
        x = _attend(x, self._layers[-1], rows, causal=False, read=first)  # [N, W]
        return F.layer_norm(x, x.shape[1:], *self._ln_post) @ self._projection

    def _embed(self, pixels: Tensor) -> Tensor:
        """uint8 [N, S, S, 3] -> [T, W]: for each image its class embedding and its patches."""
        count, side = len(pixels), pixels.shape[1] // self._patch_size  # N, g
        x = pixels.view(count, side, self._patch_size, side, self._patch_size, 3)
        x = self._patches(x.transpose(2, 3).reshape(count * side * side, -1))  # [N * g * g, W]
        x = x.view(count, side * side, -1) + self._positions
        x = torch.cat([self._first.expand(count, 1, -1), x], dim=1).flatten(0, 1)  # [T, W]
        return F.layer_norm(x, x.shape[1:], *self._ln_pre)


class _ResNetTower:
    """CLIP's own ModifiedResNet, unoptimised."""

    def __init__(self, weights: Weights) -> None:
        network = openai_clip.build_model(weights.tensors).get_submodule("visual")
        self._network = network.to(weights.device, weights.dtype)
        self._dtype = weights.dtype

    def __call__(self, pixels: Tensor, between: Between) -> Tensor:
        x = pixels.permute(0, 3, 1, 2) / 255  # [N, 3, S, S]
        mean, deviation = x.new_tensor(_MEAN), x.new_tensor(_DEVIATION)
        x = (x - mean[:, None, None]) / deviation[:, None, None]
        return self._network(x.to(self._dtype))


def _unit(x: Tensor) -> NDArray[np.float32]:
    vectors = F.normalize(x.float(), dim=-1).cpu().numpy()
    if not np.isfinite(vectors).all():
        raise FloatingPointError("the model returned a vector that is not finite")
    return vectors


def _choose_device(requested: str) -> torch.device:
    if requested == "auto":
        requested = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(requested)
        if device.type == "cuda" and device.index is None:
            device = torch.device("cuda", torch.cuda.current_device())
        torch.empty(0, device=device)  # fails for a device that is not there
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"device {requested} cannot be used: {reason}") from error
    return device


@contextlib.contextmanager
def _translated_errors() -> Iterator[None]:
    """Give torch's errors the names that the batcher knows."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        torch.cuda.empty_cache()
        raise MemoryError(str(error)) from error
    except torch.AcceleratorError as error:  # after one of these, every later call fails too
        raise DeviceLost(str(error)) from error
    except RuntimeError as error:
        if "can't allocate memory" in str(error):  # the CPU allocator has no error of its own
            raise MemoryError(str(error)) from error
        raise
