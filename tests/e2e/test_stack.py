"""The whole stack as people run it: real processes, Milvus Lite, the bundled model, photographs.

Nothing is said here about words: the bundled model knows drawings, not photographs.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from demo import pictures, world
from demo import run as demo
from glimpse import Client, ImageFile, Outcome
from glimpse.cli import addresses
from glimpse.cli.console import CommandError
from glimpse.cli.local.stack import Stack, StackOptions
from glimpse.cli.main import main
from glimpse.cli.ports import Ports
from glimpse.cli.probes import is_serving
from glimpse.cli.walk import find_pictures
from tests import documents, photographs, programs

ROOT = Path(__file__).parents[2]
MODEL = os.environ.get("ENCODER_MODEL", "demo")
GO_CALLER = programs.BUILT / "search"
BUILT_CALLERS = {
    "typescript": (["node"], ROOT / "examples" / "typescript" / "build" / "search.js"),
    "java": (["java", "-jar"], ROOT / "examples" / "java" / "target" / "search.jar"),
}
"""What runs a caller, and what `make` builds of it."""


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
    assert client.get_collection("photos", exact=True).rows == len(photos)
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
        (["search", "", "-c", "errors"], "TEXT"),
        (["search", "a dog", "-c", "errors", "-k", "0"], "--limit"),
        (["search", "a dog", "-c", "errors", "-k", "1001"], "--limit"),
        (["search", "a dog", "-c", "errors", "--filter", "width >"], "--filter"),
        (["search", "a dog", "-c", "no good"], "--collection"),
        (["similar", "--id", "nobody", "-c", "errors"], "nobody"),
        (["similar", str(Path(__file__)), "-c", "errors"], "IMAGE"),
    ],
)
def test_bad_input_is_one_sentence_that_names_what_is_wrong(
    stack, client, arguments, sentence, monkeypatch, capsys
):
    monkeypatch.setenv("GLIMPSE_QUERY", stack.query)
    outcomes(client, "errors", photographs.carried()[:1])
    assert main(arguments) == 1
    message = capsys.readouterr().err
    assert message.startswith("glimpse: ")
    assert sentence in message.splitlines()[0]
    assert "Traceback" not in message
    assert len(message.splitlines()) <= 4  # Milvus shows where a filter is wrong


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
    assert client.get_collection("killed", exact=True).rows == len(paths)


@dataclass
class Borrowed:
    """A stack that runs already, in the place of one that the demo would start and stop."""

    query: str
    indexer: str

    def __enter__(self) -> Borrowed:
        return self

    def __exit__(self, *_: object) -> None:
        pass


def test_the_demo_searches_a_folder_of_ones_own_and_again_without_encoding_anything_anew(
    stack, tmp_path, monkeypatch, capsys
):
    """The second run finds the same, and a broken file besides makes it fail."""
    folder, output = tmp_path / "own", tmp_path / "output"
    folder.mkdir()
    for path in photographs.carried()[:3]:
        (folder / path.name).write_bytes(path.read_bytes())
    words = ["demo", "--images", str(folder), "--query", "a red bicycle", "--output", str(output)]
    monkeypatch.setattr(sys, "argv", words)
    monkeypatch.setattr(demo, "Stack", lambda _: Borrowed(stack.query, stack.indexer))
    monkeypatch.setattr(signal, "signal", lambda *_: None)  # this process is not the demo's
    assert demo.main() == 0
    good = capsys.readouterr()
    assert (output / "a-red-bicycle.png").exists()
    assert str(folder / "astronaut.png") in good.out

    (folder / "broken.jpg").write_bytes(b"no picture")
    assert demo.main() == 1
    again = capsys.readouterr()
    assert "0 indexed, 3 unchanged, 1 failed" in again.err
    assert "broken.jpg: " in again.err
    assert again.out == good.out


def test_a_second_stack_on_the_same_folder_is_refused(stack):
    second = Stack(options(stack.options.data))
    with pytest.raises(CommandError, match="already running"):
        second.start()
    second.stop()  # as `glimpse up` does at any end
    assert is_serving(stack.query)
    assert addresses.find(stack.options.data)["query"] == stack.query, "commands still find it"


@pytest.fixture
def expected(client):
    """What callers that ask "images" for ten white dogs must print, and the number of hits."""
    outcomes(client, "images", photographs.carried()[:6])
    hits = client.search("images", "a white dog").hits
    assert len(hits) == 6
    return [f"{hit.score:.3f}  {hit.uri}" for hit in hits]


def printed(stack: Stack, *words: str) -> list[str]:
    """What a command of README.md prints, with this stack's address in it."""
    command = [word.replace(documents.QUERY, stack.query) for word in words]
    environment = os.environ | {"PATH": programs.search_path()}
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_the_python_caller_and_the_readmes_print_the_best_hits(stack, expected):
    caller = [sys.executable, "examples/python/search.py", "--address", stack.query]
    assert printed(stack, *caller, "a", "white", "dog") == expected
    assert printed(stack, *caller, "--limit", "2", "a white dog") == expected[:2]
    (program,) = documents.python_blocks()
    assert printed(stack, sys.executable, "-c", program) == expected[:3]


@pytest.mark.skipif(
    not GO_CALLER.exists(), reason="no Go caller: `make example-go` did not build it"
)
def test_the_go_caller_prints_the_best_hits(stack, expected):
    caller = [str(GO_CALLER), "-address", stack.query]
    assert printed(stack, *caller, "a", "white", "dog") == expected
    assert printed(stack, *caller, "-limit", "2", "a white dog") == expected[:2]


@pytest.mark.parametrize("language", BUILT_CALLERS)
def test_callers_in_other_languages_print_the_best_hits(stack, expected, language):
    program, built = BUILT_CALLERS[language]
    if not built.exists():
        pytest.skip(f"no {language} caller: `make example-{language}` did not build it")
    caller = [*program, str(built), "--address", stack.query]
    assert printed(stack, *caller, "a", "white", "dog") == expected
    assert printed(stack, *caller, "--limit", "2", "a white dog") == expected[:2]


@pytest.mark.skipif(not programs.find("grpcurl"), reason=programs.missing("grpcurl"))
def test_the_readmes_grpcurl_lines_work_as_printed(stack, expected):
    found = []
    for line in documents.grpcurl_lines():
        answer = "\n".join(printed(stack, *line.words))
        if line.request:
            found.append(json.loads(answer)["hits"])
        else:
            assert "string text = 2" in answer
    assert [len(hits) for hits in found] == [3, 6]
    for hits in found:
        lines = [f"{hit['score']:.3f}  {hit['attributes']['uri']}" for hit in hits]
        assert lines == expected[: len(lines)]


@pytest.fixture
def as_typed(stack, client, tmp_path):
    """Runs a command of a page as somebody does in a checkout beside this stack: in a folder that
    has what `make demo` leaves, and nothing of other tests in the collections that pages name."""
    for name in ("tests", "protos"):
        (tmp_path / name).symlink_to(ROOT / name)
    (tmp_path / "build" / "demo" / "pictures").mkdir(parents=True)
    (tmp_path / "build" / "go").symlink_to(programs.BUILT)
    (tmp_path / "Pictures").symlink_to(photographs.carried()[-1].parent)
    drawn = pictures.collection(tmp_path / "build" / "demo" / "pictures")
    for picture in drawn[:: pictures.PER_CLASS]:
        world.draw(picture.scene).save(picture.path)
    environment = os.environ | {
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), programs.search_path()]),
        "PYTHONPATH": str(ROOT),
        "GLIMPSE_DATA": str(stack.options.data),
    }

    def run(words: list[str]) -> str:
        done = subprocess.run(
            [_with_addresses(word, stack, tmp_path) for word in words],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
        return done.stdout

    def forget() -> None:
        for name in {each.name for each in client.collections()} & {"images", "load", "photos"}:
            client.drop_collection(name)

    forget()
    yield run
    forget()


def _with_addresses(word: str, stack: Stack, folder: Path) -> str:
    """A word with this stack's address in it; ghz's configuration as a short copy that has it."""
    if word.startswith("~/"):
        return str(folder / word[2:])
    if not word.endswith(".json"):
        return word.replace(documents.QUERY, stack.query)
    configuration = json.loads((ROOT / word).read_text())
    copy = folder / Path(word).name
    copy.write_text(json.dumps(configuration | {"host": stack.query, "duration": "1s"}))
    return str(copy)


def can_be_run(command: documents.Typed) -> bool:
    """Whether it is for a stack that runs; tests/unit/test_documents.py looks at the others."""
    program, *words = command.words
    if program in ("grpcurl", "build/go/ghz"):
        return programs.find(Path(program).name) is not None
    return program == "python" or (program == "glimpse" and words[0] != "up")


def test_readme_leads_to_a_white_dog(as_typed):
    said = {}
    for command in filter(can_be_run, documents.typed(documents.README)):
        said[" ".join(command.words)] = as_typed(command.words)
    found = said["glimpse search a white dog --sheet white-dogs.png"]
    assert "white-dog-0.jpg" in found.splitlines()[1]
    assert "healthy" in said["glimpse status"]
    assert said.keys() >= {"glimpse index build/demo/pictures", "glimpse collections"}


@pytest.mark.skipif(not programs.find("ghz"), reason=programs.missing("ghz"))
def test_load_by_hand_as_its_page_says_ends_without_an_error(as_typed):
    said = [as_typed(each.words) for each in documents.typed(documents.LOAD) if can_be_run(each)]
    assert "[OK]" in said[-1]
    assert "Error distribution" not in said[-1]
