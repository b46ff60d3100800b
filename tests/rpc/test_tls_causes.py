"""Each mistake with TLS has a sentence of its own, in both clients and the command."""

from __future__ import annotations

import asyncio
import logging
import re
import sys

import pytest
from prometheus_client import CollectorRegistry

from services.common import certificates
from services.common.server import Server
from tests.authority import Authority, write
from tests.first_day import tls
from tests.small_service import NAMES, SmallSettings, small_service
from tests.waiting import until


async def test_mistakes_with_tls_are_told_apart(tmp_path):
    mistakes = await tls.made(tmp_path)
    wrong = {m.name: (m.sentences(), [e.reason for e in m.found]) for m in mistakes}
    assert {name: wrong[name] for name in wrong if not _named(mistakes, name)} == {}
    by_reason = {mistake.reason: mistake.sentences() for mistake in mistakes}
    assert len({min(sentences) for sentences in by_reason.values()}) == len(by_reason)


async def test_the_command_prints_one_sentence_and_nothing_of_grpcs(tmp_path):
    files = write(tmp_path, "server", Authority().pair("localhost"))
    ca = Authority("somebody else's").write(tmp_path)
    async with small_service(tls_cert_file=files.cert, tls_key_file=files.key) as service:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "glimpse.cli.main", f"--tls-ca={ca}"),
            *("collections", "--indexer", service.target),
            stderr=asyncio.subprocess.PIPE,
        )
        _, printed = await process.communicate()
    assert len(printed.decode().splitlines()) == 1, printed.decode()


def _named(mistakes: list[tls.Mistake], name: str) -> bool:
    return next(mistake for mistake in mistakes if mistake.name == name).is_named()


@pytest.mark.parametrize(
    ("from_days", "until_days", "level", "says"),
    [
        (-3, -2, logging.ERROR, r"SMALL_TLS_CERT_FILE: a certificate in .* expired at 20"),
        (-3, 2, logging.WARNING, r"SMALL_TLS_CERT_FILE: a certificate in .* expires at 20"),
        (-3, 30, None, ""),
    ],
    ids=["expired", "soon", "good"],
)
async def test_a_service_that_starts_with_a_certificate_past_its_time_says_so(
    from_days, until_days, level, says, tmp_path, caplog
):
    pair = Authority().pair("localhost", from_days=from_days, until_days=until_days)
    files = write(tmp_path, "server", pair)
    async with small_service(tls_cert_file=files.cert, tls_key_file=files.key):
        pass
    lines = [r for r in caplog.records if r.name == "services.common.certificates"]
    assert [line.levelno for line in lines] == ([level] if level else [])
    assert all(re.match(says, line.getMessage()) for line in lines)


async def test_a_certificate_past_its_time_that_takes_the_place_of_a_good_one_is_told_once(
    tmp_path, caplog, monkeypatch
):
    monkeypatch.setattr(certificates, "_LOOK_EVERY_S", 0.001)
    authority = Authority()
    files = write(tmp_path, "server", authority.pair("localhost", until_days=30))
    settings = SmallSettings(tls_cert_file=files.cert, tls_key_file=files.key)
    server = Server(settings, NAMES, CollectorRegistry())
    await server.start()
    running = asyncio.create_task(server.run())

    def lines():
        return [r for r in caplog.records if r.name == "services.common.certificates"]

    assert lines() == []
    for number, days in enumerate((-2, 2), 1):
        write(tmp_path, "server", authority.pair("localhost", from_days=-3, until_days=days))
        await until(lambda: len(lines()) == number)  # noqa: B023
    server.fail("this is all")
    await running
    await server.stop(None)
    expired, soon = lines()
    assert (expired.levelno, soon.levelno) == (logging.ERROR, logging.WARNING)
    assert "SMALL_TLS_CERT_FILE: a certificate in " in expired.getMessage()
    assert " expired at " in expired.getMessage()
