"""Are mistakes with TLS told apart: by both clients and the command, each in a sentence of its own?

python -m tests.first_day.tls
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from glimpse import AsyncClient, Client, errors
from glimpse.cli.main import main as run_command
from tests.authority import Authority, Pair, write
from tests.scripted import NOBODY
from tests.small_service import small_service


@dataclass
class Mistake:
    """One mistake, the `reason` that is to name it, and what it made callers read."""

    name: str
    reason: str
    server: Mapping[str, Path]
    caller: Mapping[str, Path]
    target: str = ""
    found: list[errors.GlimpseError] = field(default_factory=list)
    printed: str = ""

    def sentences(self) -> set[str]:
        """What was read, without the address and the command's own hint; one where all agree."""
        printed, _, _ = self.printed.removeprefix("glimpse: ").partition("; here: glimpse --tls")
        printed = printed.replace("--tls-", "tls_")  # what the client calls it
        read = [*map(str, self.found), printed]
        return {sentence.replace(self.target, "HOST:PORT") for sentence in read}

    def is_named(self) -> bool:
        """Whether clients and command give one sentence, and the clients the right reason."""
        return len(self.sentences()) == 1 and {e.reason for e in self.found} == {self.reason}


def mistakes(folder: Path) -> list[Mistake]:
    """Each in a service's settings, or in what its caller was given."""
    ours, others = Authority(), Authority("somebody else's")
    past, future = {"from_days": -3, "until_days": -2}, {"from_days": 2, "until_days": 3}
    ca = ours.write(folder)
    (folder / "others").mkdir()
    wrong_ca = others.write(folder / "others")

    def server(name: str, pair: Pair, asks: bool = False) -> dict[str, Path]:
        files = write(folder, f"server-{name}", pair)
        settings = {"tls_cert_file": files.cert, "tls_key_file": files.key}
        return settings | ({"tls_client_ca_file": ca} if asks else {})

    def caller(name: str, pair: Pair) -> dict[str, Path]:
        files = write(folder, f"caller-{name}", pair)
        return {"tls_ca": ca, "tls_cert": files.cert, "tls_key": files.key}

    good, asking = server("good", ours.pair("localhost")), {"tls_client_ca_file": ca}
    mutual = good | asking
    plain = {"tls_ca": ca}
    return [
        Mistake("plaintext to TLS", "TLS_REQUIRED", good, {}),
        Mistake("plaintext to mutual TLS", "TLS_REQUIRED", mutual, {}),
        Mistake("TLS to plaintext", "TLS_NOT_SPOKEN", {}, plain),
        Mistake("wrong authority", "SERVER_CERTIFICATE_UNTRUSTED", good, {"tls_ca": wrong_ca}),
        Mistake(
            "expired server",
            "SERVER_CERTIFICATE_EXPIRED",
            server("past", ours.pair("localhost", **past)),
            plain,
        ),
        Mistake(
            "early server",
            "SERVER_CERTIFICATE_NOT_YET_VALID",
            server("future", ours.pair("localhost", **future)),
            plain,
        ),
        Mistake(
            "server of another name",
            "SERVER_CERTIFICATE_OF_ANOTHER_NAME",
            server("elsewhere", ours.pair("elsewhere", loopback=False)),
            plain,
        ),
        Mistake("no client certificate", "CLIENT_CERTIFICATE_MISSING", mutual, plain),
        Mistake(
            "stranger's client certificate",
            "CLIENT_CERTIFICATE_UNTRUSTED",
            mutual,
            caller("stranger", others.pair("caller")),
        ),
        Mistake(
            "expired client certificate",
            "CLIENT_CERTIFICATE_EXPIRED",
            mutual,
            caller("past", ours.pair("caller", **past)),
        ),
        Mistake(
            "early client certificate",
            "CLIENT_CERTIFICATE_NOT_YET_VALID",
            mutual,
            caller("future", ours.pair("caller", **future)),
        ),
    ]


async def make(mistake: Mistake) -> None:
    """Has both clients make it, and remembers what they raise."""
    async with contextlib.AsyncExitStack() as stack:
        service = await stack.enter_async_context(small_service(**mistake.server))
        mistake.target = service.target

        def call() -> None:
            with Client(NOBODY, service.target, **mistake.caller) as client:
                client.collections()

        async def call_async() -> None:
            async with AsyncClient(NOBODY, service.target, **mistake.caller) as client:
                await client.collections()

        told = [f"--{name.replace('_', '-')}={path}" for name, path in mistake.caller.items()]
        command = [*told, "collections", "--indexer", service.target]
        ended = await asyncio.gather(
            asyncio.to_thread(call),
            call_async(),
            asyncio.to_thread(run_command, command),
            return_exceptions=True,
        )
        mistake.found = [error for error in ended if isinstance(error, errors.GlimpseError)]


async def made(folder: Path) -> list[Mistake]:
    """All of them, each made by both clients and the command; at once, for each takes a while."""
    all_of_them = mistakes(folder)
    with contextlib.redirect_stderr(io.StringIO()) as printed:
        await asyncio.gather(*map(make, all_of_them))
    for mistake in all_of_them:
        lines = [line for line in printed.getvalue().splitlines() if mistake.target in line]
        mistake.printed = "\n".join(lines)
    return all_of_them


def measure() -> tuple[int, int]:
    """How many mistakes are told apart from all others, of how many."""
    with tempfile.TemporaryDirectory() as folder:
        all_of_them = asyncio.run(made(Path(folder)))
    named = [mistake for mistake in all_of_them if mistake.is_named()]
    return len(named), len(all_of_them)


if __name__ == "__main__":
    told_apart, of_them = measure()
    print(f"{told_apart} of {of_them} mistakes with TLS are told apart")
    sys.exit(told_apart != of_them)
