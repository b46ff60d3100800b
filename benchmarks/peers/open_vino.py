"""The peers that are OpenVINO: fp32, bf16, int8 by NNCF, on the towers that torch_clip exports."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import openvino  # pyright: ignore[reportMissingImports]

from benchmarks.peers.backend import Backend, Pixels, tokenize
from benchmarks.texts import new_texts
from services.encoder.drawn_pictures import draw

_CALIBRATION_SAMPLES = 32


class OpenVino(Backend):
    """Batches of 32; `precision` is fp32, bf16 or int8, whose remaining arithmetic is bf16."""

    def __init__(self, models: Path, threads: int, precision: str) -> None:
        names = ("images-int8.xml", "texts-int8.xml")
        if precision != "int8":
            names = ("images.onnx", "texts.onnx")
        settings = {
            "INFERENCE_PRECISION_HINT": "f32" if precision == "fp32" else "bf16",
            "INFERENCE_NUM_THREADS": threads,
            "PERFORMANCE_HINT": "LATENCY",
        }
        core = openvino.Core()
        self._images, self._texts = (
            core.compile_model(str(models / name), "CPU", settings) for name in names
        )

    def encode_images(self, pixels: Pixels) -> Any:
        return self._images(pixels)[0]

    def encode_texts(self, texts: Sequence[str]) -> Any:
        return self._texts(tokenize(texts))[0]


def quantise(models: Path) -> None:
    """Writes images-int8.xml and texts-int8.xml beside the exported towers."""
    import nncf  # pyright: ignore[reportMissingImports]

    texts = new_texts(seed=1)
    side = openvino.Core().read_model(models / "images.onnx").inputs[0].partial_shape[1]
    numbers = range(_CALIBRATION_SAMPLES)
    samples = {  # as glimpse's own int8 is made for
        "images": [draw(number, side.get_length())[None] for number in numbers],
        "texts": [tokenize([next(texts)]) for _ in numbers],
    }
    for name, inputs in samples.items():
        model = openvino.Core().read_model(models / f"{name}.onnx")
        quantised = nncf.quantize(
            model,
            nncf.Dataset(inputs),
            model_type=nncf.ModelType.TRANSFORMER,
            subset_size=_CALIBRATION_SAMPLES,
        )
        openvino.save_model(quantised, models / f"{name}-int8.xml", compress_to_fp16=False)


if __name__ == "__main__":
    quantise(Path(sys.argv[1]))
