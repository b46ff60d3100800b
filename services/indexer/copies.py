"""Pictures of equal content in one stream: one goes first and is encoded, once; which rows
the collection has of them, the stages look up."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from glimpse.errors import InvalidImage
from services.indexer.records import Attributes


class Copies:
    """Knows which contents are under way; owned by one stream, and by its event loop."""

    def __init__(self) -> None:
        # By content, and by content and uri: what an image came to, None where all is well.
        self._under_way: dict[str, asyncio.Future[BaseException | None]] = {}

    @contextlib.asynccontextmanager
    async def turn(self, image: Attributes) -> AsyncIterator[None]:
        """Waits for the image of equal content that goes first, and for one of the same uri.

        Those that follow it go side by side, and find its row. Where that picture cannot be taken,
        none of them can: InvalidImage. Where it failed for another reason, the next goes first.
        """
        first, same = image.content_sha256, image.copy_id
        before = self._under_way.get(same) or self._under_way.get(first)
        ended = self._under_way[same] = asyncio.get_running_loop().create_future()
        outcome: BaseException | None = None
        try:
            while before is not None:
                await asyncio.wait([before])
                failure = before.result()
                if failure is None:
                    break
                if isinstance(failure, InvalidImage):
                    raise failure
                before = self._under_way.get(first)
            else:
                self._under_way[first] = ended
            yield
        except BaseException as error:
            outcome = error
            raise
        finally:
            for key in (first, same):
                if self._under_way.get(key) is ended:
                    del self._under_way[key]
            ended.set_result(outcome)
