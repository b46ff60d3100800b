"""One model on one device: batches of texts and of pixels become unit vectors.

What is computed, services.encoder.towers says, and how on a GPU, services.encoder.recorded; here is
how a batch is shared out on a CPU, and what a device's errors are called.
"""

from __future__ import annotations

import contextlib
import itertools
import math
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from services.common.cpus import usable_cpus
from services.encoder.blocks import Between, nothing
from services.encoder.checkpoint import Checkpoint, CheckpointError
from services.encoder.clip_tokenizer import ClipTokenizer
from services.encoder.cpu_workers import CpuWorkers
from services.encoder.device import DeviceLost
from services.encoder.file_tokenizer import FileTokenizer
from services.encoder.hardware import DeviceUnusable, RequestedPrecision, choose_precision
from services.encoder.inputs import Inputs
from services.encoder.recorded import CudaGraphs, RecordedImages, RecordedTexts
from services.encoder.shape import Shape
from services.encoder.tokenizer import Tokenizer
from services.encoder.towers import ImageTower, ResNetTower, TextTower
from services.encoder.vocabulary import VocabularyFile
from services.encoder.weights import Weights

# Rows of a batch that a CPU takes through the layers at a time: what one operation writes is still
# in the caches for the next. In int8, 400 make 3% fewer images/s, 100 make 9% fewer.
_MOST_ROWS = 300
# Past this, a vector was not finite, or too long or too short to be scaled to length 1.
_MAX_OFF_UNIT = 1e-3
# With fewer for each worker, sharing out every single operation is faster.
_LEAST_IMAGES, _LEAST_TEXTS = 3, 8


class ClipModel:
    """A model of any family on one device. One thread at a time may use it, except for `tokenizer`.

    What encode_pixels calls between its layers may use it too.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        device: str = "auto",
        precision: RequestedPrecision = "auto",
        threads: int = 0,
        inputs: dict[str, Inputs] | None = None,
        made: dict[str, Tensor] | None = None,
    ) -> None:
        """Put the weights on the device ("auto": the GPU if there is one) in the precision.

        `threads` is how many CPUs torch uses, in the whole process; 0: those that it may use.
        `inputs` of the linear layers, by their weights: in int8, what the layers are made for;
        otherwise they note there what comes in. `made`: where tensors are noted that were made for
        int8, and may stand in the checkpoint in the place of the weights.

        Raises DeviceUnusable, PrecisionUnusable for a precision that the device does not have,
        CheckpointError where the parts of the checkpoint are not of one model or weights are not
        finite, and MemoryError or DeviceLost as encode_tokens does.
        """
        self.shape, self.preprocessing = checkpoint.shape, checkpoint.preprocessing
        self.device = choose_device(device)
        self._workers = CpuWorkers(threads or min(torch.get_num_threads(), usable_cpus()))
        self.precision = choose_precision(precision, self.device.type)
        self.tokenizer = _tokenizer(checkpoint)
        with _translated_errors():
            weights = Weights(checkpoint, self.device, self.precision, inputs, made)
            self._is_whole = weights.are_observed  # each part of a batch would make the layers anew
            self._text_tower = TextTower(weights, self.shape)
            self._image_tower = _image_tower(weights, self.shape)
            self._recorded = self._record() if self.device.type == "cuda" else None

    @torch.inference_mode()
    def _record(self) -> tuple[RecordedTexts, RecordedImages]:
        """The towers as a GPU computes them; texts first, where both want it."""
        text, image = (CudaGraphs(self.device, urgent) for urgent in (True, False))
        return (
            RecordedTexts(self._text_tower, self.device, text),
            RecordedImages(
                lambda pixels: self._image_tower(pixels, nothing),
                self.shape.image_size,
                self.device,
                image,
            ),
        )

    @torch.inference_mode()
    def encode_tokens(self, texts: Sequence[NDArray[np.int64]]) -> NDArray[np.float32]:
        """Return unit vectors, float32 [N, D], of N texts given as token ids of any lengths.

        Raises MemoryError where the device's memory does not suffice, DeviceLost where it failed,
        FloatingPointError where a vector has no direction: not finite, or of no length.
        """
        with _translated_errors():
            if self._recorded:
                return _checked(self._recorded[0](texts))
            count = self._parts(len(texts), sum(map(len, texts)), _LEAST_TEXTS)
            bounds = [len(texts) * i // count for i in range(count + 1)]
            parts = [texts[start:end] for start, end in itertools.pairwise(bounds)]
            return _checked(torch.cat(self._workers.map(self._text_tower, parts)))

    @torch.inference_mode()
    def encode_pixels(
        self, pixels: Sequence[NDArray[np.uint8]], between: Between = nothing
    ) -> NDArray[np.float32]:
        """Return unit vectors, float32 [N, D], of N preprocessed images, uint8 RGB [S, S, 3].

        `between` is called for work that should not wait for the batch: on a CPU before every other
        layer, by several threads, each with a part of it; on a GPU before each part of the batch,
        and while it computes. Raises as encode_tokens does.
        """
        rows = len(pixels) * self.shape.image_rows  # 0: a ResNet, whose batches stay whole
        with _translated_errors():
            if self._recorded:
                return _checked(self._recorded[1](pixels, between))
            count = self._parts(len(pixels), rows, _LEAST_IMAGES)
            parts = torch.from_numpy(np.stack(pixels)).tensor_split(count)
            x = self._workers.map(lambda part: self._image_tower(part, between), parts)
            return _checked(torch.cat(x))

    def _parts(self, items: int, rows: int, least: int) -> int:
        """Into how many parts a batch is split, of which a worker has at least `least` items."""
        workers = self._workers.count
        if self._is_whole or items < workers * least:
            return 1
        return max(1, min(items, workers * math.ceil(rows / (workers * _MOST_ROWS))))

    def encode_texts(self, texts: Sequence[str]) -> tuple[NDArray[np.float32], list[bool]]:
        """Return unit vectors, float32 [N, D], and for each text whether its end was cut off."""
        tokens = [self.tokenizer.encode(text) for text in texts]
        return self.encode_tokens([t.ids for t in tokens]), [t.truncated for t in tokens]


def _tokenizer(checkpoint: Checkpoint) -> Tokenizer:
    shape, vocabulary = checkpoint.shape, checkpoint.vocabulary
    if not isinstance(vocabulary, VocabularyFile):
        return ClipTokenizer(shape.context_length, vocabulary)
    try:
        return FileTokenizer(vocabulary, shape.context_length, shape.vocabulary_size)
    except ValueError as error:
        raise CheckpointError(f"{checkpoint.name}: {error}") from error


def _image_tower(weights: Weights, shape: Shape) -> ImageTower | ResNetTower:
    if shape.image is not None:
        return ImageTower(weights, shape, shape.image)
    try:
        return ResNetTower(weights, shape)
    except torch.OutOfMemoryError:
        raise
    except (KeyError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise CheckpointError(f"not a ResNet of openai/CLIP's format: {reason}") from error


def _checked(unit: Tensor) -> NDArray[np.float32]:
    vectors = unit.numpy()
    lengths = np.linalg.norm(vectors, axis=-1)
    if not (np.abs(lengths - 1) < _MAX_OFF_UNIT).all():  # NaN compares false
        raise FloatingPointError("the model returned a vector that has no direction")
    return vectors


def choose_device(requested: str) -> torch.device:
    """What "auto", "cpu", "cuda" or "cuda:N" is here. Raises DeviceUnusable."""
    if requested == "auto":
        requested = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(requested)
        if device.type == "cuda" and device.index is None:
            device = torch.device("cuda", torch.cuda.current_device())
        torch.empty(0, device=device)  # fails for a device that is not there
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise DeviceUnusable(
            f"{requested} cannot be used: {reason}; set {_usable_devices()}"
        ) from error
    return device


def _usable_devices() -> str:
    """What may be asked for here, in words."""
    count = torch.cuda.device_count()
    if not count:
        return "cpu (no GPU is seen here: its driver, or a container without it)"
    return f"{'cuda:0' if count == 1 else f'cuda:0 to cuda:{count - 1}'} or cpu"


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
