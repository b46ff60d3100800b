"""What the encoder takes from the machine it is on."""

from __future__ import annotations

import pytest

from services.encoder import hardware
from services.encoder.hardware import choose_precision, cpu_has_bf16, cpu_has_int8, usable_cpus


def test_bf16_is_seen_only_where_the_cpu_has_it(tmp_path) -> None:
    file = tmp_path / "cpuinfo"
    file.write_text("model name : x\nflags\t\t: fpu avx2 avx512f avx512_bf16 amx_tile\n")
    assert cpu_has_bf16(file)
    file.write_text("model name : avx512_bf16\nflags\t\t: fpu avx2 avx512f avx512_bf16x\n")
    assert not cpu_has_bf16(file)
    assert not cpu_has_bf16(tmp_path / "not there")


def test_int8_is_seen_only_where_the_cpu_has_it(tmp_path) -> None:
    file = tmp_path / "cpuinfo"
    file.write_text("flags\t\t: fpu avx2 avx_vnni\n")
    assert cpu_has_int8(file)
    file.write_text("flags\t\t: fpu avx2 avx512f\n")
    assert not cpu_has_int8(file)


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
    ("requested", "device", "bf16", "expected"),
    [
        ("auto", "cuda", False, "fp16"),
        ("auto", "cpu", True, "bf16"),
        ("auto", "cpu", False, "fp32"),
        ("bf16", "cuda", False, "bf16"),
        ("bf16", "cpu", False, "bf16"),
        ("fp32", "cuda", True, "fp32"),
    ],
)
def test_auto_takes_what_the_device_is_made_for(
    requested, device, bf16, expected, monkeypatch
) -> None:
    monkeypatch.setattr(hardware, "cpu_has_bf16", lambda: bf16)
    assert choose_precision(requested, device) == expected
