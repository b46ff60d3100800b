"""What arithmetic the machine has; the tensors are model.py's."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Literal

Precision = Literal["fp32", "bf16", "fp16", "int8"]
RequestedPrecision = Literal["auto", "fp32", "bf16", "fp16", "int8"]

# Without these, a CPU emulates bf16 and is up to a hundred times slower than in fp32.
_BF16_FLAGS = frozenset({"avx512_bf16", "amx_bf16"})

# Dot products of int8 that add up in 32 bits.
_INT8_FLAGS = frozenset({"avx512_vnni", "avx_vnni", "amx_int8"})

_CPUINFO = Path("/proc/cpuinfo")

log = logging.getLogger(__name__)


class DeviceUnusable(ValueError):
    """The device that was asked for is not there, or does not work; the message says what is."""


class PrecisionUnusable(ValueError):
    """The device does not have the precision that was asked for."""


def choose_precision(requested: RequestedPrecision, device_type: str) -> Precision:
    """Resolve "auto" to the device's floating-point precision: fp16 (CLIP's own) on a GPU, bf16 on
    a CPU that has it, fp32 elsewhere.

    Raises PrecisionUnusable for one that the device does not have.
    """
    if device_type != "cpu":
        if requested == "int8":
            raise PrecisionUnusable("int8 needs a CPU; a GPU supports auto, fp32, bf16 or fp16")
        return "fp16" if requested == "auto" else requested
    if requested == "fp16":
        raise PrecisionUnusable("fp16 needs a GPU; a CPU supports auto, fp32, bf16 or int8")
    if requested == "auto":
        return "bf16" if cpu_has_bf16() else "fp32"
    if requested == "bf16" and not cpu_has_bf16():
        log.warning("this CPU has no bf16 instructions: bf16 will be far slower than fp32")
    return requested


def cpu_has_bf16() -> bool:
    """Whether the CPU multiplies bf16 matrices in hardware; False where that cannot be known."""
    return not _BF16_FLAGS.isdisjoint(_cpu_flags())


def cpu_has_int8() -> bool:
    """Whether the CPU sums products of int8 in 32 bits; False where that cannot be known."""
    return not _INT8_FLAGS.isdisjoint(_cpu_flags())


def cpu_multiplies_int8_fastest() -> bool:
    """Whether products of int8 are known to be faster than those of bf16 and fp32 here."""
    return cpu_has_int8() or "avx2" in _cpu_flags()


def _cpu_flags() -> list[str]:
    try:
        lines = _CPUINFO.read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return []
    return next((line for line in lines if line.startswith("flags")), "").split()
