"""What the encoder takes from the machine it is on."""

from __future__ import annotations

import pytest

from services.common.cpus import usable_cpus
from services.encoder import hardware
from services.encoder.hardware import choose_precision, cpu_has_bf16, cpu_has_int8


@pytest.mark.parametrize(
    ("flags", "bf16", "int8"),
    [
        ("", False, False),
        ("avx512f avx512_bf16x avx512_vnnix", False, False),
        ("avx512_bf16 amx_tile", True, False),
        ("avx512f avx512_vnni", False, True),
        ("avx_vnni", False, True),
        ("amx_bf16 amx_tile amx_int8", True, True),
    ],
)
def test_bf16_and_int8_are_seen_only_where_the_cpu_has_them(flags, bf16, int8, processor) -> None:
    processor(flags)
    assert (cpu_has_bf16(), cpu_has_int8()) == (bf16, int8)


def test_a_cpu_that_nothing_tells_of_has_neither(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(hardware, "_CPUINFO", tmp_path / "not there")
    assert (cpu_has_bf16(), cpu_has_int8()) == (False, False)


def test_a_gpu_is_not_asked_for_int8() -> None:
    assert choose_precision("int8", "cpu") == "int8"
    with pytest.raises(ValueError, match="int8 needs a CPU"):
        choose_precision("int8", "cuda")


def test_a_containers_quota_bounds_the_cpus(tmp_path) -> None:
    file = tmp_path / "cpu.max"
    file.write_text("max 100000\n")
    without_quota = usable_cpus(file)
    assert without_quota == usable_cpus(tmp_path / "not there") >= 1
    file.write_text("50000 100000\n")
    assert usable_cpus(file) == 1
    file.write_text("150000 100000\n")
    assert usable_cpus(file) == min(2, without_quota)


@pytest.mark.parametrize(
    ("requested", "device", "flags", "expected"),
    [
        ("auto", "cuda", "", "fp16"),
        ("auto", "cpu", "avx512_bf16", "bf16"),
        ("auto", "cpu", "avx512_vnni", "fp32"),
        ("bf16", "cuda", "", "bf16"),
        ("bf16", "cpu", "", "bf16"),
        ("fp32", "cuda", "avx512_bf16", "fp32"),
    ],
)
def test_auto_takes_what_the_device_is_made_for(
    requested, device, flags, expected, processor
) -> None:
    processor(flags)
    assert choose_precision(requested, device) == expected
