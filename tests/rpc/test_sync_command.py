"""`glimpse sync` beside an indexer with a store in memory: what it sends, keeps and deletes."""

from __future__ import annotations

import asyncio
import json
import os
import threading

import pytest
from PIL import Image as Picture

from glimpse import Client
from glimpse.cli import progress
from glimpse.cli.main import main
from glimpse.errors import FailedPrecondition
from glimpse.results import StoredImage
from services.vectors.filters import Prefix
from tests.memory_store import MemoryStore
from tests.rpc.test_indexer import opened

COUNT = 12


class Store(MemoryStore):
    """One to which a filter that is text means all rows: the command looks at what it gets."""

    def _predicate(self, filter):
        return super()._predicate(Prefix("uri", "") if isinstance(filter, str) else filter)


class Running:
    """An indexer on a loop of its own."""

    def __init__(self):
        self.store = Store()
        self._ready, self._end = threading.Event(), asyncio.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()))

    async def _run(self):
        self._loop = asyncio.get_running_loop()
        async with opened(self.store) as service:
            self.target, self.encoder = service.target, service.encoder
            self._ready.set()
            await self._end.wait()

    def __enter__(self):
        self._thread.start()
        assert self._ready.wait(20)
        return self

    def __exit__(self, *_):
        self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join(20)

    def sync(self, *arguments):
        return main(["sync", *map(str, arguments), "--indexer", self.target])

    def rows(self):
        """By uri, what the collection holds."""
        with Client(indexer=self.target) as client:
            fields = ("uri", "metadata", "content_sha256", "vector")
            return {row.uri: row for row in client.list_images("images", "", fields)}


@pytest.fixture
def indexer():
    with Running() as running:
        yield running


@pytest.fixture(autouse=True)
def no_lines_of_progress(monkeypatch):
    """Not even where the machine is slow: tests read all that is said."""
    monkeypatch.setattr(progress, "_PLAIN_FIRST_S", 600)


@pytest.fixture
def folder(tmp_path):
    made = tmp_path / "pictures"
    (made / "deep").mkdir(parents=True)
    for number in range(COUNT):
        draw(made / ("deep" if number % 2 else "") / f"{number:02}.png", number)
    return made


def draw(path, shade):
    Picture.new("RGB", (20, 16), (20 * shade, 7, 7)).save(path)


def told(capsys):
    return json.loads(capsys.readouterr().out)


def test_a_second_sync_reads_and_sends_nothing(indexer, folder, capsys, monkeypatch):
    assert indexer.sync(folder, "--json") == 0
    assert told(capsys)["indexed"] == COUNT
    monkeypatch.setattr("glimpse.files.read", lambda *_: pytest.fail("nothing should be read"))
    assert indexer.sync(folder, "--json") == 0
    counts = told(capsys)
    assert (counts["indexed"], counts["unchanged"], counts["as_before"]) == (0, 0, COUNT)
    (row, *_) = indexer.rows().values()
    status = os.stat(row.path)
    assert row.metadata["glimpse"] == {
        "root": str(folder),
        "size": status.st_size,
        "changed_ms": status.st_mtime_ns // 10**6,
    }


def test_with_checksum_every_file_is_read(indexer, folder, capsys):
    indexer.sync(folder)
    path = folder / "00.png"
    status = os.stat(path)
    draw(path, 1)  # as large, and then as old
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert path.stat().st_size == status.st_size
    capsys.readouterr()
    assert indexer.sync(folder, "--json") == 0
    assert told(capsys)["as_before"] == COUNT
    assert indexer.sync(folder, "--json", "--checksum") == 0
    counts = told(capsys)
    assert (counts["indexed"], counts["unchanged"]) == (1, COUNT - 1)


def test_new_changed_moved_and_gone_files(indexer, folder, capsys):
    indexer.sync(folder)
    before, encoded = indexer.rows(), indexer.encoder.items["pixels"]
    draw(folder / "new.png", COUNT)
    draw(folder / "00.png", COUNT + 1)
    (folder / "02.png").rename(folder / "deep" / "moved.png")
    (folder / "04.png").unlink()
    (folder / "06.png").touch()
    capsys.readouterr()
    assert indexer.sync(folder, "--json") == 0
    counts = told(capsys)
    assert [counts[name] for name in ("indexed", "as_before", "moved", "gone")] == [
        4,
        COUNT - 4,
        1,
        1,
    ]
    assert indexer.encoder.items["pixels"] == encoded + 2  # neither the moved nor the touched one
    assert str(folder / "04.png") in indexer.rows()
    assert indexer.sync(folder, "--json", "--delete") == 0
    assert told(capsys)["deleted"] == 1
    after = indexer.rows()
    assert set(after) == {str(path) for path in folder.rglob("*.png")}
    assert after[str(folder / "deep" / "moved.png")].id == before[str(folder / "02.png")].id
    changed = after[str(folder / "00.png")]
    assert changed.content_sha256 != before[str(folder / "00.png")].content_sha256


def test_a_dry_run_tells_all_and_changes_nothing(indexer, folder, capsys):
    indexer.sync(folder)
    before = indexer.rows()
    draw(folder / "new.png", COUNT)
    draw(folder / "00.png", COUNT + 1)
    (folder / "02.png").rename(folder / "moved.png")
    (folder / "04.png").unlink()
    capsys.readouterr()
    assert indexer.sync(folder, "--dry-run", "--delete") == 0
    assert capsys.readouterr().out.splitlines() == [
        f"~ {folder}/00.png",
        f"> {folder}/moved.png",
        f"+ {folder}/new.png",
        f"- {folder}/04.png",
    ]
    assert indexer.sync(folder, "--dry-run", "--delete", "--json") == 0
    assert told(capsys) == {
        "collection": "images",
        "new": [f"{folder}/new.png"],
        "changed": [f"{folder}/00.png"],
        "moved": [f"{folder}/moved.png"],
        "gone": [f"{folder}/04.png"],
        "as_before": COUNT - 3,
        "passed_over": {},
        "unreadable": 0,
    }
    assert indexer.rows() == before


def test_copies_have_rows_and_each_goes_with_its_file(indexer, folder):
    for name in ("copy-1.png", "deep/copy-2.png"):
        (folder / name).write_bytes((folder / "00.png").read_bytes())
    indexer.sync(folder)
    assert indexer.encoder.items["pixels"] == COUNT
    assert len(indexer.rows()) == COUNT + 2
    (folder / "copy-1.png").unlink()
    draw(folder / "00.png", COUNT)
    assert indexer.sync(folder, "--delete") == 0
    assert set(indexer.rows()) == {str(path) for path in folder.rglob("*.png")}


def test_two_files_that_change_places_are_both_there(indexer, folder):
    indexer.sync(folder)
    before = indexer.rows()
    one, other = folder / "00.png", folder / "02.png"
    content = one.read_bytes(), other.read_bytes()
    for path, new in zip((other, one), content, strict=True):
        path.write_bytes(new)
        os.utime(path, (1, 1))
    assert indexer.sync(folder, "--delete") == 0
    after = indexer.rows()
    assert set(after) == set(before)
    assert after[str(one)].content_sha256 == before[str(other)].content_sha256
    assert after[str(other)].content_sha256 == before[str(one)].content_sha256


def test_folders_do_not_disturb_each_other_nor_what_was_indexed(indexer, folder, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    draw(other / "x.png", COUNT)
    draw(folder / "indexed.png", COUNT + 1)
    assert main(["index", str(folder / "indexed.png"), "--indexer", indexer.target]) == 0
    (folder / "indexed.png").unlink()
    indexer.sync(folder)
    indexer.sync(other)
    assert indexer.sync(folder, "--delete") == indexer.sync(other, "--delete") == 0
    assert len(indexer.rows()) == COUNT + 2


def test_a_deletion_that_fails_still_says_what_is_in(indexer, folder, capsys, monkeypatch):
    indexer.sync(folder)
    draw(folder / "new.png", COUNT)
    (folder / "00.png").unlink()

    async def fail(*_, **__):
        raise FailedPrecondition("it cannot be written to")

    monkeypatch.setattr(indexer.store, "delete_ids", fail)
    capsys.readouterr()
    assert indexer.sync(folder, "--delete", "--json") == 1
    shown = capsys.readouterr()
    assert (json.loads(shown.out)["indexed"], json.loads(shown.out)["is_whole"]) == (1, False)
    assert shown.err.splitlines()[-1] == "glimpse: it cannot be written to"


def test_an_empty_folder_deletes_nothing(indexer, folder, capsys):
    indexer.sync(folder)
    for path in folder.rglob("*.png"):
        path.unlink()
    assert indexer.sync(folder, "--delete", "--yes") == 1
    assert "The folder holds no picture, so nothing is deleted" in capsys.readouterr().err
    assert len(indexer.rows()) == COUNT


def test_many_are_deleted_only_when_that_is_confirmed(indexer, folder, capsys):
    indexer.sync(folder)
    for path in sorted(folder.rglob("*.png"))[:2]:
        path.unlink()
    assert indexer.sync(folder, "--delete") == 1
    told = capsys.readouterr().err
    assert f"The files of 2 of {COUNT} images are gone: --yes deletes so many." in told
    assert len(indexer.rows()) == COUNT
    assert indexer.sync(folder, "--delete", "--yes") == 0
    assert len(indexer.rows()) == COUNT - 2


def test_what_lies_where_it_cannot_be_looked_for_is_not_gone(indexer, folder, monkeypatch):
    indexer.sync(folder)
    (folder / "00.png").unlink()
    whole_scandir, whole_lstat = os.scandir, os.lstat

    def scandir(path):
        if str(path).endswith("deep"):
            raise PermissionError(13, "Permission denied", path)
        return whole_scandir(path)

    def lstat(path, **options):
        if "deep" in str(path):
            raise PermissionError(13, "Permission denied", path)
        return whole_lstat(path, **options)

    monkeypatch.setattr(os, "scandir", scandir)
    monkeypatch.setattr(os, "lstat", lstat)
    assert indexer.sync(folder, "--delete") == 1
    monkeypatch.undo()
    assert set(indexer.rows()) == {str(path) for path in folder.rglob("*.png")}


@pytest.mark.parametrize("missing", ["gone", "file.png"])
def test_what_is_no_folder_is_refused_before_anything_is_asked(tmp_path, capsys, missing):
    (tmp_path / "file.png").touch()
    assert main(["sync", str(tmp_path / missing), "--indexer", "127.0.0.1:1"]) == 1
    assert "the folder cannot be read" in capsys.readouterr().err


def test_metadata_are_taken_and_kept_without_the_file(indexer, folder, tmp_path):
    (tmp_path / "about.csv").write_text(f"path,caption\n{folder}/00.png,a dog\n")
    indexer.sync(folder)
    assert indexer.sync(folder, "--metadata", tmp_path / "about.csv") == 0
    assert caption(indexer.rows()[str(folder / "00.png")]) == "a dog"
    (folder / "00.png").touch()
    os.utime(folder / "00.png", (5, 5))
    assert indexer.sync(folder) == 0
    assert caption(indexer.rows()[str(folder / "00.png")]) == "a dog"


def caption(row: StoredImage):
    return row.metadata["caption"]
