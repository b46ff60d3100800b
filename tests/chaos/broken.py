"""Broken files among good ones, indexed by the command: the good ones arrive, the others are named.

Each kind of broken file stands under the reason that it must be refused for.
"""

from __future__ import annotations

import io
import json
import struct
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from signal import SIGTERM

import numpy as np
from PIL import Image

from glimpse.cli.main import main
from glimpse.cli.ports import free_ports
from glimpse.cli.probes import is_serving
from glimpse.client import Client
from tests.backends import Process
from tests.chaos import pictures
from tests.waiting import wait_until

_ROOT = Path(__file__).resolve().parents[2]
_COLLECTION = "broken"


def _truncated(number: int) -> bytes:
    noise = np.random.default_rng(number).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(noise).save(stream, "JPEG")
    return stream.getvalue()[:-1500]


def _bomb(number: int) -> bytes:
    """A PNG of a few bytes that claims to have 900 million pixels."""

    def chunk(body: bytes) -> bytes:
        return struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))

    size = struct.pack(">II5B", 30_000, 30_000 + number, 8, 0, 0, 0, 0)
    data = zlib.compress(bytes(1000))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR" + size) + chunk(b"IDAT" + data) + chunk(b"IEND")


def _unsupported(number: int) -> bytes:
    """Samples that are fractions, of which nobody knows how bright white is."""
    stream = io.BytesIO()
    Image.fromarray(np.full((8, 8), number, np.float32)).save(stream, "TIFF")
    return stream.getvalue()


_BROKEN: dict[str, Callable[[int], bytes]] = {
    "IMAGE_EMPTY": lambda _: b"",
    "IMAGE_TRUNCATED": _truncated,
    "IMAGE_UNREADABLE": lambda number: b"no picture, whatever the name %d says" % number,
    "IMAGE_TOO_LARGE": _bomb,
    "IMAGE_UNSUPPORTED": _unsupported,
}


def index_broken_among_good(folder: Path, good: int, broken: int) -> list[str]:
    """What went wrong; nothing, if every good picture arrived and every other was refused for its
    own reason, once as they are and once more when they have been replaced."""
    reasons = list(_BROKEN)
    expected = {}
    files = folder / "pictures"
    files.mkdir(parents=True)
    for number in range(good):
        (files / f"good-{number}.bmp").write_bytes(pictures.content(number))
    for number in range(broken):
        path, reason = files / f"broken-{number}.bmp", reasons[number % len(reasons)]
        path.write_bytes(_BROKEN[reason](number))
        expected[str(path)] = reason
    encoder_port, indexer_port = free_ports(2)
    address = f"127.0.0.1:{indexer_port}"
    environment = {
        "PYTHONPATH": str(_ROOT),
        "INDEXER_LISTEN": address,
        "INDEXER_METRICS_LISTEN": "127.0.0.1:0",
        "INDEXER_ENCODER": f"127.0.0.1:{encoder_port}",
    }
    python = [sys.executable, "-m"]
    processes = [
        Process([*python, "tests.chaos.encoder", str(encoder_port)], folder, SIGTERM, environment),
        Process([*python, "tests.memory_service", "indexer"], folder, SIGTERM, environment),
    ]
    for process in processes:
        process.start()
    try:
        log = folder / "log.txt"
        wait_until(lambda: is_serving(address) or not _are_running(processes), f"see {log}")
        assert _are_running(processes), f"see {log}"
        return _problems(folder, address, expected, good)
    finally:
        for process in processes:
            process.stop()


def _problems(folder: Path, address: str, expected: dict[str, str], good: int) -> list[str]:
    failures = folder / "failed.jsonl"
    common = ["--collection", _COLLECTION, "--indexer", address]
    first_code = main(["index", str(folder / "pictures"), "--failures", str(failures), *common])
    lines = [json.loads(line) for line in failures.read_text(encoding="utf-8").splitlines()]
    reasons = {line["path"]: line["reason"] for line in lines}
    problems = []
    if (first_code, len(lines)) != (1, len(expected)):
        problems.append(f"exit code {first_code}, {len(lines)} failures of {len(expected)}")
    for path in expected.keys() | reasons.keys():
        if expected.get(path) != reasons.get(path):
            problems.append(f"{path}: {reasons.get(path)}, not {expected.get(path)}")
    if (rows := _rows(address)) != good:
        problems.append(f"{rows} rows of {good} good pictures")
    for number, path in enumerate(expected):
        Path(path).write_bytes(pictures.content(good + number))
    second_code = main(["index", f"@{failures}", *common])
    if (second_code, _rows(address)) != (0, good + len(expected)):
        problems.append("the list of failures, fed back in, did not bring what was mended")
    return problems


def _are_running(processes: list[Process]) -> bool:
    return all(process.is_running for process in processes)


def _rows(address: str) -> int:
    with Client(indexer=address) as client:
        return client.get_collection(_COLLECTION, exact=True).rows
