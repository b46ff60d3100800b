"""docs/operations.md is complete: it has what the code has, and nothing that the code has not."""

from __future__ import annotations

import re

from docs.generate import settings_table, with_tables
from services.encoder.settings import EncoderSettings
from services.indexer.settings import IndexerSettings
from services.query.settings import QuerySettings
from tests import operations

KINDS = (EncoderSettings, IndexerSettings, QuerySettings)


def test_tables_of_settings_are_those_that_the_code_gives():
    assert operations.text() == with_tables(operations.text()), "run: make docs"


def test_every_setting_of_every_service_is_listed():
    listed = {row[0].strip("`") for row in operations.rows("Settings")}
    for kind in KINDS:
        for name in kind.model_fields:
            assert {f"…_{name.upper()}", f"{kind.prefix()}{name.upper()}"} & listed


def test_a_setting_shows_its_default_its_bounds_and_its_meaning():
    assert (
        "| `QUERY_MAX_IN_FLIGHT` | `48` | ≥ 1, ≤ 100,000 | "
        "calls worked on at once; further calls wait for a place |\n"
    ) in settings_table(QuerySettings)


def test_settings_that_the_text_names_exist():
    known = {f"{kind.prefix()}{name.upper()}" for kind in KINDS for name in kind.model_fields}
    ending = {name.upper() for kind in KINDS for name in kind.model_fields}
    named = set(re.findall(r"`((?:ENCODER|INDEXER|QUERY)_[A-Z0-9_]+)", operations.text()))
    assert named - known - {"ENCODER_REFUSES"} == set()
    assert set(re.findall(r"`…_([A-Z_]+)", operations.text())) - ending == {"CA_FILE"}


def test_every_reason_is_listed_with_its_status_and_no_other():
    in_code, listed = operations.reasons_in_code(), operations.reasons()
    assert in_code.keys() == listed.keys()
    for reason, codes in in_code.items():
        assert codes <= listed[reason], reason


def test_links_within_the_manual_lead_somewhere():
    links = set(re.findall(r"\]\(#([^)]+)\)", operations.text()))
    assert links <= operations.anchors()
    files = re.findall(r"\]\(([\w./-]+\.(?:md|json|yaml))", operations.text())
    assert [name for name in files if not (operations.OPERATIONS.parent / name).exists()] == []
