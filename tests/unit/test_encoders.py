"""Several encoders: each call goes to one of its model, and one that is away costs no others."""

from __future__ import annotations

import asyncio
import contextlib

import grpc
import pytest

from glimpse import errors
from services.common import encoders as module
from services.common.deadline import Deadline
from services.common.encoder_client import EncoderClient
from services.common.encoders import Encoders
from tests.fakes import FakeEncoder

OLD, NEW = "a" * 64, "b" * 64
AWAY = "127.0.0.1:1"  # refuses
T = 10.0


@contextlib.asynccontextmanager
async def encoders(*peers: FakeEncoder | str):
    """Of peers that serve, or of addresses."""
    async with contextlib.AsyncExitStack() as stack:
        targets = [
            peer if isinstance(peer, str) else await stack.enter_async_context(peer.serve())
            for peer in peers
        ]
        opened = Encoders([EncoderClient(target, 2**20) for target in targets])
        stack.push_async_callback(opened.close)
        yield opened


def fake(fingerprint: str) -> FakeEncoder:
    encoder = FakeEncoder()
    encoder.fingerprint, encoder.model_name = fingerprint, f"model {fingerprint[0]}"
    return encoder


async def encode(opened: Encoders, fingerprint: str, timeout_s: float = T) -> str:
    """The model that answered."""
    batch = await opened.encode_texts(fingerprint, ["dog"], Deadline(timeout_s))
    return batch.model_fingerprint


@pytest.fixture(autouse=True)
def asked_at_once(monkeypatch):
    monkeypatch.setattr(module, "_LOOKED_FOR_S", 0.0)


async def test_each_call_goes_to_an_encoder_of_its_model():
    old, new = fake(OLD), fake(NEW)
    async with encoders(old, new) as opened:
        for fingerprint in (NEW, OLD, NEW):
            assert await encode(opened, fingerprint) == fingerprint
            assert (await opened.model(fingerprint, Deadline(T))).fingerprint == fingerprint
        assert (await opened.new_model(Deadline(T))).fingerprint == OLD
    assert (old.items["calls"], new.items["calls"]) == (1, 2)


async def test_a_single_one_gets_every_call_and_is_not_asked_first():
    only = fake(OLD)
    asked = []
    only.GetModel = lambda *_: asked.append(1)
    async with encoders(only) as opened:
        assert await encode(opened, NEW) == OLD
    assert not asked


@pytest.mark.parametrize("order", [0, 1])
async def test_one_that_is_away_fails_only_calls_for_its_model(order):
    peers = [AWAY, fake(NEW)]
    async with encoders(*(peers if order else reversed(peers))) as opened:
        assert await encode(opened, NEW) == NEW
        with pytest.raises(errors.Unavailable, match=r"1 of 2 encoders.*model b"):
            await encode(opened, OLD)
        assert await encode(opened, NEW) == NEW


async def test_one_that_hangs_delays_no_call_for_another_model():
    hanging, new = fake(OLD), fake(NEW)

    released = asyncio.Event()

    async def hang(request, context):
        await released.wait()
        await context.abort(grpc.StatusCode.UNAVAILABLE)

    hanging.GetModel = hang
    async with encoders(hanging, new) as opened:
        assert await encode(opened, NEW) == NEW
        await opened.ready(Deadline(T))
        with pytest.raises(errors.DeadlineExceeded):
            await encode(opened, OLD, timeout_s=0.2)
        released.set()


async def test_of_two_that_exchange_their_models_calls_find_the_right_one():
    one, other = fake(OLD), fake(NEW)
    async with encoders(one, other) as opened:
        assert await encode(opened, OLD) == OLD
        assert await encode(opened, NEW) == NEW
        one.fingerprint, other.fingerprint = NEW, OLD
        assert await encode(opened, OLD) == OLD
        assert await encode(opened, NEW) == NEW


async def test_another_one_of_the_same_model_takes_over():
    one, other = fake(OLD), fake(OLD)
    async with contextlib.AsyncExitStack() as stack, contextlib.AsyncExitStack() as leaving:
        first = await leaving.enter_async_context(one.serve())
        second = await stack.enter_async_context(other.serve())
        opened = Encoders([EncoderClient(target, 2**20) for target in (first, second)])
        stack.push_async_callback(opened.close)
        assert await encode(opened, OLD) == OLD
        await leaving.aclose()
        assert await encode(opened, OLD) == OLD
        assert one.items["calls"] + other.items["calls"] == 2


async def test_a_model_that_none_of_them_runs_is_refused_with_the_names_of_theirs():
    async with encoders(fake(OLD), fake(NEW)) as opened:
        with pytest.raises(errors.ModelMismatch, match=r"cccccc.*model a.*model b"):
            await encode(opened, "c" * 64)


async def test_ready_as_soon_as_one_has_answered():
    async with encoders(AWAY, fake(NEW)) as opened:
        await opened.ready(Deadline(T))
    async with encoders(AWAY) as opened:
        with pytest.raises(errors.Unavailable):
            await opened.ready(Deadline(T))
