"""What unit tests share: a processor that the encoder takes this machine's for, and a time."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from services.encoder import hardware
from tests.clock import Clock


@pytest.fixture
def processor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Puts another file in the place of /proc/cpuinfo, whose flags end with these."""

    def has(flags: str) -> None:
        file = tmp_path / "cpuinfo"
        file.write_text(f"model name\t: avx512_bf16 avx_vnni\nflags\t\t: fpu avx2 {flags}\n")
        monkeypatch.setattr(hardware, "_CPUINFO", file)

    return has


@pytest.fixture
def clock() -> Clock:
    return Clock()
