"""A child process of the command line, stopped as it asks for."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

import pytest

from glimpse.cli.addresses import ADDRESSES_FILE, published
from glimpse.cli.console import CommandError
from glimpse.cli.local import log_file
from glimpse.cli.local.data_folder import DataFolder
from glimpse.cli.local.process import Guard, Process
from tests.waiting import wait_until

ENDS_ON_INTERRUPT = """
import signal, sys
try:
    print("up", flush=True)
    signal.pause()
except KeyboardInterrupt:
    sys.exit(7)
"""


@pytest.fixture
def guard():
    descriptor = os.open(os.devnull, os.O_RDONLY)
    guard = Guard(descriptor)
    yield guard
    guard.close()
    os.close(descriptor)


@pytest.fixture
def interrupts_ignored():
    """As a shell has it for its background jobs."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interrupts_ignored")
def test_a_child_that_stops_on_interrupts_does_so_below_a_background_job(tmp_path, guard):
    command = [sys.executable, "-c", ENDS_ON_INTERRUPT]
    child = Process("child", command, {}, tmp_path / "log", stop_signal=signal.SIGINT)
    child.start(guard)
    wait_until(lambda: child.last_lines() == ["up"], "the child does not start", 30)
    child.stop(grace_s=30)
    assert child.exit_code == 7


def test_a_log_keeps_what_earlier_runs_wrote_and_last_lines_are_those_of_this_run(tmp_path, guard):
    log = tmp_path / "log"
    for word in ("first", "second"):
        child = Process("child", [sys.executable, "-c", f"print({word!r})"], {}, log)
        child.start(guard)
        wait_until(child.last_lines, "the child writes nothing", 30)
        child.stop(grace_s=30)
        assert child.last_lines() == [word]
    assert log.read_text().splitlines() == ["first", "second"]


WRITES_ON_INTERRUPT = """
import signal
signal.signal(signal.SIGINT, lambda *_: print("again", flush=True))
print("x" * 100, flush=True)
while True:
    signal.pause()
"""


def test_a_log_that_grows_is_moved_away_under_the_process_that_writes_it(
    tmp_path, guard, monkeypatch
):
    monkeypatch.setattr(log_file, "_MAX_BYTES", 50)
    log = tmp_path / "log"
    child = Process("child", [sys.executable, "-c", WRITES_ON_INTERRUPT], {}, log)
    child.start(guard)
    wait_until(child.last_lines, "the child writes nothing", 30)
    child.shorten_log()
    os.kill(child.pid, signal.SIGINT)
    wait_until(child.last_lines, "the child writes nothing more", 30)
    child.shorten_log()
    child.kill()
    assert log.read_text() == "again\n"
    assert (tmp_path / "log.1").read_text() == "x" * 100 + "\n"


def test_a_folders_lock_lasts_until_the_last_process_of_its_stack_is_gone(tmp_path):
    """Also when the stack and its guard were killed outright."""
    folder = DataFolder(tmp_path)
    guard = Guard(folder.lock({"query": "127.0.0.1:1"}))
    child = Process(
        "child", [sys.executable, "-c", "import signal; signal.pause()"], {}, tmp_path / "log"
    )
    child.start(guard)
    folder.release()
    os.kill(guard.pid, signal.SIGKILL)
    os.waitpid(guard.pid, 0)
    with pytest.raises(CommandError, match="already running"):
        DataFolder(tmp_path).lock({})
    child.kill()
    DataFolder(tmp_path).lock({})


def test_addresses_are_those_of_a_stack_that_lives(tmp_path):
    folder = DataFolder(tmp_path)
    folder.lock({"query": "127.0.0.1:1"})
    assert published(tmp_path) == {}
    folder.publish()
    assert published(tmp_path)["query"] == "127.0.0.1:1"
    DataFolder(tmp_path).withdraw()  # as one does that was refused
    assert published(tmp_path)
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    (tmp_path / ADDRESSES_FILE).write_text(json.dumps({"query": "127.0.0.1:1", "pid": ended.pid}))
    assert published(tmp_path) == {}
    folder.release()


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a file that is always full")
def test_a_full_disk_is_said_before_anything_is_started_and_costs_no_log(tmp_path, monkeypatch):
    (tmp_path / f"{ADDRESSES_FILE}.new").symlink_to("/dev/full")
    with pytest.raises(CommandError, match=f"{tmp_path} cannot be used: no space left on device"):
        DataFolder(tmp_path).lock({"query": "127.0.0.1:1"})
    monkeypatch.setattr(log_file, "_MAX_BYTES", 5)
    (tmp_path / "log.new").symlink_to("/dev/full")
    (tmp_path / "log").write_text("what happened")
    log_file.LogFile(tmp_path / "log").shorten()
    assert (tmp_path / "log").read_text() == "what happened"


def test_milvus_lites_threads_hand_pythons_lock_over_soon():
    program = "import sys; from glimpse.cli.local import lite_server; sys.argv = ['lite']; "
    program += "assert lite_server.main() == 0; print(sys.getswitchinterval(), file=sys.stderr)"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60
    )
    assert float(done.stderr.splitlines()[-1]) < 0.001, done.stderr
