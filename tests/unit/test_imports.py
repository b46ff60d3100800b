"""What the client and its command line load, and what they do without."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

import glimpse
from glimpse.cli import commands, ports
from glimpse.cli.main import main

ROOT = Path(__file__).parents[2]
HEAVY = {"grpc", "google.protobuf", "numpy", "PIL", "pydantic", "rich", "ssl", "fsspec", "asyncio"}
NOT_ON_WINDOWS = ("fcntl", "resource", "termios", "pwd")


def python(code: str) -> subprocess.CompletedProcess[str]:
    """Runs code in a Python of its own."""
    command = [sys.executable, "-c", code]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)


def without(*modules: str) -> str:
    """Code after which these modules cannot be imported."""
    return f"import sys; sys.modules.update(dict.fromkeys({modules}))\n"


@pytest.mark.parametrize(
    "program",
    ["import glimpse", "from glimpse.cli.main import main; assert main(['--help']) == 0"],
)
def test_neither_the_package_nor_the_list_of_commands_loads_what_only_calls_need(program):
    done = python(f"{program}\nimport sys; print(*sys.modules, file=sys.stderr)")
    assert done.returncode == 0, done.stderr
    assert not HEAVY & set(done.stderr.split())


def test_every_public_name_can_be_imported_and_is_listed():
    for name in glimpse.__all__:
        assert getattr(glimpse, name) is not None
        assert name in dir(glimpse)
    assert glimpse.errors.NotFound
    with pytest.raises(AttributeError, match="nonsense"):
        glimpse.nonsense  # noqa: B018


def test_the_list_of_commands_says_what_each_says_of_itself(capsys):
    group = commands.LazyCommands()
    for name, (_, sentence) in commands.COMMANDS.items():
        text = " ".join(group.get_command(None, name).help.split())
        assert re.match(r".*?\.(?= |$)", text)[0] == sentence
    assert main(["--help"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert all(f"{name} {said}" in shown for name, (_, said) in commands.COMMANDS.items())


def test_the_command_line_names_the_addresses_that_the_client_takes():
    from glimpse import base_client

    ours = (base_client.DEFAULT_QUERY, base_client.DEFAULT_INDEXER)
    assert ours == (ports.DEFAULT_QUERY, ports.DEFAULT_INDEXER)


def test_without_pillow_a_picture_to_search_by_goes_as_it_is():
    done = python(
        without("PIL", "numpy") + "from glimpse.shrinking import shrunk\n"
        "from glimpse.pictures.preprocessing import Preprocessing\n"
        "content = bytes(1_000_000)\n"
        "assert shrunk(content, Preprocessing(224)) is content\n"
    )
    assert done.returncode == 0, done.stderr


def test_the_command_line_starts_where_modules_of_unix_are_missing():
    done = python(
        without(*NOT_ON_WINDOWS) + "import glimpse.cli, importlib, pkgutil\n"
        "for found in pkgutil.iter_modules(glimpse.cli.__path__):\n"
        "    importlib.import_module(f'glimpse.cli.{found.name}')\n"
        "from glimpse.cli.main import main\n"
        "assert main(['--help']) == 0\n"
        f"for name in {[*commands.COMMANDS]}:\n"
        "    assert main([name, '--help']) == 0\n"
        "sys.exit(main(['up']))\n"
    )
    assert done.returncode == 1
    assert done.stderr == (
        "glimpse: the services run on Linux and macOS only; all other commands work here\n"
    )


@pytest.mark.parametrize("command", [["export", "images", "out"], ["import", "in"]])
@pytest.mark.parametrize("missing", ["pyarrow", "numpy"])
def test_without_the_extra_parquet_its_commands_say_what_to_install(command, missing):
    done = python(
        without(missing) + f"from glimpse.cli.main import main; sys.exit(main({command}))"
    )
    assert (done.returncode, done.stderr) == (
        1,
        f"glimpse: this needs {missing}, which is not installed here; what export and import need "
        "comes with: pip install pyarrow numpy\n",
    )


def test_without_the_extra_the_command_says_what_to_install():
    done = python(
        without("typer") + "from glimpse.cli.main import main; sys.exit(main(['--help']))"
    )
    assert done.returncode == 1
    assert done.stderr == (
        "glimpse: this needs typer, which is not installed here; what the command line needs "
        "comes with: pip install typer rich pillow\n"
    )
