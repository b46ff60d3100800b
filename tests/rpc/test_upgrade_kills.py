"""Changes of a model that are killed at one step after the other while somebody writes: by the end,
what was acknowledged is there, and nothing else. The long form, with processes: `make upgrade`."""

from __future__ import annotations

import asyncio
import itertools
import random
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial

from PIL import Image

from glimpse import Client, ImageFile, Outcome
from glimpse.cli import takeover
from services.common.deadline import Deadline
from services.indexer import stream
from services.vectors.records import now_ms
from tests.rpc.test_upgrade_command import T, stack  # noqa: F401

WAIT_S = 120.0  # longer than writes are held on a slow machine
_WRITING_SHARE = 0.4  # of the command's calls, before which something is written


class Killed(BaseException):
    """What no command can clean up after."""


class Writer:
    """Adds, replaces and deletes pictures by turns; `truth` has the file of each that is there."""

    def __init__(self, store, client, folder, truth):
        self.truth = truth
        self._store, self._client, self._folder = store, client, folder
        self._pool = ThreadPoolExecutor(8)
        self._turn = 0
        self._waiting: list[Future] = []
        self._busy: set[str] = set()

    def write(self):
        """Returns when it is acknowledged; at once while writes are held."""
        self._turn += 1
        free = sorted(self.truth.keys() - self._busy)
        is_new = self._turn % 3 == 1 or not free
        chosen = f"w{self._turn:03}" if is_new else free[self._turn % len(free)]
        self._busy.add(chosen)
        work = self._remove if self._turn % 3 == 0 and not is_new else self._put
        future = self._pool.submit(work, chosen, self._turn)
        if self._is_held():
            self._waiting.append(future)
        else:
            future.result(WAIT_S)

    def wait(self):
        for future in self._waiting:
            future.result(WAIT_S)
        self._waiting.clear()

    def _is_held(self):
        serving = self._store._serving.get("images", 0)
        return self._store._generations["images", serving].spec.held_until_ms > now_ms()

    def _put(self, identity, turn):
        path = self._folder / f"{identity.replace('/', '-')}-{turn}.png"
        Image.new("RGB", (20, 16), (turn % 256, turn // 256, 99)).save(path)
        image = ImageFile(path=path, id=identity, uri=path.as_uri())
        (acknowledgement,) = self._client.index("images", [image])
        assert acknowledgement.outcome is not Outcome.FAILED, acknowledgement
        self.truth[identity] = path.as_uri()
        self._busy.discard(identity)

    def _remove(self, identity, turn):
        self._client.delete("images", ids=[identity], timeout_s=WAIT_S)
        del self.truth[identity]
        self._busy.discard(identity)


class Steps:
    """The calls of a command, by the thread that it runs in: one of them kills it."""

    def __init__(self, writer, monkeypatch):
        self._writer, self._random = writer, random.Random(7)
        self._left, self._thread = 0, 0
        answer = Client._answer

        def step(client, call):
            if threading.get_ident() == self._thread:
                self._pass()
            return answer(client, call)

        monkeypatch.setattr(Client, "_answer", step)

    def _pass(self):
        self._left -= 1
        if not self._left:
            raise Killed
        if self._random.random() < _WRITING_SHARE:
            self._writer.write()

    def run(self, command, killed_at):
        """Whether it has come to its end before that step; in this thread."""
        self._left, self._thread = killed_at, threading.get_ident()
        try:
            assert command() == 0
            return True
        except Killed:
            return False
        finally:
            self._thread = 0


async def test_a_change_that_is_killed_at_any_step_loses_nothing_and_brings_nothing_back(
    stack,  # noqa: F811
    monkeypatch,
):
    monkeypatch.setattr(stream, "_LOOK_UP_WAIT_S", 0.0)
    monkeypatch.setattr(takeover, "compare", lambda *_: {})
    monkeypatch.setattr(takeover, "_WARMING", 1)
    writer = Writer(stack.store, stack.client, stack.folder, await uris(stack))
    steps = Steps(writer, monkeypatch)
    changes = itertools.cycle([("upgrade", "--encoder", stack.new), ("rollback", "--to", 0)])
    finished = 0
    for killed_at, (command, *arguments) in zip(itertools.count(1), changes, strict=False):
        change = partial(stack.run_here, command, "images", *arguments, query=True)
        if await asyncio.to_thread(steps.run, change, killed_at):
            finished += 1
        else:
            assert await asyncio.to_thread(steps.run, change, 10**6)
        await asyncio.to_thread(writer.wait)
        assert await uris(stack) == writer.truth, (command, killed_at)
        assert (await stack.serving())[0] == (command == "upgrade")
        if finished == 2:
            break
    assert killed_at >= 10, "a change has more steps than that"


async def uris(stack):  # noqa: F811
    rows = await stack.store.list_rows("images", 1_000, ["uri"], deadline=Deadline(T))
    return {identity: fields["uri"] for identity, fields in rows}
