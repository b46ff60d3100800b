"""`glimpse export` and `import` beside a real indexer: round trips, and runs that are killed."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from glimpse.cli.backup.layout import MANIFEST, part_paths
from glimpse.cli.backup.position import NAME as POSITION
from glimpse.cli.main import main
from services.common.deadline import Deadline
from services.indexer import bounds
from services.vectors.metadata import Metadata
from services.vectors.records import ALL_FIELDS, CollectionSpec, Row
from tests.memory_store import MemoryStore
from tests.rpc.test_indexer import T, opened
from tests.waiting import until

DIMENSION = 256
COUNT = 3_000
SPEC = CollectionSpec("photos", DIMENSION, "ViT-X", "a" * 64 + "/224px/v2", metric="COSINE")


def vectors(count, dimension=DIMENSION):
    found = np.random.default_rng(7).standard_normal((count, dimension)).astype(np.float32)
    return found / np.linalg.norm(found, axis=1, keepdims=True)


def rows(count=COUNT):
    return [
        Row(
            id=f"{number:06}",
            vector=vector,
            uri=f"s3://photos/{number}-ü.jpg",
            content_sha256=f"{number:064x}",
            width=640 + number,
            height=480,
            format="JPEG",
            indexed_at_ms=1_700_000_000_000 + number,
            metadata=Metadata.of({"n": number, "big": 2**53 + 1, "deep": {"x": [1.5, None, "ß"]}}),
        )
        for number, vector in enumerate(vectors(count))
    ]


class Store(MemoryStore):
    """Stands still once it has read or written so often."""

    def __init__(self):
        super().__init__()
        self.reads = self.writes = 0
        self.stop_at = 10**9
        self.standing, self.go = asyncio.Event(), asyncio.Event()

    async def list_rows(self, *arguments, **options):
        self.reads += 1
        await self._stand(self.reads)
        return await super().list_rows(*arguments, **options)

    async def upsert(self, *arguments, **options):
        self.writes += 1
        await self._stand(self.writes)
        await super().upsert(*arguments, **options)

    async def _stand(self, number):
        if number >= self.stop_at:
            self.standing.set()
            await self.go.wait()

    async def fill(self, count=COUNT, name="photos"):
        await self.create_collection(
            CollectionSpec(**{**vars(SPEC), "name": name}), deadline=Deadline(T)
        )
        await super().upsert(name, rows(count), deadline=Deadline(T))

    async def all_rows(self, name):
        ids = list(self._collection(name, Deadline(T)).rows)
        return await self.fetch(name, ids, ALL_FIELDS, deadline=Deadline(T))


@pytest.fixture
async def service(monkeypatch):
    monkeypatch.setattr(bounds, "MAX_LISTED_BYTES", 500_000)  # pages of some hundred rows
    async with opened(Store()) as made:
        yield made


async def glimpse(service, *arguments):
    """The exit code of the command."""
    return await asyncio.to_thread(
        main, [*map(str, arguments), "--indexer", service.target, "--patience", "20"]
    )


def start(service, *arguments):
    """The command as a process of its own."""
    command = [sys.executable, "-m", "glimpse.cli.main", *map(str, arguments)]
    return subprocess.Popen([*command, "--indexer", service.target], stderr=subprocess.PIPE)


def kill(process):
    process.send_signal(signal.SIGKILL)
    process.communicate()


async def killed_import(service, folder):
    """Into "again", after its first batch."""
    store = service.store
    store.stop_at = store.writes + 2
    process = await asyncio.to_thread(start, service, "import", folder, "-c", "again")
    await store.standing.wait()
    await until((folder / POSITION).exists)
    kill(process)
    store.stop_at = 10**9
    store.go.set()


def assert_equal(found, wanted):
    assert found.keys() == wanted.keys()
    for identity, row in wanted.items():
        assert found[identity].pop("vector").tobytes() == row.pop("vector").tobytes()
        assert found[identity] == row


async def test_what_was_exported_is_imported_bit_by_bit(service, tmp_path, capsys):
    store = service.store
    await store.fill()
    assert await glimpse(service, "export", "photos", tmp_path, "--file-mb", 1, "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["rows"], told["dimension"]) == (COUNT, DIMENSION)
    assert told["model"] == {"name": SPEC.model_name, "fingerprint": SPEC.model_fingerprint}
    assert [path.name for path in part_paths(tmp_path)] == told["files"]
    assert len(told["files"]) > 1
    assert all(path.stat().st_size < 5e6 for path in part_paths(tmp_path))

    code = await glimpse(service, "import", tmp_path, "--collection", "again", "--json")
    told = json.loads(capsys.readouterr().out)
    assert code == 0
    assert (told["written"], told["rejected"], told["collection_rows"]) == (COUNT, 0, COUNT)
    assert_equal(await store.all_rows("again"), await store.all_rows("photos"))
    spec = await store.get_spec("again", deadline=Deadline(T))
    assert spec == CollectionSpec(**{**vars(SPEC), "name": "again"})
    assert not (tmp_path / POSITION).exists()


async def test_without_a_name_rows_go_back_to_where_they_were(service, tmp_path):
    await service.store.fill(10)
    await glimpse(service, "export", "photos", tmp_path)
    await service.store.delete_ids("photos", ["000003"], deadline=Deadline(T))
    assert await glimpse(service, "import", tmp_path) == 0
    assert await service.store.count("photos", deadline=Deadline(T)) == 10


async def test_an_empty_collection_comes_back_empty(service, tmp_path):
    await service.store.fill(0)
    assert await glimpse(service, "export", "photos", tmp_path) == 0
    assert await glimpse(service, "import", tmp_path, "--collection", "again") == 0
    assert await service.store.count("again", deadline=Deadline(T)) == 0


async def test_files_are_parquet_that_says_what_it_holds(service, tmp_path):
    await service.store.fill(10)
    await glimpse(service, "export", "photos", tmp_path)
    table = pq.read_table(part_paths(tmp_path)[0])
    assert table.schema.field("vector").type == pa.list_(pa.float32(), DIMENSION)
    assert json.loads(table.schema.metadata[b"glimpse"]) == {
        "format": 1,
        "collection": "photos",
        "model_name": SPEC.model_name,
        "model_fingerprint": SPEC.model_fingerprint,
        "dimension": DIMENSION,
        "metric": "COSINE",
    }
    first = table.to_pylist()[0]
    assert json.loads(first["metadata"])["big"] == 2**53 + 1
    assert np.asarray(first["vector"], np.float32).tobytes() == rows(1)[0].vector.tobytes()


async def test_a_killed_export_goes_on_behind_its_last_whole_file(service, tmp_path, capsys):
    store = service.store
    await store.fill()
    store.stop_at = 7  # a page takes one read, the first one two; a file has three pages
    process = await asyncio.to_thread(
        start, service, "export", "photos", tmp_path, "--file-mb", "1"
    )
    await store.standing.wait()
    await until(lambda: part_paths(tmp_path))
    kill(process)
    whole = part_paths(tmp_path)
    before = {path: path.read_bytes() for path in whole}
    assert await glimpse(service, "import", tmp_path, "--collection", "again") == 1
    assert "has not come to its end" in capsys.readouterr().err

    store.stop_at = 10**9
    store.go.set()
    assert await glimpse(service, "export", "photos", tmp_path, "--file-mb", 1) == 0
    assert f"Going on behind {sum(pq.read_metadata(p).num_rows for p in whole):,} rows" in (
        capsys.readouterr().err
    )
    assert {path: path.read_bytes() for path in whole} == before
    assert not list(tmp_path.glob("*.tmp"))
    ids = [id for path in part_paths(tmp_path) for id in pq.read_table(path)["id"].to_pylist()]
    assert ids == [row.id for row in rows()]
    assert await glimpse(service, "export", "photos", tmp_path) == 1
    assert "whole" in capsys.readouterr().err


async def test_an_export_stays_with_the_generation_that_it_began_with(service, tmp_path):
    store = service.store
    await store.fill()
    other = CollectionSpec("photos", DIMENSION, "ViT-Y", "b" * 64)
    await store.create_generation(other, deadline=Deadline(T))
    store.stop_at = 5
    export = asyncio.create_task(glimpse(service, "export", "photos", tmp_path))
    await store.standing.wait()
    await store.switch_generation("photos", 1, deadline=Deadline(T))
    store.stop_at = 10**9
    store.go.set()
    assert await export == 0
    ids = [id for path in part_paths(tmp_path) for id in pq.read_table(path)["id"].to_pylist()]
    assert ids == [row.id for row in rows()]


async def test_a_killed_import_goes_on_where_it_was(service, tmp_path, capsys):
    store = service.store
    await store.fill()
    await glimpse(service, "export", "photos", tmp_path, "--file-mb", 1)
    await killed_import(service, tmp_path)
    assert await glimpse(service, "import", tmp_path, "-c", "again", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["skipped"] > 0
    assert told["skipped"] + told["written"] == COUNT
    assert_equal(await store.all_rows("again"), await store.all_rows("photos"))


async def test_the_place_in_a_collection_that_was_dropped_counts_for_nothing(
    service, tmp_path, capsys
):
    store = service.store
    await store.fill()
    await glimpse(service, "export", "photos", tmp_path)
    await killed_import(service, tmp_path)
    await store.drop_collection("again", deadline=Deadline(T))
    assert await glimpse(service, "import", tmp_path, "-c", "again", "--json") == 0
    assert json.loads(capsys.readouterr().out)["written"] == COUNT


async def test_another_model_is_refused_with_both_named(service, tmp_path, capsys):
    await service.store.fill(10)
    await glimpse(service, "export", "photos", tmp_path)
    other = CollectionSpec("other", DIMENSION, "ViT-Y", "b" * 64)
    await service.store.create_collection(other, deadline=Deadline(T))
    assert await glimpse(service, "import", tmp_path, "--collection", "other") == 1
    told = capsys.readouterr().err
    assert all(text in told for text in ("ViT-X", "ViT-Y", "a" * 64, "b" * 64))
    assert await service.store.count("other", deadline=Deadline(T)) == 0


async def test_a_folder_takes_one_export_only(service, tmp_path, capsys):
    await service.store.fill(10)
    await glimpse(service, "export", "photos", tmp_path)
    (tmp_path / MANIFEST).unlink()  # as if it had been killed at the very end
    await service.store.fill(10, "others")
    assert await glimpse(service, "export", "others", tmp_path) == 1
    assert "holds rows of 'photos', not of 'others'" in capsys.readouterr().err


async def test_a_lost_file_of_a_backup_is_told(service, tmp_path, capsys):
    await service.store.fill()
    await glimpse(service, "export", "photos", tmp_path, "--file-mb", 1)
    part_paths(tmp_path)[1].unlink()
    assert await glimpse(service, "import", tmp_path, "--collection", "again") == 1
    assert "its files are not those that export.json tells of" in capsys.readouterr().err


def foreign(path, **columns):
    pq.write_table(pa.table(columns), path)


async def test_foreign_parquet_is_taken_and_bad_rows_are_listed(service, tmp_path, capsys):
    good = vectors(6, 4).tolist()
    nan = [float("nan"), 0.0, 0.0, 1.0]
    foreign(
        tmp_path / "a.parquet",
        key=["one", None, "http://x/?a=1&b=2", "one", "five", "six", "seven"],
        emb=pa.array([good[0], good[1], good[2], good[3], nan, [1.0], None]),
        caption=["dog", "cat", None, "cow", "hen", "pig", "ant"],
        score=[0.5, 1.5, 2.5, float("nan"), 4.5, 5.5, 6.5],
        blob=[b"x"] * 7,
    )
    failures = tmp_path / "failed.jsonl"
    code = await glimpse(
        service, "import", tmp_path, "-c", "art", "--model", "ViT-L/14", "--id-column", "key",
        "--vector-column", "emb", "--failures", failures, "--json",
    )  # fmt: skip
    told = json.loads(capsys.readouterr().out)
    assert (code, told["written"], told["rejected"]) == (1, 3, 4)
    listed = [json.loads(line) for line in failures.read_text().splitlines()]
    assert [(each["row"], each["id"]) for each in listed] == [
        (1, ""), (4, "five"), (5, "six"), (6, "seven"),
    ]  # fmt: skip
    assert all(each["file"] == "a.parquet" and each["message"] for each in listed)
    found = await service.store.all_rows("art")
    (hashed,) = found.keys() - {"one"}
    assert found[hashed]["uri"] == "http://x/?a=1&b=2"
    assert found[hashed]["metadata"] == {"score": 2.5}
    assert found["one"]["metadata"] == {"caption": "cow"}, "of one id, the later row"
    spec = await service.store.get_spec("art", deadline=Deadline(T))
    assert spec.model_fingerprint == "declared:ViT-L/14"


async def test_what_clip_retrieval_writes_is_taken(service, tmp_path):
    for name in ("img_emb", "metadata"):
        (tmp_path / name).mkdir()
    for number in (0, 1, 10, 2):
        half = vectors(50, 16).astype(np.float16)
        np.save(tmp_path / "img_emb" / f"img_emb_{number}.npy", half)
        foreign(
            tmp_path / "metadata" / f"metadata_{number}.parquet",
            image_path=[f"{number:05}{n:04}" for n in range(50)],
            url=[f"https://pictures/{number}/{n}.jpg?size=1" for n in range(50)],
            caption=["a dog"] * 50,
            width=[640] * 50,
            height=[480] * 50,
        )
    arguments = (
        "import",
        tmp_path,
        "-c",
        "laion",
        "--model",
        "ViT-B/32",
        "--fingerprint",
        "f" * 64,
    )
    assert await glimpse(service, *arguments, "--id-column", "image_path") == 0
    found = await service.store.all_rows("laion")
    assert len(found) == 200
    row = found["000100003"]
    assert row["uri"] == "https://pictures/10/3.jpg?size=1"
    assert (row["width"], row["height"]) == (640, 480)
    assert row["metadata"] == {"image_path": "000100003", "caption": "a dog"} or row[
        "metadata"
    ] == {"caption": "a dog"}
    assert row["vector"] == pytest.approx(vectors(50, 16)[3], abs=1e-3)
    spec = await service.store.get_spec("laion", deadline=Deadline(T))
    assert spec.model_fingerprint == "f" * 64


async def test_lengths_other_than_one_are_rejected_or_normalised(service, tmp_path):
    np.save(tmp_path / "long.npy", 5 * vectors(20, 8))
    foreign(tmp_path / "long.parquet", id=list(range(20)), url=[f"u{n}" for n in range(20)])
    arguments = ("import", tmp_path, "-c", "art", "--model", "x", "--metadata-columns", "")
    assert await glimpse(service, *arguments) == 1
    assert await service.store.count("art", deadline=Deadline(T)) == 0
    assert await glimpse(service, *arguments, "--normalise") == 0
    found = await service.store.all_rows("art")
    assert found["7"]["vector"] == pytest.approx(vectors(20, 8)[7], abs=1e-6)
    assert (found["7"]["uri"], found["7"]["metadata"]) == ("u7", {})
