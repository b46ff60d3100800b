"""What a run was measured on: processor, versions, matrix-product rates; it measures no service."""

from __future__ import annotations

import datetime
import importlib.metadata
import os
import platform
import time
from functools import partial
from pathlib import Path
from typing import Any

import torch

from services.common.cpus import usable_cpus
from services.encoder.hardware import Precision, cpu_has_bf16, cpu_has_int8
from services.encoder.int8_linear import Int8Product, round_to_int8

# Those that decide how fast a CPU multiplies matrices.
_INSTRUCTION_SETS = (
    "avx2",
    "avx_vnni",
    "avx512f",
    "avx512_vnni",
    "avx512_bf16",
    "amx_bf16",
    "amx_int8",
)
_PACKAGES = ("torch", "numpy", "grpcio", "protobuf", "pymilvus", "milvus-lite", "pillow")
_SIDE = 1536  # of the square matrices: past any cache's size, and still done in a moment


def describe() -> dict[str, Any]:
    """Processor, cores, instruction sets, memory, versions, date, and matrix-product rates."""
    flags = _cpuinfo("flags").split()
    return {
        "processor": _cpuinfo("model name") or platform.machine(),
        "cores": usable_cpus(),
        "instruction_sets": [name for name in _INSTRUCTION_SETS if name in flags],
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "system": platform.platform(),
        "versions": {"python": platform.python_version(), **_versions()},
        # Of the last minute, before the run: what others did on this machine.
        "load_average": round(os.getloadavg()[0], 2),
        "date": datetime.date.today().isoformat(),
        "gflops_fp32": matrix_gflops("fp32"),
        # Where they are emulated, their rate says nothing, and measuring it takes minutes.
        "gflops_bf16": matrix_gflops("bf16") if cpu_has_bf16() else None,
        "gflops_int8": matrix_gflops("int8") if cpu_has_int8() else None,
    }


def matrix_gflops(precision: Precision, seconds: float = 1.0) -> float:
    """The rate of a square matrix product on the CPU, in 10^9 operations per second.

    The mean, as of what is held against it: a machine's best moment is no limit for its minutes.
    """
    a, b = torch.randn(2, _SIDE, _SIDE).to(torch.bfloat16 if precision == "bf16" else torch.float32)
    product = partial(torch.mm, a, b)
    if precision == "int8":
        product = partial(Int8Product(*round_to_int8(b)), (a * 16 + 128).to(torch.uint8), 128)
    with torch.inference_mode():
        product()
        started_s, count = time.perf_counter(), 0
        while (spent_s := time.perf_counter() - started_s) < seconds:
            product()
            count += 1
    return round(2 * _SIDE**3 * count / spent_s / 1e9, 1)


def _cpuinfo(key: str) -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return ""
    line = next((line for line in lines if line.startswith(key)), "")
    return line.partition(":")[2].strip()


def _versions() -> dict[str, str]:
    versions = {}
    for package in _PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions
