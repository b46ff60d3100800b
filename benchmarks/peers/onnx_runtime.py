"""The peer that is ONNX Runtime, in fp32, on the towers that torch_clip exports."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import onnxruntime  # pyright: ignore[reportMissingImports]

from benchmarks.peers.backend import Backend, Pixels, tokenize


class OnnxRuntime(Backend):
    """Batches of 32 through the CPU's execution provider."""

    def __init__(self, models: Path, threads: int) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        # Threads that spin while they wait would slow down whoever is measured next.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        providers = ["CPUExecutionProvider"]
        self._images, self._texts = (
            onnxruntime.InferenceSession(str(models / f"{name}.onnx"), options, providers)
            for name in ("images", "texts")
        )

    def encode_images(self, pixels: Pixels) -> Any:
        return self._images.run(None, {"input": pixels})[0]

    def encode_texts(self, texts: Sequence[str]) -> Any:
        return self._texts.run(None, {"input": tokenize(texts)})[0]
