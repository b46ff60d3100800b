"""The encoders that a service has, chosen by model; the calls themselves are their clients'."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from glimpse import errors
from services.common.deadline import Deadline
from services.common.encoder_client import EncodedBatch, EncoderClient, EncoderModel

_LOOK_TIMEOUT_S = 5.0  # for one encoder to say which model it runs
_LOOKED_FOR_S = 1.0  # how long it is not asked again by those who look for another model


@dataclass(eq=False)
class _Look:
    """One question to an encoder: which model it runs, or why it does not say."""

    answer: asyncio.Task[EncoderModel | errors.GlimpseError]
    started_s: float


class Encoders:
    """Calls go to an encoder of the model that they name; owned by the event loop.

    A single encoder gets every call, whatever it runs: who compares the answer's model finds out.
    Of several, each is asked which model it runs when one is needed that none is known to run, so
    one that is away, or hangs, costs only those who need its model; where two run the same, the
    other answers. Every call raises what a
    client's does, and ModelMismatch where all of several answer, and none runs the model.
    """

    def __init__(self, clients: Sequence[EncoderClient]) -> None:
        """The first one's model is that of new collections."""
        self._clients = tuple(clients)
        self._fingerprints: dict[EncoderClient, str] = {}
        self._looks: dict[EncoderClient, _Look] = {}

    async def close(self) -> None:
        looks = [look.answer for look in self._looks.values()]
        for look in looks:
            look.cancel()
        await asyncio.gather(*looks, return_exceptions=True)
        await asyncio.gather(*(client.close() for client in self._clients))

    async def new_model(self, deadline: Deadline) -> EncoderModel:
        """The model that new collections get."""
        return await self._clients[0].model(deadline)

    async def model(
        self, fingerprint: str, deadline: Deadline, explained: bool = True
    ) -> EncoderModel:
        """The model and the limits of the encoder that calls for this model go to."""
        return await self._call(
            fingerprint, lambda client: client.model(deadline, explained), _fingerprint, deadline
        )

    async def ready(self, deadline: Deadline) -> None:
        """Returns once one of them has said which model it runs; raises why none does."""
        await self._first("", deadline)

    async def encode_texts(
        self, fingerprint: str, texts: Sequence[str], deadline: Deadline, as_they_are: bool = False
    ) -> EncodedBatch:
        return await self._encode(
            fingerprint, lambda client: client.encode_texts(texts, deadline, as_they_are), deadline
        )

    async def encode_files(
        self, fingerprint: str, files: Sequence[bytes], deadline: Deadline
    ) -> EncodedBatch:
        return await self._encode(
            fingerprint, lambda client: client.encode_files(files, deadline), deadline
        )

    async def encode_pixels(
        self, fingerprint: str, pixels: Sequence[Any], deadline: Deadline, interactive: bool = False
    ) -> EncodedBatch:
        return await self._encode(
            fingerprint,
            lambda client: client.encode_pixels(pixels, deadline, interactive),
            deadline,
        )

    async def _encode(
        self,
        fingerprint: str,
        encode: Callable[[EncoderClient], Awaitable[EncodedBatch]],
        deadline: Deadline,
    ) -> EncodedBatch:
        return await self._call(
            fingerprint, encode, lambda batch: batch.model_fingerprint, deadline
        )

    async def _call(
        self,
        fingerprint: str,
        call: Callable[[EncoderClient], Awaitable[Any]],
        told: Callable[[Any], str],
        deadline: Deadline,
    ) -> Any:
        """The answer of an encoder of the model; of another one where the first that was known is
        away, or runs another model by now."""
        client = await self._of(fingerprint, deadline)
        try:
            answer = await call(client)
        except errors.Unavailable:
            self._forget(client)
            if (other := self._known(fingerprint)) is None:
                raise
            return await call(other)
        if len(self._clients) == 1 or told(answer) == fingerprint:
            return answer
        self._forget(client)
        return await call(await self._of(fingerprint, deadline))

    async def _of(self, fingerprint: str, deadline: Deadline) -> EncoderClient:
        if len(self._clients) == 1:
            return self._clients[0]
        return self._known(fingerprint) or await self._first(fingerprint, deadline)

    def _known(self, fingerprint: str) -> EncoderClient | None:
        """One that is known to run the model."""
        running = (client for client, runs in self._fingerprints.items() if runs == fingerprint)
        return next(running, None)

    async def _first(self, wanted: str, deadline: Deadline) -> EncoderClient:
        """The encoder that says first that it runs this model, or any where none is named."""
        looks = {self._look(client): client for client in self._clients}
        pending = set(looks)
        while pending:
            ended, pending = await asyncio.wait(
                pending, timeout=deadline.left_s(), return_when=asyncio.FIRST_COMPLETED
            )
            for look in ended:
                answer = look.result()
                if isinstance(answer, EncoderModel) and wanted in ("", answer.fingerprint):
                    return looks[look]
        raise _none_of(wanted, [look.result() for look in looks])

    def _look(self, client: EncoderClient) -> asyncio.Task[EncoderModel | errors.GlimpseError]:
        """A question that is under way, or was asked a moment ago, or a new one."""
        now_s = asyncio.get_running_loop().time()
        look = self._looks.get(client)
        if look is None or (look.answer.done() and now_s - look.started_s > _LOOKED_FOR_S):
            look = self._looks[client] = _Look(asyncio.create_task(self._ask(client)), now_s)
        return look.answer

    async def _ask(self, client: EncoderClient) -> EncoderModel | errors.GlimpseError:
        try:
            model = await client.model(Deadline(_LOOK_TIMEOUT_S))
        except errors.GlimpseError as error:
            return errors.as_value(error)
        self._fingerprints[client] = model.fingerprint
        return model

    def _forget(self, client: EncoderClient) -> None:
        self._fingerprints.pop(client, None)
        if (look := self._looks.get(client)) is not None and look.answer.done():
            del self._looks[client]


def _fingerprint(model: EncoderModel) -> str:
    return model.fingerprint


def _none_of(
    wanted: str, answers: Sequence[EncoderModel | errors.GlimpseError]
) -> errors.GlimpseError:
    """Why no encoder can be used: one that is away may run the model, so it comes first."""
    away = [answer for answer in answers if isinstance(answer, errors.GlimpseError)]
    models = [answer for answer in answers if isinstance(answer, EncoderModel)]
    if len(answers) == 1:
        return errors.as_value(away[0])
    known = ", ".join(f"{model.name} ({model.fingerprint[:12]})" for model in models)
    if not away:
        return errors.ModelMismatch(
            f"no encoder runs the collection's model ({wanted[:12]}): they run {known}"
        )
    others = f"; the others run {known}" if known else ""
    return errors.Unavailable(
        f"{len(away)} of {len(answers)} encoders do not say which model they run: "
        f"{away[0]}{others}",
        reason=away[0].reason,
    )
