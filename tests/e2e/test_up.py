"""`glimpse up` as a process: what it leaves behind, however it ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.waiting import wait_until

ROOT = Path(__file__).parents[2]
MODEL = os.environ.get("ENCODER_MODEL", "demo")


def start_up(data: Path, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "glimpse.cli.main", "up", "--data", str(data), "--ports", "0"]
    return subprocess.Popen(
        [*command, "--model", MODEL, *arguments],
        cwd=ROOT,
        # A proxy that is not there: nothing on this machine may be asked for through it.
        env=os.environ | {"http_proxy": "http://127.0.0.1:1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def of_stack(data: Path) -> list[str]:
    """Command lines of living processes that have to do with a data folder."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            state = (process / "stat").read_text().rpartition(")")[2].split()[0]
            where = os.readlink(process / "cwd")
            words = (process / "cmdline").read_text().replace("\0", " ")
        except OSError:
            continue
        if state != "Z" and (where.startswith(str(data)) or str(data) in words):
            found.append(words)
    return found


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc to see processes")
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])  # others: tests/unit/test_up.py
def test_up_leaves_no_process_behind_however_it_ends(tmp_path, how):
    data = tmp_path / "data"
    up = start_up(data)
    try:
        wait_until(lambda: (data / "addresses.json").exists() or up.poll() is not None, "start")
        assert up.poll() is None, up.communicate()
        workers = [words for words in of_stack(data) if "decode_worker" in words]
        assert len(workers) == 2  # one each of encoder and indexer
        assert len(of_stack(data)) == 5 + len(workers)  # up itself and four more
        up.send_signal(how)
        output, message = up.communicate()
    finally:
        up.kill()
    wait_until(lambda: not of_stack(data), "processes were left behind")
    if how is signal.SIGKILL:
        return
    assert up.returncode == 0
    assert message.splitlines()[-1] == "Stopped."
    assert [line.split("\t")[0] for line in output.splitlines()] == [
        "service",
        "milvus",
        "encoder",
        "indexer",
        "query",
    ]
    assert not (data / "addresses.json").exists()


def test_up_ends_with_a_sentence_when_a_process_dies(tmp_path):
    data = tmp_path / "data"
    up = start_up(data)
    try:
        wait_until(lambda: (data / "addresses.json").exists() or up.poll() is not None, "start")
        (indexer,) = [p for p in children(up.pid) if "services.indexer" in p[1]]
        os.kill(indexer[0], signal.SIGKILL)
        _, message = up.communicate()
    finally:
        up.kill()
    assert up.returncode == 1
    assert "glimpse: indexer was killed by SIGKILL; its log is" in message
    assert not of_stack(data)


def children(parent: int) -> list[tuple[int, str]]:
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            fields = (process / "stat").read_text().rpartition(")")[2].split()
            words = (process / "cmdline").read_text().replace("\0", " ")
        except OSError:
            continue
        if int(fields[1]) == parent:
            found.append((int(process.name), words))
    return found


def test_a_model_that_is_not_there_is_one_sentence_and_nothing_is_left_running(tmp_path):
    data = tmp_path / "data"
    up = start_up(data, "--model", "no-such-model.pt")
    _, message = up.communicate()
    assert up.returncode == 1
    assert "glimpse: 'no-such-model.pt' is neither a file, a folder nor a model" in message
    assert "Traceback" not in message
    assert not of_stack(data)
