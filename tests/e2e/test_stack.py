"""The whole stack as people run it: real processes, Milvus Lite, the bundled model, photographs.

Nothing is said here about words: the bundled model knows drawings, not photographs.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from glimpse import Client, ImageFile, Outcome
from glimpse.cli.ports import Ports
from glimpse.cli.probes import is_serving
from glimpse.cli.stack import Stack, StackError, StackOptions
from glimpse.cli.walk import find_pictures
from tests import photographs

pytestmark = pytest.mark.timeout(300)

ROOT = Path(__file__).parents[2]
MODEL = os.environ.get("ENCODER_MODEL", "demo")
START_TIMEOUT_S = 120


def options(data: Path, **changes) -> StackOptions:
    return StackOptions(data=data, model=MODEL, ports=Ports.free(), **changes)


@pytest.fixture(scope="module")
def stack(tmp_path_factory):
    with Stack(options(tmp_path_factory.mktemp("stack"))) as running:
        yield running


@pytest.fixture(scope="module")
def photos() -> list[Path]:
    more = photographs.folder()
    return photographs.carried() + (list(find_pictures([str(more)])) if more else [])


@pytest.fixture
def client(stack):
    with Client(stack.query, stack.indexer, timeout_s=60) as connected:
        yield connected


def glimpse(stack: Stack, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The command, as a person runs it beside a `glimpse up`."""
    return subprocess.run(
        [sys.executable, "-m", "glimpse.cli.main", *arguments],
        env=os.environ | {"GLIMPSE_QUERY": stack.query, "GLIMPSE_INDEXER": stack.indexer},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )


def outcomes(client: Client, collection: str, paths: list[Path]) -> list[Outcome]:
    images = [ImageFile(path=path) for path in paths]
    return [a.outcome for a in client.index(collection, images)]


def test_every_photograph_is_its_own_best_match_also_after_a_restart_of_everything(
    stack, client, photos
):
    assert outcomes(client, "photos", photos) == [Outcome.INDEXED] * len(photos)
    assert best_matches(client, photos) == {str(path): str(path) for path in photos}
    stack.restart()
    assert outcomes(client, "photos", photos) == [Outcome.UNCHANGED] * len(photos)
    assert client.get_collection("photos").rows == len(photos)
    some = photos[::5]
    assert best_matches(client, some) == {str(path): str(path) for path in some}


def best_matches(client: Client, photos: list[Path]) -> dict[str, str]:
    found = {}
    for path in photos:
        best = client.search("photos", image=path, limit=1).hits[0]
        assert best.score > 0.999
        found[str(path)] = best.uri
    return found


def test_a_text_finds_as_many_as_it_asks_for_with_all_that_is_known_of_them(client):
    paths = photographs.carried()[:6]
    images = [ImageFile(path=path, metadata={"number": n}) for n, path in enumerate(paths)]
    assert not [a.error for a in client.index("texts", images) if a.error]
    result = client.search("texts", "a cup of coffee", limit=5, filter='metadata["number"] > 0')
    assert len(result.hits) == 5
    assert {hit.uri for hit in result.hits} == {str(path) for path in paths[1:]}
    scores = [hit.score for hit in result.hits]
    assert scores == sorted(scores, reverse=True)
    assert all(hit.width and hit.height and hit.format for hit in result.hits)
    assert result.timing.total_us > 0


def test_the_command_indexes_searches_and_says_what_it_could_not_take(stack, tmp_path):
    photo = photographs.carried()[0]
    good = tmp_path / "good.png"
    good.write_bytes(photo.read_bytes())
    (tmp_path / "wrong.jpg").write_text("this is no picture")
    (tmp_path / "empty.png").write_bytes(b"")
    (tmp_path / "notes.txt").write_text("not taken from a folder")
    (tmp_path / "m.csv").write_text("path,caption\ngood.png,an astronaut\n")
    failures = tmp_path / "failed.jsonl"

    first = glimpse(
        *(stack, "index", str(tmp_path), "-c", "command"),
        *("--metadata", str(tmp_path / "m.csv"), "--failures", str(failures)),
    )
    assert first.returncode == 1
    assert "1 indexed, 0 unchanged, 2 failed" in first.stderr
    assert f"{tmp_path}/wrong.jpg\t" in first.stdout
    failed = [json.loads(line)["path"] for line in failures.read_text().splitlines()]
    assert sorted(failed) == [f"{tmp_path}/empty.png", f"{tmp_path}/wrong.jpg"]

    # The failures are looked after and fed back in.
    for name in ("wrong.jpg", "empty.png"):
        (tmp_path / name).write_bytes(photographs.carried()[2].read_bytes())
    again = glimpse(stack, "index", f"@{failures}", "-c", "command", "--id-from", "path")
    assert (again.returncode, again.stdout) == (0, "")
    assert "2 indexed, 0 unchanged, 0 failed" in again.stderr

    sheet = tmp_path / "sheet.png"
    found = glimpse(stack, "similar", str(good), "-c", "command", "-k", "2", "--sheet", str(sheet))
    assert found.returncode == 0, found.stderr
    best = found.stdout.splitlines()[1].split("\t")
    assert best[1:2] == ["1.000"]
    assert best[3:] == ["512x512", str(good), "an astronaut"]
    assert sheet.read_bytes().startswith(b"\x89PNG")

    as_json = glimpse(stack, "search", "a cat", "-c", "command", "--json")
    assert len(json.loads(as_json.stdout)["hits"]) == 3
    assert glimpse(stack, "delete", best[2], "-c", "command").stderr == "1 deleted.\n"
    assert glimpse(stack, "drop", "command", "--yes").returncode == 0


def test_the_command_tells_the_state_of_things(stack, client):
    outcomes(client, "state", photographs.carried()[:2])
    listed = glimpse(stack, "collections")
    assert listed.returncode == 0
    assert any(line.startswith("state\t") and "\t2\t" in line for line in listed.stdout.split("\n"))
    health = glimpse(stack, "status")
    assert health.returncode == 0, health.stderr
    assert f"query\t{stack.query}\thealthy" in health.stdout


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["search", "a dog", "-c", "nothing"], "nothing"),
        (["search", "", "-c", "errors"], "text"),
        (["search", "a dog", "-c", "errors", "-k", "0"], "options.limit"),
        (["search", "a dog", "-c", "errors", "-k", "1001"], "options.limit"),
        (["search", "a dog", "-c", "errors", "--filter", "width >"], "options.filter"),
        (["search", "a dog", "-c", "no good"], "collection"),
        (["similar", "--id", "nobody", "-c", "errors"], "nobody"),
        (["similar", str(Path(__file__)), "-c", "errors"], "image"),
    ],
)
def test_bad_input_is_one_sentence_that_names_what_is_wrong(stack, client, arguments, sentence):
    outcomes(client, "errors", photographs.carried()[:1])
    answer = glimpse(stack, *arguments)
    assert answer.returncode == 1
    assert answer.stderr.startswith("glimpse: ")
    assert sentence in answer.stderr.splitlines()[0]
    assert "Traceback" not in answer.stderr
    assert len(answer.stderr.splitlines()) <= 4  # Milvus shows where a filter is wrong


def test_an_ingest_goes_on_when_services_are_killed_under_it(stack, client):
    paths = photographs.carried()
    images = [ImageFile(path=path, id=f"again-{n}") for n, path in enumerate(paths)]

    def killing():
        for number, image in enumerate(images):
            if number in (4, 8):
                stack.processes["indexer"].kill()
                stack.restart("indexer")
            yield image

    acknowledged = list(client.index("killed", killing()))
    assert not [a.error for a in acknowledged if a.error]
    assert sorted(a.id for a in acknowledged) == sorted(image.id for image in images)
    assert client.get_collection("killed").rows == len(paths)


def test_a_second_stack_on_the_same_folder_is_refused(stack):
    with pytest.raises(StackError, match="already running"):
        Stack(options(stack.options.data)).start()
    assert is_serving(stack.query)


def start_up(data: Path, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "glimpse.cli.main", "up", "--data", str(data), "--ports", "0"]
    return subprocess.Popen(
        [*command, "--model", MODEL, *arguments],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def wait_until(true, what: str, timeout_s: float = START_TIMEOUT_S) -> None:
    deadline_s = time.monotonic() + timeout_s
    while not true():
        assert time.monotonic() < deadline_s, what
        time.sleep(0.1)


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
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_up_leaves_no_process_behind_however_it_ends(tmp_path, how):
    data = tmp_path / "data"
    up = start_up(data)
    try:
        wait_until(lambda: (data / "addresses.json").exists() or up.poll() is not None, "start")
        assert up.poll() is None, up.communicate()
        assert len(of_stack(data)) == 5  # up itself and four more
        up.send_signal(how)
        output, message = up.communicate(timeout=60)
    finally:
        up.kill()
    wait_until(lambda: not of_stack(data), "processes were left behind", 60)
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
        _, message = up.communicate(timeout=60)
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
    _, message = up.communicate(timeout=60)
    assert up.returncode == 1
    assert "glimpse: 'no-such-model.pt' is no file and no model" in message
    assert "Traceback" not in message
    assert not of_stack(data)
