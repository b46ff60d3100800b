"""What a GPU is, how fast it multiplies matrices, and how busy it was; what with is not asked."""

from __future__ import annotations

import statistics
import subprocess
from typing import Any

import torch

_SIDE = 8192  # of the square matrices: past any cache's size
_PRODUCTS = 20
_LOOK_MS = 100


def describe() -> dict[str, Any]:
    """Name, memory and driver of the GPU that is used first, and its matrix-product rates."""
    name, memory, driver = _query("name,memory.total,driver_version")[0].split(", ")
    return {
        "gpu": name,
        "gpu_memory": memory,
        "gpu_driver": driver,
        "cuda": torch.version.cuda,
        "gpu_tflops_fp16": matrix_tflops(torch.float16),
        "gpu_tflops_bf16": matrix_tflops(torch.bfloat16),
        "gpu_tflops_fp32": matrix_tflops(torch.float32),
    }


def matrix_tflops(dtype: torch.dtype = torch.float16) -> float:
    """The rate of a square matrix product on the GPU, in 10^12 operations per second."""
    a, b = torch.randn(2, _SIDE, _SIDE, device="cuda").to(dtype)
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.mm(a, b)
    begin.record()
    for _ in range(_PRODUCTS):
        torch.mm(a, b)
    end.record()
    end.synchronize()
    return round(2 * _SIDE**3 * _PRODUCTS / begin.elapsed_time(end) / 1e9, 1)


class GpuWatch:
    """The share of a block's time in which the GPU computed something, however little of it."""

    share: float

    def __enter__(self) -> GpuWatch:
        self._process = subprocess.Popen(
            [
                "nvidia-smi",
                "--query-gpu=utilization.gpu",
                "--format=csv,noheader,nounits",
                f"--loop-ms={_LOOK_MS}",
            ],
            stdout=subprocess.PIPE,
            text=True,
        )
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        seen = [int(line) for line in self._process.communicate()[0].split()]
        self.share = statistics.mean(seen or [0]) / 100


def _query(fields: str) -> list[str]:
    command = ["nvidia-smi", f"--query-gpu={fields}", "--format=csv,noheader"]
    return subprocess.check_output(command, text=True).splitlines()
