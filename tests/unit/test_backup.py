"""Parquet and .npy files as `glimpse import` finds them: whole, foreign, damaged, hostile; and that
memory does not grow with their number."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
import tracemalloc

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from glimpse.cli.backup.foreign import Columns, fit_id
from glimpse.cli.backup.layout import Origin, opened, part_paths
from glimpse.cli.backup.rows import Batches, Rows, vectors_of
from glimpse.cli.backup.sources import find
from glimpse.cli.backup.writer import BackupWriter
from glimpse.cli.console import CommandError
from glimpse.indexer.v1 import indexer_pb2
from glimpse.upload import MAX_BATCH_BYTES

ORIGIN = Origin("photos", "ViT-X", "a" * 64, 4, "INNER_PRODUCT")


def images(count, first=0, dimension=4):
    vector = np.eye(1, dimension, dtype="<f4").tobytes()
    return [
        indexer_pb2.ListedImage(id=f"{n:08}", packed_vector=vector, metadata_json="{}")
        for n in range(first, first + count)
    ]


def table(path, **columns):
    pq.write_table(pa.table(columns), path)


def all_rows(found):
    return [image for source in found.sources for rows in source.read(0) for image in rows.images]


def test_pandas_is_not_imported_where_it_is_installed():
    code = """if True:
        import sys, io
        import pyarrow as pa, pyarrow.parquet as pq
        from glimpse.cli.backup.layout import keep_pandas_out
        keep_pandas_out()
        file = io.BytesIO()
        pq.write_table(pa.table({"a": ["x"], "b": [[1.0]]}), file)
        for batch in pq.ParquetFile(file).iter_batches():
            batch.column(0).to_pylist()
            batch.column(1).flatten().to_numpy()
        assert "pandas" not in sys.modules
        import pandas
    """
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_source_can_be_read_from_any_row_on(tmp_path):
    path = tmp_path / "a.parquet"
    whole = pa.table({"id": [str(n) for n in range(2_500)], "vector": [[1.0, 0.0]] * 2_500})
    pq.write_table(whole, path, row_group_size=700)
    (source,) = find(tmp_path, Columns(), incomplete=False).sources
    for first in (0, 1, 699, 700, 1_999, 2_499, 2_500):
        rows = list(source.read(first))
        ids = [image.id for some in rows for image in some.images]
        assert ids == [str(n) for n in range(first, 2_500)]
        assert all(some.images[0].id == str(some.first) for some in rows)


@pytest.mark.parametrize(
    ("column", "wanted"),
    [
        (pa.array([[1, 2], [3, 4]], pa.list_(pa.float64())), [[1, 2], [3, 4]]),
        (pa.array([[1, 2], [3, 4]], pa.list_(pa.float16(), 2)), [[1, 2], [3, 4]]),
        (pa.array([[0, 0], [1, 2], [3, 4]], pa.list_(pa.float32(), 2))[1:], [[1, 2], [3, 4]]),
        (pa.array([[1, 2], None, [3]], pa.large_list(pa.float32())), [[1, 2], [], [3]]),
        (pa.array([[1, 2], None], pa.list_(pa.float32(), 2)), [[1, 2], []]),
        (pa.array([[1, None]], pa.list_(pa.float32())), [[1, np.nan]]),
        (pa.array([[1e300, 1]], pa.list_(pa.float64())), [[np.inf, 1]]),
        (pa.array([[], []], pa.list_(pa.float32())), [[], []]),
        (pa.array([[1, 2]], pa.list_(pa.int32())), [[1, 2]]),
        (pa.array([], pa.list_(pa.float32())), []),
    ],
)
def test_vectors_of_any_kind_of_list_become_bytes(column, wanted):
    assert vectors_of(column) == [np.asarray(row, "<f4").tobytes() for row in wanted]


def test_keys_that_can_be_no_ids_get_one_that_is_always_the_same():
    assert fit_id("a/b.jpg") == "a/b.jpg"
    for key in ("a b", "", "x" * 129, "https://x/?y=1", "犬", "\udce4"):
        assert len(fit_id(key)) == 32
        assert fit_id(key) == fit_id(key)


@pytest.mark.parametrize(
    ("columns", "wanted", "told"),
    [
        ({"id": ["a"]}, Columns(), "name the column of vectors by --vector-column"),
        ({"vector": [[1.0]]}, Columns(), "name the column of ids by --id-column"),
        ({"id": ["a"], "vector": [[1.0]]}, Columns(id="key"), "no"),
        ({"id": ["a"], "vector": [[1.0]]}, Columns(vector="emb"), "has not one column 'emb'"),
        ({"id": ["a"], "vector": ["x"]}, Columns(), "which cannot be vectors"),
        ({"id": ["a"], "vector": [[[1.0]]]}, Columns(), "which cannot be vectors"),
        ({"id": [1.5], "vector": [[1.0]]}, Columns(), "which cannot be ids"),
        ({"id": ["a"], "vector": [[1.0]], "b": [b"x"]}, Columns(metadata=("b",)), "metadata"),
        ({"id": ["a"], "vector": [[1.0]]}, Columns(metadata=("none",)), "has not one column"),
        ({"id": ["a"], "vector": [[1.0]], "uri": [1]}, Columns(), "which cannot be uris"),
    ],
)
def test_columns_that_are_missing_or_of_a_wrong_type_are_named(tmp_path, columns, wanted, told):
    table(tmp_path / "a.parquet", **columns)
    with pytest.raises(CommandError, match=r"a\.parquet") as raised:
        find(tmp_path, wanted, incomplete=False)
    assert told in str(raised.value)


def test_files_that_are_no_parquet_are_named(tmp_path):
    path = tmp_path / "a.parquet"
    whole = tmp_path / "whole"
    table(whole, id=[str(n) for n in range(1_000)], vector=[[1.0, 0.0]] * 1_000)
    content = whole.read_bytes()
    for damaged in (b"", b"PAR1", content[:-100], content[:50] + content[80:], b"x" * 1_000):
        path.write_bytes(damaged)
        with pytest.raises(CommandError, match=r"a\.parquet"):
            all_rows(find(tmp_path, Columns(), incomplete=False))


@pytest.mark.parametrize(
    "says",
    [
        b"{", b"[]", b"{}", b'{"format": 2}', b'{"format": "1"}',
        json.dumps({"format": 1, "collection": "a"}).encode(),
        json.dumps({"format": 1, **vars(ORIGIN), "dimension": 5}).encode(),
        json.dumps({"format": 1, **vars(ORIGIN), "dimension": "4"}).encode(),
        json.dumps({"format": 1, **vars(ORIGIN), "model_name": 7}).encode(),
        json.dumps({"format": 1, **vars(ORIGIN), "more": 7}).encode(),
    ],
)  # fmt: skip
def test_an_export_whose_description_was_tampered_with_is_refused(tmp_path, says):
    schema = ORIGIN.schema.with_metadata({b"glimpse": says})
    empty = pa.table([pa.array([], field.type) for field in schema], schema=schema)
    pq.write_table(empty, tmp_path / "part-000000.parquet")
    with pytest.raises(CommandError, match=r"part-000000\.parquet"):
        find(tmp_path, Columns(), incomplete=True)


def test_arrays_are_never_unpickled_and_must_be_rows_of_floats(tmp_path):
    table(tmp_path / "a.parquet", id=["a", "b"])
    array = tmp_path / "a.npy"
    told = {
        "no .npy file": [np.array([{"a": 1}, None], dtype=object), b"", b"\x93NUMPY", None],
        "must hold rows": [np.zeros(2), np.zeros((2, 2), np.int64), np.zeros((2, 2, 2))],
        "has 3 rows": [np.zeros((3, 2), np.float32)],
    }
    for sentence, contents in told.items():
        for content in contents:
            if content is None:
                array.write_bytes(pickle.dumps([1, 2]))
            elif isinstance(content, bytes):
                array.write_bytes(content)
            else:
                np.save(array, content, allow_pickle=True)
            with pytest.raises(CommandError, match=sentence):
                find(tmp_path, Columns(), incomplete=False)


def test_vectors_of_different_lengths_and_nothing_at_all_are_refused(tmp_path):
    with pytest.raises(CommandError, match="holds no rows"):
        find(tmp_path, Columns(), incomplete=False)
    with pytest.raises(CommandError, match="is no folder"):
        find(tmp_path / "none", Columns(), incomplete=False)
    table(tmp_path / "a.parquet", id=["a"], vector=[[1.0]])
    table(tmp_path / "b.parquet", id=["b"], vector=[[1.0, 0.0]])
    with pytest.raises(CommandError, match="different lengths: 1, 2"):
        find(tmp_path, Columns(), incomplete=False)
    np.save(tmp_path / "c.npy", np.zeros((1, 2), np.float32))
    with pytest.raises(CommandError, match=r"c\.parquet is missing"):
        find(tmp_path, Columns(), incomplete=False)


def test_batches_stay_within_a_message_and_a_row_beyond_any_is_refused_alone():
    sizes = [10, 1_000_000, 1_000_000, 1_000_000, 1_000_000, 3_000_000, 10]
    rows = [
        indexer_pb2.ImportedImage(id=f"{n}", metadata_json="x" * size)
        for n, size in enumerate(sizes)
    ]
    small = rows[:1] * 1_250
    batches = Batches([Rows("a", 7, rows), Rows("b", 0, small), Rows("b", 1_250, small)])
    sent = list(batches)
    assert all(batch.ByteSize() <= MAX_BATCH_BYTES + 50_000 for batch in sent)
    assert [[image.id for image in batch.images] for batch in sent[:2]] == [
        ["0", "1", "2", "3"],
        ["4", "6"],
    ]
    assert [len(batch.images) for batch in sent[2:]] == [1_000, 1_000, 500]
    assert batches.sent[2].numbers == [11, 13]
    assert [(refusal.row, refusal.id) for refusal in batches.refused] == [(12, "5")]
    places = [(batch.source, batch.next_row) for batch in batches.sent.values()]
    assert places == [("a", 11), ("a", 14), ("b", 1_000), ("b", 2_000), ("b", 2_500)]


def test_an_export_goes_on_only_where_its_own_files_are(tmp_path):
    writer = BackupWriter(tmp_path, ORIGIN, max_file_bytes=1)
    for first in (0, 10, 20):
        writer.add(images(10, first))
    assert [path.name for path in part_paths(tmp_path)] == list(writer.files)

    again = BackupWriter(tmp_path, ORIGIN, max_file_bytes=1)
    assert (again.after_id, again.rows) == ("00000029", 30)
    for change in ({"collection": "others"}, {"model_fingerprint": "b" * 64}, {"dimension": 5}):
        with pytest.raises(CommandError, match="part-000000"):
            BackupWriter(tmp_path, Origin(**{**vars(ORIGIN), **change}), max_file_bytes=1)
    part_paths(tmp_path)[1].unlink()
    with pytest.raises(CommandError, match=r"part-000001\.parquet is missing"):
        BackupWriter(tmp_path, ORIGIN, max_file_bytes=1)


def test_an_export_of_another_dimension_than_at_its_start_ends(tmp_path):
    writer = BackupWriter(tmp_path, ORIGIN, max_file_bytes=1)
    with pytest.raises(CommandError, match="made anew meanwhile"):
        writer.add(images(10, dimension=5))


def test_memory_does_not_grow_with_the_number_of_rows(tmp_path):
    """60 MB are written in files of 8, and read back."""
    origin = Origin(**{**vars(ORIGIN), "dimension": 1_024})
    before = pa.total_allocated_bytes()
    peaks = []
    writer = BackupWriter(tmp_path, origin, max_file_bytes=8 * 2**20)
    for page in range(30):
        writer.add(images(500, 500 * page, dimension=1_024))
        peaks.append(pa.total_allocated_bytes() - before)
    writer.end()
    assert max(peaks) < 12 * 2**20
    assert len(part_paths(tmp_path)) > 5
    with opened(part_paths(tmp_path)[0]) as file:
        assert file.num_row_groups > 1

    found = find(tmp_path, Columns(), incomplete=False)
    tracemalloc.start()
    batches = Batches(rows for source in found.sources for rows in source.read(0))
    count, most_arrow = 0, 0
    for batch in batches:
        count += len(batch.images)
        most_arrow = max(most_arrow, pa.total_allocated_bytes() - before)
        del batches.sent[batch.sequence]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count == 15_000
    assert peak + most_arrow < 40 * 2**20
