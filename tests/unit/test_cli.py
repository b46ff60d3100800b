"""The command line without any service: help, wrong usage, and sentences in place of tracebacks."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from glimpse import __version__
from glimpse.cli.console import printable
from glimpse.cli.main import main

COMMANDS = [
    "up", "index", "search", "similar", "delete", "collections", "drop", "status", "export",
    "import",
]  # fmt: skip
NOBODY = "127.0.0.1:1"


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "share"))
    for name in ("GLIMPSE_QUERY", "GLIMPSE_INDEXER", "GLIMPSE_DATA"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself_with_an_example(command, capsys):
    assert main([command, "--help"]) == 0
    text = capsys.readouterr().out
    assert "Example" in text
    assert f"      glimpse {command}" in text


@pytest.mark.parametrize(
    "arguments",
    [
        ["nonsense"],
        ["search"],
        ["search", "a dog", "--limit", "many"],
        ["similar"],
        ["similar", "a.jpg", "--id", "b"],
        ["delete"],
        ["search", "a dog", "--sheet", "sheet.txt"],
        ["index", "x", "--id-from", "nothing"],
        ["up", "--ports", "-1"],
        ["up", "--milvus", "localhost:19530"],
        ["search", "a dog", "--timeout", "nan"],
        ["search", "a dog", "--timeout", "1e300"],
        ["index", "x", "--patience", "nan"],
        ["index", "x", "--patience", "inf"],
    ],
)
def test_wrong_usage_exits_with_2(arguments, capsys):
    assert main(arguments) == 2
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (
            ["search", "a dog", "--query", NOBODY],
            f"the query service at {NOBODY} cannot be reached",
        ),
        (["similar", "gone.jpg", "--query", NOBODY], "gone.jpg cannot be read"),
        (["collections", "--indexer", NOBODY], f"the indexer at {NOBODY} cannot be reached"),
        (["index", "{picture}", "--indexer", NOBODY], f"the indexer at {NOBODY} cannot be reached"),
        (["index", "gone"], "gone: no such file or folder"),
        (["index", "{picture}", "--metadata", "gone.csv"], "gone.csv: the metadata cannot be read"),
        (["delete", "--filter", "width > 1"], "use --yes to skip it"),
        (["search", "a dog", "--data", "nowhere"], "no stack runs on nowhere"),
        (["status", "--query", NOBODY, "--indexer", NOBODY], "not healthy: indexer, query"),
        (["export", "a", "out", "--indexer", NOBODY], f"the indexer at {NOBODY} cannot be reached"),
        (["import", "gone"], "gone: is no folder"),
        (["import", "."], ".: holds no rows"),
    ],
)
def test_what_cannot_be_done_is_one_sentence_and_exit_code_1(
    arguments, sentence, capsys, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.jpg").write_bytes(b"x")
    arguments = [argument.format(picture=tmp_path / "a.jpg") for argument in arguments]
    assert main(arguments) == 1
    message = capsys.readouterr().err
    assert message.startswith("glimpse: ")
    assert sentence in message
    assert len(message.splitlines()) == 1


def test_up_refuses_at_once_what_it_would_wait_for_in_vain(monkeypatch, capsys, tmp_path):
    monkeypatch.setenv("QUERY_TLS_CERT_FILE", "query.crt")
    assert main(["up", "--data", str(tmp_path / "data")]) == 1
    assert capsys.readouterr().err.startswith("glimpse: QUERY_TLS_CERT_FILE is set, and ")
    assert not (tmp_path / "data").exists()


def test_the_version_is_that_of_the_package(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"glimpse {__version__}\n"


def test_an_error_that_nobody_foresaw_is_still_a_sentence(monkeypatch, capsys):
    def fail(*arguments):
        raise ZeroDivisionError("oops")

    monkeypatch.setattr("glimpse.cli.index.find_pictures", fail)
    assert main(["index", "x"]) == 1
    assert capsys.readouterr().err.startswith("glimpse: this is a bug in glimpse: ZeroDivision")


def test_a_dry_run_lists_pictures_and_needs_no_service(tmp_path, capsys):
    for name in ("b.jpg", "a.png", "c.txt"):
        (tmp_path / name).write_bytes(b"x")
    assert main(["index", str(tmp_path), "--dry-run"]) == 0
    assert capsys.readouterr().out.splitlines() == [f"{tmp_path}/a.png", f"{tmp_path}/b.jpg"]


def test_a_dry_run_tells_what_is_passed_over(tmp_path, capsys):
    for name in ("a.png", "b.mov", "c.mov", ".d.jpg", "Thumbs.db"):
        (tmp_path / name).write_bytes(b"x")
    assert main(["index", str(tmp_path), "--dry-run", "--verbose"]) == 0
    told = capsys.readouterr().err.splitlines()
    assert f"passed over: {tmp_path}/b.mov: .mov" in told
    assert "4 passed over: 2 .mov, 1 hidden, 1 junk." in told


def test_a_dry_run_is_one_object_for_programs(tmp_path, capsys):
    for name in ("b.jpg", "a.png", "c.mov"):
        (tmp_path / name).write_bytes(b"x")
    assert main(["index", str(tmp_path), "--dry-run", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "collection": "images",
        "pictures": [f"{tmp_path}/a.png", f"{tmp_path}/b.jpg"],
        "passed_over": {".mov": 1},
        "unreadable": 0,
    }
    (tmp_path / "list").write_text(f"{tmp_path}/a.png\n{tmp_path}/gone.png\n")
    assert main(["index", f"@{tmp_path}/list", f"{tmp_path}/*.gone", "--dry-run", "--json"]) == 1
    told = json.loads(capsys.readouterr().out)
    assert (told["pictures"], told["unreadable"]) == ([f"{tmp_path}/a.png"], 2)


def test_a_terminal_without_the_characters_gets_escapes(tmp_path):
    (tmp_path / "größe.png").write_bytes(b"x")
    command = [sys.executable, "-m", "glimpse.cli.main", "index", str(tmp_path), "--dry-run"]
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    ended = subprocess.run(command, env=environment, capture_output=True, timeout=60, check=False)
    assert (ended.returncode, ended.stdout) == (0, os.fsencode(tmp_path) + b"/gr\\xf6\\xdfe.png\n")


def test_addresses_that_up_wrote_down_are_used(tmp_path, capsys):
    (tmp_path / "addresses.json").write_text(
        json.dumps({"query": "127.0.0.1:2", "pid": os.getpid()})
    )
    assert main(["search", "a dog", "--data", str(tmp_path)]) == 1
    assert "the query service at 127.0.0.1:2 cannot be reached" in capsys.readouterr().err


def test_a_start_that_is_under_way_is_told_as_such(tmp_path, capsys):
    draft = {"query": "127.0.0.1:2", "pid": os.getpid()}
    (tmp_path / "addresses.json.new").write_text(json.dumps(draft))
    share = tmp_path / "share" / "glimpse"
    share.mkdir(parents=True)
    (share / "addresses.json.new").write_text(json.dumps(draft))
    for command in (["search", "a dog"], ["status"], ["collections"]):
        assert main([*command, "--data", str(tmp_path)]) == 1
        assert f"glimpse up is just starting on {tmp_path}" in capsys.readouterr().err
        assert main(command) == 1
        assert f"glimpse up is just starting on {share}" in capsys.readouterr().err


def test_the_environment_goes_before_what_was_written_down(tmp_path, capsys, monkeypatch):
    (tmp_path / "addresses.json").write_text(
        json.dumps({"query": "127.0.0.1:2", "pid": os.getpid()})
    )
    monkeypatch.setenv("GLIMPSE_QUERY", "127.0.0.1:3")
    assert main(["search", "a dog", "--data", str(tmp_path)]) == 1
    assert "127.0.0.1:3" in capsys.readouterr().err


def test_text_from_outside_cannot_steer_the_terminal():
    assert printable("a\x1b[31mb\udcff") == "a\\x1b[31mb\\udcff"
    assert printable("größe 犬") == "größe 犬"
