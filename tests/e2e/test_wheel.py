"""What `pip install .` gives to a backend: the client, all of it but `glimpse up`, nothing else."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from PIL import Image

from tests.fakes import FakeEncoder
from tests.memory_store import MemoryStore
from tests.query_service import COLLECTION, fake_encoder, fill, query_target, rows

pytestmark = pytest.mark.timeout(300)

ROOT = Path(__file__).parents[2]
UV = Path(sys.executable).with_name("uv")
MAX_BYTES = 200_000

SEARCH = """
import sys, glimpse
with glimpse.Client(sys.argv[1]) as client:
    print(glimpse.__file__, *(hit.id for hit in client.search(sys.argv[2], "dog", limit=1).hits))
"""


def run(*command: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Runs a program that does not see this checkout."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    return subprocess.run(command, cwd=cwd, env=clean, capture_output=True, text=True, timeout=240)


def uv(*arguments: str | Path, cwd: Path) -> None:
    done = run(UV, *arguments, cwd=cwd)
    assert done.returncode == 0, done.stderr


def make_environment(folder: Path, what: str) -> Path:
    """Installs `what` with pinned dependencies; returns the folder with the programs.

    What `make` left in uv's cache will do; the package index is asked where it is not there.
    """
    uv("venv", "--python", sys.executable, folder / "venv", cwd=folder)
    python = folder / "venv" / "bin" / "python"
    command = ("pip", "install", "--python", python, "-c", ROOT / "constraints.txt", what)
    if run(UV, *command, "--offline", cwd=folder).returncode != 0:
        uv(*command, cwd=folder)
    return python.parent


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """The wheel, built from a copy of the checkout, so that nothing that lies there gets in."""
    folder = tmp_path_factory.mktemp("wheel")
    ignored = shutil.ignore_patterns("__pycache__")
    for name in ("glimpse", "services", "demo"):
        shutil.copytree(ROOT / name, folder / "src" / name, ignore=ignored)
    for name in ("pyproject.toml", "LICENSE"):
        shutil.copy(ROOT / name, folder / "src")
    options = ("--no-build-isolation", "--python", sys.executable, "--out-dir", folder)
    uv("build", "--wheel", *options, folder / "src", cwd=folder)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def environment(wheel, tmp_path_factory) -> Path:
    """The folder with the programs of an environment that has the wheel and what it depends on."""
    return make_environment(tmp_path_factory.mktemp("environment"), str(wheel))


def dependencies(wheel: Path) -> dict[str, str]:
    """What the wheel asks for without any extra: versions by name."""
    with zipfile.ZipFile(wheel) as archive:
        (path,) = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        text = archive.read(path).decode()
    return dict(re.findall(r"^Requires-Dist: ([\w-]+)([^;\n]*)$", text, re.M))


def test_the_wheel_holds_every_file_of_the_client_and_no_other(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    files = [path for path in (ROOT / "glimpse").rglob("*") if path.is_file()]
    ours = {str(path.relative_to(ROOT)) for path in files if path.suffix != ".pyc"}
    ours = {name for name in ours if not name.startswith("glimpse/cli/local/")}
    assert names == ours
    assert wheel.name.startswith("glimpse_search-")
    assert wheel.stat().st_size < MAX_BYTES


def test_the_readme_names_what_the_wheel_depends_on(wheel):
    text = " ".join((ROOT / "README.md").read_text().split())
    (named,) = re.findall(r"it needs ([\w, -]+) and ([\w-]+), and nothing else", text)
    assert {*named[0].split(", "), named[1]} == dependencies(wheel).keys()


def test_no_dependency_may_be_older_than_the_generated_stubs_ask_for(wheel):
    stubs = (ROOT / "glimpse/query/v1/query_pb2_grpc.py").read_text()
    messages = (ROOT / "glimpse/query/v1/query_pb2.py").read_text()
    grpc = ">=" + re.findall(r"GRPC_GENERATED_VERSION = '(.*)'", stubs)[0]
    protobuf = ">=" + ".".join(re.findall(r"^    (\d+),$", messages, re.M)[:3])
    assert dependencies(wheel) == {
        "googleapis-common-protos": "",
        "grpcio": grpc,
        "grpcio-health-checking": grpc,
        "grpcio-status": grpc,
        "protobuf": protobuf,
    }


async def searched(
    environment: Path, *command: str, encoder: FakeEncoder | None = None
) -> subprocess.CompletedProcess[str]:
    """Runs a program of the environment while a query service runs; {} stands for its address."""
    store, encoder = MemoryStore(), encoder or fake_encoder()
    await fill(store, rows())
    async with encoder.serve() as peer, query_target(store, peer) as target:
        words = [target if word == "{}" else word for word in command]
        program = environment / words[0]
        return await asyncio.to_thread(run, program, *words[1:], cwd=environment)


async def test_a_backend_searches_with_what_is_installed(environment):
    done = await searched(environment, "python", "-c", SEARCH, "{}", COLLECTION)
    assert done.returncode == 0, done.stderr
    where, *found = done.stdout.split()
    assert Path(where).is_relative_to(environment.parent)
    assert found == ["dog"]


@pytest.mark.parametrize("name", ["services", "demo", "tests", "benchmarks"])
def test_no_folder_of_a_backend_is_hidden_by_one_of_ours(environment, name):
    done = run(environment / "python", "-c", f"import {name}", cwd=environment)
    assert f"No module named '{name}'" in done.stderr


def test_without_its_extra_the_command_is_one_sentence(environment):
    done = run(environment / "glimpse", "--help", cwd=environment)
    assert done.returncode == 1
    assert re.fullmatch(r"glimpse: .* pip install typer rich pillow\n", done.stderr)


async def test_with_its_extra_the_command_searches_and_says_where_services_are(wheel, tmp_path):
    environment = make_environment(tmp_path, f"{wheel}[cli]")
    options = ("--query", "{}", "-c", COLLECTION, "-k", "1")
    done = await searched(environment, "glimpse", "search", "dog", *options)
    assert done.returncode == 0, done.stderr
    assert [line.split("\t")[2] for line in done.stdout.splitlines()] == ["id", "dog"]
    picture, encoder = tmp_path / "large.png", fake_encoder()
    Image.effect_noise((400, 300), 90).save(picture)
    done = await searched(
        environment, "glimpse", "similar", str(picture), *options, encoder=encoder
    )
    assert done.returncode == 0, done.stderr
    assert encoder.sizes_bytes[0] < 1_000 < picture.stat().st_size  # as the model sees it
    for words in (["up"], ["up", "--help"]):
        done = run(environment / "glimpse", *words, cwd=environment)
        assert (done.returncode, done.stdout) == (1, "")
        (line,) = done.stderr.splitlines()
        assert line.startswith("glimpse: the services are not part of the installed client: ")
