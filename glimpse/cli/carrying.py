"""Brings one generation of a collection in step with another, by comparing what both have.

There is no state of it but what the generations hold: whoever ends in between, another run does
what is left. Decision 0049 says why that loses nothing.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING

from glimpse.cli.console import CommandError
from glimpse.cli.progress import Counter
from glimpse.errors import FailedPrecondition, GlimpseError, Unavailable, UnreadableFile
from glimpse.results import Acknowledgement, ImageFile, Outcome, StoredImage
from glimpse.uris import path_of

if TYPE_CHECKING:
    from glimpse.client import Client

_FIELDS = ("uri", "metadata", "content_sha256", "indexed_at_ms")
_LIST_TIMEOUT_S = 60.0  # of one page
_AT_ONCE = 500  # ids that are looked at, or deleted, in one call
_MANY = 2_000  # images that cannot be carried over while callers wait


@dataclass(frozen=True)
class StoredFile(ImageFile):
    """The file that a row was made of; what became another one since is not read for it."""

    content_sha256: str = ""

    def read(self, max_bytes: int | None = None) -> bytes:
        content = super().read(max_bytes)
        if self.content_sha256 not in ("", hashlib.sha256(content).hexdigest()):
            raise UnreadableFile(f"{self.address} is not the file any more that was indexed")
        return content


@dataclass
class Pass:
    """What one comparison has found and done."""

    begun_s: float = field(default_factory=time.monotonic)
    compared: int = 0
    carried: int = 0
    deleted: int = 0
    seconds: float = 0.0
    is_whole: bool = True  # False: something is left, be it that it was newer here
    unreadable: dict[str, str] = field(default_factory=dict)  # by id, why it could not be carried

    @property
    def changes(self) -> int:
        return self.carried + self.deleted


@dataclass
class _Leaving:
    """Ids of the target that are to go: those that only it has, and those that it has newer."""

    alone: list[str] = field(default_factory=list)
    newer: list[str] = field(default_factory=list)


class Carrier:
    """Passes from a source, which serves, to a target, which does not; both are addresses of
    generations."""

    def __init__(
        self, client: Client, source: str, target: str, patience_s: float, max_reads: int
    ) -> None:
        self._client = client
        self._source, self._target = source, target
        self._patience_s, self._max_reads = patience_s, max_reads

    def run(self, label: str, total: int | None) -> Pass:
        """One pass: the target holds what the source did when it began, and is fast to search.

        Raises GlimpseError and CommandError, after which another run goes on.
        """
        done, leaving = Pass(), _Leaving()
        self._carry(self._missing(done, leaving, 0), done, Counter(label, total, "images"))
        self._take_away(leaving, done)
        done.seconds = time.monotonic() - done.begun_s
        return done

    def run_since(self, since_ms: int) -> Pass:
        """A pass that looks at rows which are not older than that, right behind a whole one, and
        waits for nothing but them; `is_whole` unless these are too many for that.

        What it finds in the target alone was written by nobody who lives: by an indexer, say, that
        was killed, and Milvus did it late.
        """
        done, leaving = Pass(), _Leaving()
        few = list(islice(self._missing(done, leaving, since_ms), _MANY))
        done.is_whole = len(few) < _MANY
        if done.is_whole:
            if few:
                self._carry(few, done, Counter("what came last", len(few), "images"), len(few))
            self._take_away(leaving, done)
        done.seconds = time.monotonic() - done.begun_s
        return done

    def _carry(
        self,
        images: Iterable[StoredFile],
        done: Pass,
        counter: Counter,
        count: int | None = None,
    ) -> None:
        """Until that many are acknowledged; without `count`, until the stream ends, which waits for
        the index."""
        arrived: list[str] = []
        with (
            counter,
            self._client.index(
                self._target,
                images,
                create_collection=False,
                patience_s=self._patience_s,
                max_reads=self._max_reads,
            ) as acknowledgements,
        ):
            for acknowledgement in islice(acknowledgements, count):
                counter.step()
                if self._has_arrived(acknowledgement, done):
                    arrived.append(acknowledgement.id)
                if len(arrived) >= _AT_ONCE:
                    # Of what was deleted from the source while it was carried.
                    done.deleted += self._delete_absent(arrived)
                    arrived = []
        done.deleted += self._delete_absent(arrived)

    def _take_away(self, leaving: _Leaving, done: Pass) -> None:
        if not leaving.alone and not leaving.newer:
            return
        self._check_target_idle()
        done.deleted += self._delete_absent(leaving.alone)
        if leaving.newer:
            done.deleted += self._client.delete(self._target, ids=leaving.newer)
            done.is_whole = False

    def _check_target_idle(self) -> None:
        """Raises CommandError if the target serves by now: what only it has may be a caller's."""
        collection, _, number = self._target.rpartition("@")
        for each in self._client.list_generations(collection, exact=False):
            if each.serving and each.number == int(number):
                raise CommandError(f"somebody else has {self._target} serve meanwhile")

    def _missing(self, done: Pass, leaving: _Leaving, since_ms: int) -> Iterator[StoredFile]:
        """Files of the rows that the target lacks, or has an older one of."""
        sources, targets = (self._rows(each, since_ms) for each in (self._source, self._target))
        for row, there in differences(sources, targets):
            done.compared += 1
            if row is not None and (there is None or there.indexed_at_ms < row.indexed_at_ms):
                try:
                    yield file_of(row)
                except UnreadableFile as error:
                    done.unreadable[row.id] = str(error)
            elif there is not None:
                (leaving.alone if row is None else leaving.newer).append(there.id)

    def _rows(self, address: str, since_ms: int) -> Iterator[StoredImage]:
        filter = f"indexed_at_ms >= {since_ms}" if since_ms else ""
        return self._client.list_images(
            address, filter, output_fields=_FIELDS, timeout_s=_LIST_TIMEOUT_S
        )

    def _has_arrived(self, acknowledgement: Acknowledgement, done: Pass) -> bool:
        """Also what is there already: it may have been written by an indexer that then died."""
        error = acknowledgement.error
        if isinstance(error, (Unavailable, FailedPrecondition)):
            raise error
        if error is not None:
            done.unreadable[acknowledgement.id or acknowledgement.image.id] = str(error)
        done.carried += acknowledgement.outcome is Outcome.INDEXED
        return error is None

    def _delete_absent(self, ids: Sequence[str]) -> int:
        """Deletes from the target those that the source has not."""
        deleted = 0
        for start in range(0, len(ids), _AT_ONCE):
            some = ids[start : start + _AT_ONCE]
            listed = self._client.list_images(
                self._source, f"id in {json.dumps(some)}", timeout_s=_LIST_TIMEOUT_S
            )
            gone = set(some) - {image.id for image in listed}
            deleted += self._client.delete(self._target, ids=sorted(gone)) if gone else 0
        return deleted


def differences(
    source: Iterable[StoredImage], target: Iterable[StoredImage]
) -> Iterator[tuple[StoredImage | None, StoredImage | None]]:
    """Of two lists in the order of their ids, the rows that are in one only, or of another time."""
    sources, targets = iter(source), iter(target)
    row, there = next(sources, None), next(targets, None)
    while row is not None or there is not None:
        if there is None or (row is not None and row.id < there.id):
            yield row, None
            row = next(sources, None)
        elif row is None or there.id < row.id:
            yield None, there
            there = next(targets, None)
        else:
            if row.indexed_at_ms != there.indexed_at_ms:
                yield row, there
            row, there = next(sources, None), next(targets, None)


def file_of(row: StoredImage) -> StoredFile:
    """Raises UnreadableFile for a row whose uri leads to no file."""
    path = path_of(row.uri)
    if path is None and "://" not in row.uri:
        raise UnreadableFile("it was indexed without the address of a file")
    try:
        return StoredFile(
            path=path,
            url=row.uri if path is None else None,
            id=row.id,
            uri=row.uri,
            metadata=row.metadata,
            indexed_at_ms=row.indexed_at_ms,
            content_sha256=row.content_sha256,
        )
    except (GlimpseError, ValueError, TypeError) as error:
        raise UnreadableFile(f"{row.uri}: {error}") from error
