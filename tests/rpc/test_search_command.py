"""`glimpse search` and `similar` beside a query service that answers as it is told."""

from __future__ import annotations

import json
import os

import pytest
from google.rpc import code_pb2, error_details_pb2

from glimpse.cli.main import main
from glimpse.query.v1 import query_pb2
from tests.scripted import Query, reason, serve, status

OF_BUNDLED = "'images' is a collection of the bundled model, which knows nothing but"


def run(query, *arguments):
    """The exit code of the command."""
    with serve(query=query) as target:
        return main([*arguments, "--query", target])


def refusing(field, problem):
    violation = error_details_pb2.BadRequest.FieldViolation(field=field)
    details = reason("INVALID_INPUT"), error_details_pb2.BadRequest(field_violations=[violation])
    return Query(failure=status(code_pb2.INVALID_ARGUMENT, f"{field}: {problem}", *details))


@pytest.mark.parametrize(
    ("field", "arguments", "called"),
    [
        ("options.limit", ["search", "a dog", "-k", "0"], "--limit"),
        ("options.filter", ["search", "a dog", "--filter", "width >"], "--filter"),
        ("options.min_score", ["similar", "--id", "a", "--min-score", "7"], "--min-score"),
        ("collection", ["search", "a dog", "-c", "no good"], "--collection"),
        ("text", ["search", ""], "TEXT"),
        ("image_id", ["similar", "--id", "!"], "--id"),
        ("options.condition.all[0].field", ["search", "a dog"], "options.condition.all[0].field"),
    ],
)
def test_what_is_wrong_with_an_option_is_said_of_the_option(field, arguments, called, capsys):
    assert run(refusing(field, "must be another"), *arguments) == 1
    assert capsys.readouterr().err == f"glimpse: {called}: must be another\n"


def test_what_no_message_can_hold_is_said_of_the_option_as_well(capsys):
    assert run(Query(), "search", "a dog", "-k", "9" * 20) == 1
    assert capsys.readouterr().err.startswith("glimpse: --limit: must fit into 32 bits")


def test_who_searches_a_collection_of_the_bundled_model_is_told_so_once_a_day(tmp_path, capsys):
    query = Query(query_pb2.SearchResponse(model=query_pb2.Model(name="demo")))
    (tmp_path / "addresses.json").write_text(json.dumps({"pid": os.getpid()}))
    search = ["search", "a dog", "--data", str(tmp_path)]
    said = []
    for more in (["--json"], [], [], []):
        assert run(query, *search, *more) == 0
        said.append(OF_BUNDLED in capsys.readouterr().err)
        if len(said) == 3:
            os.utime(tmp_path / ".bundled-model-told", (1, 1))
    assert said == [False, True, False, True]
