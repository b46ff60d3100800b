"""The peers that are ONNX Runtime: fp32, and int8 by its own quantisation as it computes, on the
towers that torch_clip exports."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import onnxruntime  # pyright: ignore[reportMissingImports]

from benchmarks.peers.backend import Backend, Pixels, tokenize
from services.encoder.hardware import cpu_has_int8


class OnnxRuntime(Backend):
    """Batches of 32 through the CPU's execution provider; `precision` is fp32 or int8."""

    def __init__(self, models: Path, threads: int, precision: str) -> None:
        ending = "-dynamic.onnx" if precision == "int8" else ".onnx"
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        # Threads that spin while they wait would slow down whoever is measured next.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        providers = ["CPUExecutionProvider"]
        self._images, self._texts = (
            onnxruntime.InferenceSession(str(models / f"{name}{ending}"), options, providers)
            for name in ("images", "texts")
        )

    def encode_images(self, pixels: Pixels) -> Any:
        return self._images.run(None, {"input": pixels})[0]

    def encode_texts(self, texts: Sequence[str]) -> Any:
        return self._texts.run(None, {"input": tokenize(texts)})[0]


def quantise(models: Path) -> None:
    """Writes images-dynamic.onnx and texts-dynamic.onnx beside the exported towers."""
    from onnxruntime import quantization  # pyright: ignore[reportMissingImports]

    for name in ("images", "texts"):
        quantization.quantize_dynamic(
            models / f"{name}.onnx",
            models / f"{name}-dynamic.onnx",
            op_types_to_quantize=["MatMul", "Gemm"],
            per_channel=True,
            # Without dot products of int8, products are added in 16 bits.
            reduce_range=not cpu_has_int8(),
            weight_type=quantization.QuantType.QInt8,
        )


if __name__ == "__main__":
    quantise(Path(sys.argv[1]))
