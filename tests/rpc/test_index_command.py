"""`glimpse index` beside an indexer that does as it is told: what it sends, and what it tells."""

from __future__ import annotations

import _thread
import json
import os
import re
import threading

import fsspec
import grpc
import pytest

from glimpse.cli import progress
from glimpse.cli.main import main
from glimpse.indexer.v1 import indexer_pb2
from glimpse.results import StoredImage
from tests.scripted import Indexer, serve

COUNT = 20


@pytest.fixture(autouse=True)
def no_lines_of_progress(monkeypatch):
    """Not even where the machine is slow: tests read all that is said."""
    monkeypatch.setattr(progress, "_PLAIN_FIRST_S", 600)


@pytest.fixture
def folder(tmp_path):
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for number in range(COUNT):
        (pictures / f"{number:02}.png").write_text(str(number))
    return pictures


def index(indexer, *arguments):
    """The exit code of the command."""
    with serve(indexer=indexer) as target:
        return main(["index", *map(str, arguments), "--indexer", target])


def cut_once(stream, seen, context):
    if stream == 1 and len(seen) == 10:  # nine are acknowledged, the tenth is there as well
        context.abort(grpc.StatusCode.UNAVAILABLE, "going away")


def test_a_cut_stream_is_taken_up_again_and_what_was_skipped_is_told(folder, capsys):
    assert index(Indexer(cut_once), folder) == 0
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("19 indexed, 1 unchanged, 0 failed in 'images', resumed 1x, ")


def test_an_interruption_counts_once_however_often_it_is_tried_again(folder, capsys):
    def cut_for_long(stream, seen, context):
        if (stream, len(seen)) in ((1, 10), (2, 1), (3, 1)):
            context.abort(grpc.StatusCode.UNAVAILABLE, "going away")

    assert index(Indexer(cut_for_long), folder) == 0
    assert ", resumed 1x, " in capsys.readouterr().err


def test_a_terminal_sees_how_far_it_is(folder, capsys, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "200")
    assert index(Indexer(cut_once), folder) == 0
    shown = capsys.readouterr().err
    assert f"{COUNT}/{COUNT}" in shown
    assert "1 unchanged, 0 failed, resumed 1x" in shown


def collection(indexed, pending, left_ms=0):
    return indexer_pb2.Collection(
        name="images",
        rows=1_000,
        index_state="InProgress",
        indexed_rows=indexed,
        pending_rows=pending,
        index_left_ms=left_ms,
    )


def test_an_index_that_is_still_being_built_is_told_and_nobody_waits_for_it(folder, capsys):
    indexer = Indexer()
    indexer.collection = collection(400, 600, 150_000)
    assert index(indexer, folder) == 0
    assert "400 of 1,000 images through the index" in capsys.readouterr().err
    with serve(indexer=indexer) as target:
        assert main(["collections", "--indexer", target]) == 0
    assert "InProgress: 400 indexed, 2 min left" in capsys.readouterr().out


def test_a_terminal_sees_how_far_the_index_is_until_it_is_done(folder, capsys, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr("glimpse.cli.index_progress._LOOK_S", 0.01)
    states = iter([collection(400, 600), collection(1_000, 1_000)])
    looked_at = property(lambda _: next(states), lambda *_: None)
    monkeypatch.setattr(Indexer, "collection", looked_at, raising=False)
    assert index(Indexer(), folder) == 0
    assert "400/1000" in capsys.readouterr().err
    assert next(states, None) is None, "looked at until it is built"


def test_an_id_made_of_the_path_stays_when_the_file_changes(folder):
    indexer = Indexer()
    assert index(indexer, folder, "--id-from", "path") == 0
    (folder / "07.png").write_text("changed")
    assert index(indexer, folder, "--id-from", "path") == 0
    first, second = (
        sorted(images, key=lambda image: image.uri)
        for images in (indexer.images[:COUNT], indexer.images[COUNT:])
    )
    assert [image.id for image in first] == [image.id for image in second]
    assert len({image.id for image in first}) == COUNT
    assert (first[7].content, second[7].content) == (b"7", b"changed")


def test_an_id_made_of_the_content_is_left_to_the_indexer(folder):
    indexer = Indexer()
    assert index(indexer, folder) == 0
    assert {image.id for image in indexer.images} == {""}


def test_objects_behind_urls_take_the_same_path(tmp_path):
    bucket = fsspec.filesystem("memory")
    for name in ("a.png", "deep/b.png", "notes.txt"):
        bucket.pipe(f"/bucket/{name}", name.encode())
    (tmp_path / "about.csv").write_text("path,caption\nmemory:///bucket/a.png,a dog\n")
    indexer = Indexer()
    try:
        code = index(indexer, "memory:///bucket", "--metadata", tmp_path / "about.csv")
    finally:
        bucket.rm("/bucket", recursive=True)
    assert code == 0
    sent = [(image.uri, image.content, dict(image.metadata)) for image in indexer.images]
    assert sorted(sent) == [
        ("memory:///bucket/a.png", b"a.png", {"caption": "a dog"}),
        ("memory:///bucket/deep/b.png", b"deep/b.png", {}),
    ]


def test_pictures_are_sent_before_the_walk_has_ended(folder, monkeypatch, capsys):
    arrived = threading.Event()

    def find(*_):
        yield folder / "00.png"
        assert arrived.wait(20)
        yield folder / "01.png"

    def tell(stream, seen, context):
        arrived.set()

    monkeypatch.setattr("glimpse.cli.index.find_pictures", find)
    assert index(Indexer(tell), "anything") == 0
    assert capsys.readouterr().err.startswith("2 indexed, 0 unchanged, 0 failed")


def test_how_far_the_walk_is_is_said_before_the_first_picture_is_found(folder, monkeypatch):
    lines, said = [], threading.Event()

    def find(paths, selection, passed_over):
        passed_over.entries = 1_200
        assert said.wait(20)
        yield folder / "00.png"

    def say(line):
        lines.append(line)
        said.set()

    monkeypatch.setattr(progress, "_PLAIN_FIRST_S", 0.01)
    monkeypatch.setattr(progress, "say", say)
    monkeypatch.setattr("glimpse.cli.index.find_pictures", find)
    assert index(Indexer(), "anything") == 0
    assert lines[0] == "looking for pictures: 1,200 entries looked at, 0 pictures found"


def test_what_is_passed_over_or_cannot_be_read_is_told_in_the_end(folder, capsys):
    for name in ("a.mov", "b.mov", "c.psd"):
        (folder / name).touch()
    assert index(Indexer(), folder, "*.gone", "--json") == 1
    told = capsys.readouterr()
    assert "*.gone: no such file or folder" in told.err
    assert json.loads(told.out)["passed_over"] == {".mov": 2, ".psd": 1}
    assert index(Indexer(), folder) == 0
    assert "3 passed over: 2 .mov, 1 .psd." in capsys.readouterr().err


def test_a_name_that_is_no_text_comes_back_as_the_uri_of_the_file(tmp_path):
    path = os.fsencode(tmp_path) + b"/a\nb\xff.png"
    with open(path, "wb") as file:
        file.write(b"7")
    indexer = Indexer()
    assert index(indexer, tmp_path) == 0
    (image,) = indexer.images
    assert os.fsencode(StoredImage("i", uri=image.uri).path or "") == path


def test_failures_of_an_earlier_run_stay_until_the_indexer_answers(folder, tmp_path):
    failed = tmp_path / "failed.jsonl"
    failed.write_text('{"path": "earlier.png"}\n')
    assert main(["index", str(folder), "--failures", str(failed), "--indexer", "127.0.0.1:1"]) == 1
    assert failed.read_text() == '{"path": "earlier.png"}\n'
    assert index(Indexer(), folder, "--failures", failed) == 0
    assert failed.read_text() == ""


def interrupt_at_10(stream, seen, context):
    if len(seen) == 10:
        ended = threading.Event()
        context.add_callback(ended.set)
        _thread.interrupt_main()  # as Ctrl-C does
        ended.wait(20)


def test_ctrl_c_says_what_is_in_and_how_to_go_on(folder, capsys):
    assert index(Indexer(interrupt_at_10), folder) == 130
    *_, counted, how = capsys.readouterr().err.splitlines()
    # As many as it has heard of: acknowledgements may be on their way.
    assert re.match(r"\d indexed, 0 unchanged, 0 failed in 'images'", counted)
    assert how == "Run the same command again to continue: what is in is skipped."


def cut_always(stream, seen, context):
    if len(seen) == 10:
        context.abort(grpc.StatusCode.UNAVAILABLE, "going away")


def test_giving_up_says_what_is_in_and_how_to_go_on(folder, capsys):
    assert index(Indexer(cut_always), folder, "--patience", "0", "--force") == 1
    *_, counted, how, why = capsys.readouterr().err.splitlines()
    assert counted.startswith("9 indexed, 0 unchanged, 0 failed in 'images'")
    assert how == ("Run the same command again without --force to continue: what is in is skipped.")
    assert why.startswith("glimpse: the indexer at 127.0.0.1:")


def test_a_bar_that_vanishes_leaves_a_line(folder, capsys, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert index(Indexer(cut_always), folder, "--patience", "0") == 1
    # How many there are may not be known by then.
    assert re.search(r"indexing: stopped at 9( of 20)? images", capsys.readouterr().err)


def test_a_program_gets_one_object(folder, capsys):
    assert index(Indexer(cut_once), folder, "--json") == 0
    told = json.loads(capsys.readouterr().out)
    told.pop("seconds")
    assert told == {
        "collection": "images",
        "is_whole": True,
        "indexed": 19,
        "unchanged": 1,
        "failed": 0,
        "passed_over": {},
        "unreadable": 0,
        "failures": [],
        "resumed": 1,
    }


def test_it_goes_on_where_the_stack_is_now(folder, capsys, tmp_path):
    data = tmp_path / "data"
    data.mkdir()
    later = Indexer()
    with serve(indexer=later) as elsewhere:

        def move(stream, seen, context):
            if len(seen) == 10:
                publish(data, elsewhere)
                context.abort(grpc.StatusCode.UNAVAILABLE, "going away")

        with serve(indexer=Indexer(move)) as first:
            publish(data, first)
            assert main(["index", str(folder), "--data", str(data), "--patience", "0"]) == 0
    *_, moved, summary = capsys.readouterr().err.splitlines()
    assert moved == f"The indexer is at {elsewhere} now: continuing there."
    assert summary.startswith("20 indexed, 0 unchanged, 0 failed")
    assert len(later.images) == 11  # what was acknowledged is not sent again


def publish(data, address):
    known = {"indexer": address, "pid": os.getpid()}
    (data / "addresses.json").write_text(json.dumps(known))
