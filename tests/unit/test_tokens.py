"""Tokens as the command line makes them."""

from __future__ import annotations

import pytest

from glimpse.cli.main import main
from glimpse.errors import PermissionDenied
from glimpse.tokens import digest
from services.common.auth import Authenticator


def test_printed_line_makes_a_service_know_the_printed_token(tmp_path, capsys):
    assert main(["token", "new", "web", "--scope", "search", "--scope", "index"]) == 0
    out, err = capsys.readouterr()
    token, line = out.strip(), err.splitlines()[-1]
    assert digest(token) in line
    assert token not in err
    path = tmp_path / "tokens"
    path.write_text(f"{err}{err}")  # as two times `2>> tokens` leaves it
    authenticator = Authenticator(path, "TOKENS_FILE")
    metadata = [("authorization", f"Bearer {token}")]
    assert authenticator.caller("/glimpse.query.v1.Query/Search", metadata) == "web"
    for method in ("/glimpse.indexer.v1.Indexer/DropCollection", "/glimpse.query.v1.Query/New"):
        with pytest.raises(PermissionDenied):
            authenticator.caller(method, metadata)


def test_tokens_file_without_any_token_is_told(tmp_path, caplog):
    path = tmp_path / "tokens"
    path.write_text("# nobody yet\n")
    Authenticator(path, "TOKENS_FILE")
    assert "TOKENS_FILE: holds no token: each call is refused" in caplog.text


@pytest.mark.parametrize("arguments", [["web", "--scope", "all"], ["a b", "--scope", "search"]])
def test_wrong_scope_and_wrong_name_are_refused(arguments, capsys):
    assert main(["token", "new", *arguments]) == 2
    assert capsys.readouterr().out == ""
