"""`glimpse upgrade`, `rollback`, `generations`, `switch` and `prune` with indexer and query on real
ports, two encoders of different models, and a store in memory."""

from __future__ import annotations

import asyncio
import contextlib
import json

import pytest
from PIL import Image

from glimpse import Client, ImageFile
from glimpse.cli.main import main
from services.common.deadline import Deadline
from services.vectors.filters import AnyOf, Comparison
from tests.fakes import FakeEncoder
from tests.memory_store import MemoryStore
from tests.query_service import query_target
from tests.rpc.test_indexer import opened

COUNT = 6
T = 20.0


class Filters(dict):
    """What the filters mean that the command sends: a list of ids, and a time."""

    def get(self, expression, default=None):
        field, operator, value = expression.split(" ", 2)
        if field == "id":
            return AnyOf("id", tuple(json.loads(value)))
        return Comparison(field, operator, int(value))


class Stack:
    """The services, a folder of pictures in the collection "images", and the command."""

    def __init__(self, store, indexer, query, new, folder):
        self.store, self.new, self.folder = store, new, folder
        self._addresses = ["--indexer", indexer]
        self._query = ["--query", query]
        self.client = Client(query, indexer, timeout_s=T)

    def run_here(self, command, *arguments, query=False):
        """The exit code; in this thread, which must not be that of the services."""
        where = [*self._addresses, *(self._query if query else [])]
        return main([command, *map(str, arguments), *where])

    async def run(self, command, *arguments, query=False):
        return await asyncio.to_thread(self.run_here, command, *arguments, query=query)

    async def upgrade(self, *arguments):
        return await self.run("upgrade", "images", "--encoder", self.new, *arguments, query=True)

    async def rollback(self, *arguments):
        return await self.run("rollback", "images", *arguments, query=True)

    async def times(self, address):
        """When each image was written, by its id."""
        rows = await self.store.list_rows(address, 100, ["indexed_at_ms"], deadline=Deadline(T))
        return {identity: fields["indexed_at_ms"] for identity, fields in rows}

    async def serving(self):
        spec = await self.store.get_spec("images", deadline=Deadline(T))
        return spec.generation, spec.model_name

    def draw(self, number):
        path = self.folder / f"{number:02}.png"
        Image.new("RGB", (20, 16), (number * 20, 7, 7)).save(path)
        return path

    async def index(self, *paths):
        """By path, so that a picture that changes replaces what it was."""
        arguments = [*paths, "--collection", "images", "--id-from", "path"]
        assert await self.run("index", *arguments) == 0


@pytest.fixture
async def stack(tmp_path):
    new = FakeEncoder(dimension=24)
    new.fingerprint, new.model_name = "e" * 64, "new"
    store = MemoryStore(Filters())
    folder = tmp_path / "pictures"
    folder.mkdir()
    async with contextlib.AsyncExitStack() as resources:
        new_target = await resources.enter_async_context(new.serve())
        indexer = await resources.enter_async_context(opened(store, others=[new_target]))
        targets = f"{indexer.encoder_target},{new_target}"
        query = await resources.enter_async_context(query_target(store, targets))
        made = Stack(store, indexer.target, query, new_target, folder)
        made.old = indexer.encoder_target
        await made.index(*(made.draw(number) for number in range(COUNT)))
        yield made
        made.client.close()


async def test_an_upgrade_carries_everything_over_and_has_the_new_model_serve(stack, tmp_path):
    report = tmp_path / "report.json"
    before = await stack.times("images")
    assert await stack.upgrade("--report", report) == 0

    assert await stack.serving() == (1, "new")
    assert await stack.times("images") == before, "rows keep their times"
    assert await stack.times("images@0") == before, "what served is kept"
    said = json.loads(report.read_text())
    assert (said["from"], said["to"], said["switched"]) == (0, 1, True)
    first = said["passes"][0]
    assert (first["carried"], first["deleted"]) == (COUNT, 0)
    found = await asyncio.to_thread(stack.client.search, "images", "dog")
    assert (found.model.name, found.generation, len(found.hits)) == ("new", 1, COUNT)
    old = await asyncio.to_thread(stack.client.search, "images@0", "dog")
    assert (old.model.name, old.generation) == ("fake", 0)


async def test_what_is_written_and_deleted_between_is_carried_over_by_the_next_run(stack):
    assert await stack.upgrade("--check-only") == 0
    assert await stack.serving() == (0, "fake")
    await stack.index(stack.draw(20))
    replaced = stack.folder / "01.png"
    Image.new("RGB", (30, 30), (1, 2, 3)).save(replaced)
    await stack.index(replaced)
    gone = next(iter(await stack.times("images")))
    await stack.store.delete_ids("images@0", [gone], deadline=Deadline(T))

    assert await stack.upgrade() == 0

    times = await stack.times("images@0")
    assert await stack.serving() == (1, "new")
    assert await stack.times("images@1") == times
    assert gone not in times
    assert len(times) == COUNT


async def test_images_whose_files_are_gone_are_listed_and_are_the_operators_decision(stack, capsys):
    (stack.folder / "03.png").unlink()
    Image.new("RGB", (8, 8), (9, 9, 9)).save(stack.folder / "04.png")  # never indexed
    assert await stack.upgrade() == 1
    said = capsys.readouterr().err
    assert "2 images cannot be read" in said
    assert "03.png" in said
    assert "04.png is not the file any more" in said
    assert await stack.serving() == (0, "fake")

    assert await stack.upgrade("--without-missing") == 0
    assert await stack.serving() == (1, "new")
    assert len(await stack.times("images")) == COUNT - 2


async def test_a_rollback_carries_back_what_was_written_since(stack):
    assert await stack.upgrade() == 0
    await stack.index(stack.draw(20))
    gone = next(iter(await stack.times("images")))
    deleted = await asyncio.to_thread(stack.client.delete, "images", ids=[gone])
    assert deleted == 1
    assert gone not in await stack.times("images@0"), "deletions go to all generations"
    now = await stack.times("images")

    assert await stack.rollback() == 0

    assert await stack.serving() == (0, "fake")
    assert await stack.times("images") == now == await stack.times("images@1")
    assert await stack.upgrade() == 0
    assert await stack.serving() == (1, "new")


async def test_a_rollback_keeps_what_the_upgrade_left_out(stack, capsys):
    before = await stack.times("images")
    (stack.folder / "00.png").unlink()
    assert await stack.upgrade("--without-missing") == 0
    carried = await stack.times("images")
    assert len(carried) == COUNT - 1
    deleted = min(carried)
    await asyncio.to_thread(stack.client.delete, "images", ids=[deleted])

    assert await stack.rollback() == 0

    assert (await stack.times("images")).keys() == before.keys() - {deleted}
    assert "1 kept that only images@0 has" in capsys.readouterr().err


async def test_a_model_that_query_cannot_search_by_gets_no_collection(stack, capsys):
    async with query_target(stack.store, stack.old) as query:
        arguments = ["images", "--encoder", stack.new, "--query", query]
        assert await stack.run("upgrade", *arguments) == 1
    assert "(QUERY_ENCODERS)" in capsys.readouterr().err
    assert await stack.serving() == (0, "fake")
    assert await stack.times("images@1") == {}, "it is told before hours of copying"


@pytest.mark.parametrize("option", ["--texts", "--sheets", "--encoder"])
async def test_what_is_wrong_with_a_command_is_told_before_a_generation_is_made(
    stack, option, tmp_path, capsys
):
    value = {"--texts": tmp_path / "none", "--sheets": stack.draw(9), "--encoder": "127.0.0.1:1"}
    assert await stack.upgrade(option, value[option]) == 1
    assert str(value[option]) in capsys.readouterr().err
    assert len(await stack.store.list_generations("images", deadline=Deadline(T))) == 1


async def test_a_report_that_cannot_be_written_is_told_of_before_anything_is_copied(
    stack, tmp_path, capsys
):
    assert await stack.upgrade("--report", tmp_path / "none" / "report.json") == 1
    assert "report.json: no report" in capsys.readouterr().err
    assert await stack.times("images@1") == {}


async def test_an_upgrade_that_ended_behind_its_switch_has_nothing_left_to_do(
    stack, tmp_path, capsys
):
    assert await stack.upgrade() == 0
    await stack.index(stack.draw(20))
    report = tmp_path / "report.json"
    assert await stack.upgrade("--report", report) == 0
    assert "served by generation 1 already" in capsys.readouterr().err
    said = json.loads(report.read_text())
    assert (said["to"], said["passes"], said["switched"]) == (1, [], False)
    assert await stack.rollback("--to", 1) == 0
    assert len(await stack.times("images")) == COUNT + 1


async def test_what_cannot_be_read_while_writes_are_held_is_decided_on_before_the_switch(
    stack, monkeypatch, capsys
):
    hold = Client.hold_writes

    def lose_and_hold(client, name, generation, hold_ms, **options):
        if hold_ms:
            path = stack.draw(30)
            (acknowledgement,) = stack.client.index(name, [ImageFile(path=path)])
            assert acknowledgement.error is None
            path.unlink()
        return hold(client, name, generation, hold_ms, **options)

    monkeypatch.setattr(Client, "hold_writes", lose_and_hold)
    assert await stack.upgrade() == 1
    assert "1 images cannot be read" in capsys.readouterr().err
    assert await stack.serving() == (0, "fake")
    spec = await stack.store.get_spec("images", deadline=Deadline(T))
    assert spec.held_until_ms == 0, "nobody waits for the operator"


async def test_generations_are_listed_switched_and_pruned(stack, capsys):
    assert await stack.upgrade() == 0
    capsys.readouterr()
    assert await stack.run("generations", "images") == 0
    lines = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert [line[:4] for line in lines[1:]] == [
        ["0", "", "fake", f"{COUNT}"],
        ["1", "serves", "new", f"{COUNT}"],
    ]
    assert await stack.run("switch", "images", 0, "--expected", 0) == 1
    assert "generation 1 serves" in capsys.readouterr().err
    assert await stack.run("switch", "images", 0, "--expected", 1) == 0
    assert await stack.serving() == (0, "fake")
    assert await stack.run("prune", "images") == 1, "nobody can be asked"
    assert await stack.run("prune", "images", "--yes") == 0
    assert await stack.run("prune", "images", "--yes") == 0
    assert await stack.rollback() == 1
    assert "no generation to go back to" in capsys.readouterr().err
    assert await stack.run("generations", "images", "--json") == 0
    (only,) = json.loads(capsys.readouterr().out)["generations"]
    assert (only["number"], only["serving"], only["collection"]["name"]) == (0, True, "images@0")


async def test_a_comparison_shows_texts_and_writes_sheets(stack, tmp_path, capsys):
    texts = tmp_path / "texts"
    texts.write_text("a dog\n\nred\n")
    sheets = tmp_path / "sheets"
    assert await stack.upgrade("--check-only", "--texts", texts, "--sheets", sheets) == 0
    captured = capsys.readouterr()
    assert "a dog\t100%" in captured.out, "six images are all among the first ten"
    assert f"images@0: {COUNT:,} images; images@1: {COUNT:,}" in captured.err
    assert len(list(sheets.glob("*.png"))) == 2 * (COUNT + 2)
