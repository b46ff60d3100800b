"""`glimpse delete`, `collections` and `status` beside services that answer: what they tell, to
people and to programs."""

from __future__ import annotations

import asyncio
import io
import json

import pytest
from grpc_status import rpc_status

from glimpse.cli.main import main
from glimpse.errors import Unavailable
from glimpse.indexer.v1 import indexer_pb2
from glimpse.tokens import line, new_token
from glimpse.transport.status import to_status
from tests.authority import Authority, write
from tests.scripted import NOBODY, Indexer, serve
from tests.small_service import SmallService, small_service


class Terminal(io.StringIO):
    """Somebody who answers."""

    def isatty(self):
        return True


@pytest.fixture
def indexer():
    made = Indexer()
    made.taken = {b"1", b"2", b"3"}
    made.collection = indexer_pb2.Collection(name="images", model_name="demo", rows=3)
    return made


def test_a_deletion_by_filter_says_how_many_fit_before_it_asks(indexer, monkeypatch, capsys):
    with serve(indexer=indexer) as target:
        command = ["delete", "--filter", "width > 1", "--indexer", target]
        monkeypatch.setattr("sys.stdin", Terminal("n\n"))
        assert main(command) == 1
        shown = capsys.readouterr()
        question = "Delete 3 images of 'images', which match width > 1?"
        assert question in shown.out + shown.err
        assert indexer.filters == ["width > 1"], "asked for, and nothing deleted"
        monkeypatch.setattr("sys.stdin", Terminal("y\n"))
        assert main(command) == 0
        assert main([*command, "--yes"]) == 0
    assert indexer.filters == ["width > 1"] * 4


def test_ids_are_deleted_without_a_question(indexer, monkeypatch, capsys):
    monkeypatch.setattr("sys.stdin", io.StringIO())
    with serve(indexer=indexer) as target:
        for yes in ([], ["--yes"]):
            assert main(["delete", "a", "b", "--indexer", target, *yes]) == 0
            assert capsys.readouterr().err == "2 deleted.\n"
    assert indexer.deleted == [["a", "b"]] * 2


def test_collections_are_one_object_for_programs(indexer, capsys):
    with serve(indexer=indexer) as target:
        assert main(["collections", "--json", "--indexer", target]) == 0
    (found,) = json.loads(capsys.readouterr().out)["collections"]
    assert (found["name"], found["rows"], found["model"]["name"]) == ("images", 3, "demo")
    assert found["error"] is None


def status(target, *more):
    """The exit code of the command, with all services at one address."""
    return main([*more, "status", *(w for n in SERVICES for w in (f"--{n}", target))])


SERVICES = ("query", "indexer", "encoder")


async def test_status_shows_all_three_services(capsys):
    async with small_service() as service:
        assert await asyncio.to_thread(status, service.target) == 0
        rows = capsys.readouterr().out.splitlines()
        assert [row.split("\t")[0] for row in rows[1:4]] == ["encoder", "indexer", "query"]
        assert all(row.endswith("\thealthy") for row in rows[1:4])


@pytest.mark.parametrize("scopes", [["search"], ["encode"], ["index"], ["admin"]])
async def test_status_works_whatever_a_token_allows(scopes, tmp_path, capsys):
    token = new_token()
    (tmp_path / "token").write_text(token)
    (tmp_path / "tokens").write_text(line(token, scopes, "somebody"))
    async with small_service(tokens_file=tmp_path / "tokens") as service:
        told = f"--token-file={tmp_path / 'token'}"
        assert await asyncio.to_thread(status, service.target, told) == 0
        left_out = "The collections are left out: the token somebody lacks the scope index"
        assert (left_out in capsys.readouterr().err) == (scopes != ["index"])


async def test_status_says_what_services_that_run_wait_for(capsys, monkeypatch):
    async def load(self, request, context):
        loading = Unavailable("the model ViT-B/32 is being loaded", reason="LOADING")
        await context.abort_with_status(rpc_status.to_status(to_status(loading)))

    monkeypatch.setattr(SmallService, "GetModel", load)
    async with small_service(serving=False) as service:
        assert await asyncio.to_thread(status, service.target) == 1
    shown = capsys.readouterr()
    assert "the encoder is not ready: the model ViT-B/32 is being loaded" in shown.out
    assert "glimpse: not healthy: encoder, indexer, query; they run, and" in shown.err


async def test_status_says_why_a_service_is_not_healthy(tmp_path, capsys):
    files = write(tmp_path, "server", Authority().pair("localhost"))
    async with small_service(tls_cert_file=files.cert, tls_key_file=files.key) as service:
        command = ["status", "--query", service.target, "--indexer", NOBODY, "--json"]
        assert await asyncio.to_thread(main, command) == 1
    shown = capsys.readouterr()
    services = json.loads(shown.out)["services"]
    assert services["query"]["healthy"] is services["indexer"]["healthy"] is False
    assert services["query"]["problem"].startswith("the query service speaks TLS only")
    assert services["indexer"]["problem"] == "the indexer cannot be reached"
    assert "not healthy: indexer, query" in shown.err
