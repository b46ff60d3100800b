"""Brings one generation of a collection in step with another, by comparing what both have.

What it has done is in the generations: whoever ends in between, another run does what is left.
Decision 0049 says why that loses nothing.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from itertools import chain, islice
from typing import TYPE_CHECKING, TypeVar

from glimpse.cli.backup.ahead import made_ahead
from glimpse.cli.console import CommandError
from glimpse.cli.progress import Counter
from glimpse.cli.stored_files import StoredFile, file_of
from glimpse.errors import FailedPrecondition, Unavailable, UnreadableFile
from glimpse.results import Acknowledgement, Outcome, StoredImage

if TYPE_CHECKING:
    from glimpse.client import Client

Item = TypeVar("Item")

_FIELDS = ("uri", "metadata", "content_sha256", "indexed_at_ms")
_LIST_TIMEOUT_S = 60.0  # of one page
_PAGE_ROWS = 10_000  # as many as the service gives at once
_AT_ONCE = 500  # images that are looked at together
_MANY = 2_000  # images that cannot be carried over while callers wait


@dataclass
class Pass:
    """What one comparison has found and done."""

    begun_ms: int  # by the indexer's clock, as the rows' times are
    carried: int = 0
    deleted: int = 0
    seconds: float = 0.0
    is_whole: bool = True  # False: something is left, and the next pass has to look at everything
    kept: int = 0  # rows that the target alone has, and that stay
    unreadable: dict[str, str] = field(default_factory=dict)  # by id, why it could not be carried
    leaving: list[StoredImage] = field(default_factory=list)  # of the target: newer, or alone there

    @property
    def changes(self) -> int:
        return self.carried + self.deleted


class Carrier:
    """Passes from a source, which serves, to a target, which does not; both are addresses of
    generations."""

    def __init__(
        self,
        client: Client,
        source: str,
        target: str,
        patience_s: float,
        max_reads: int,
        kept_before_ms: int = 0,
    ) -> None:
        """What only the target has stays there if it is older than `kept_before_ms`."""
        self._client = client
        self._source, self._target = source, target
        self._patience_s, self._max_reads = patience_s, max_reads
        self._kept_before_ms = kept_before_ms

    def run(self, label: str, total: int | None) -> Pass:
        """One pass: the target holds what the source did when it began, and is fast to search.

        Raises GlimpseError and CommandError, after which another run goes on.
        """
        done, begun_s = self._begun(), time.monotonic()
        self._carry(self._missing(done, 0, ()), done, Counter(label, total, "images"))
        if replaced := self._take_away(done, replaces=True):
            files = list(self._files(replaced, done))
            self._carry(files, done, Counter("carrying back", len(files), "images"), len(files))
        done.seconds = time.monotonic() - begun_s
        return done

    def run_since(
        self, since_ms: int, again: Collection[str] = (), *, callers_wait: bool = False
    ) -> Pass:
        """A pass that looks only at rows which are not older than that, in either generation, and
        at those of the ids `again`: the target then holds what the source did when it began, if it
        held before what the source did a while after that time.

        A few rows are not waited for until they are fast to search. Not `is_whole` if there are too
        many while `callers_wait`, or the target has newer ones: what is copied is never older than
        `since_ms`, so that another such pass sees what this one may leave, if it is killed. What it
        finds in the target alone was written by nobody who lives: by an indexer, say, that was
        killed, and Milvus did it late.
        """
        done, begun_s = self._begun(), time.monotonic()
        done.deleted += self._delete_absent(sorted(again))  # copied by a pass that was killed
        missing = self._missing(done, since_ms, again)
        few = list(islice(missing, _MANY))
        count = None if len(few) == _MANY else len(few)
        if count is None and callers_wait:
            done.is_whole = False
            return done
        if few:
            counter = Counter("catching up", count, "images")
            self._carry(chain(few, missing), done, counter, count)
        done.is_whole = not self._take_away(done, replaces=False)
        done.seconds = time.monotonic() - begun_s
        return done

    def _begun(self) -> Pass:
        return Pass(self._client.get_collection(self._source, exact=False).described_at_ms)

    def _carry(
        self,
        images: Iterable[StoredFile],
        done: Pass,
        counter: Counter,
        count: int | None = None,
    ) -> None:
        """Until that many are acknowledged; without `count`, until the stream ends, which waits for
        the index.

        With it, the stream does not end by itself: its end has Milvus close what was just written,
        and a server of 2.3 loses deletions that come in that moment, as a second look may make.
        """
        arrived: list[str] = []
        left = threading.Event()
        if count is not None:
            images = chain(images, _nothing_until(left))
        try:
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
        finally:
            left.set()
        done.deleted += self._delete_absent(arrived)

    def _take_away(self, done: Pass, *, replaces: bool) -> list[StoredImage]:
        """Deletes from the target what only it has, unless that is kept, and, if it `replaces` it,
        what it has newer; returns what the source has in place of the latter."""
        if not done.leaving:
            return []
        self._check_target_idle()
        replaced: list[StoredImage] = []
        for some in _parts(done.leaving):
            there = {each.id: each for each in self._listed(self._source, [row.id for row in some])}
            alone = [row for row in some if row.id not in there]
            gone = [row.id for row in alone if row.indexed_at_ms >= self._kept_before_ms]
            done.kept += len(alone) - len(gone)
            newer = [
                row.id
                for row in some
                if row.id in there and there[row.id].indexed_at_ms < row.indexed_at_ms
            ]
            if ids := gone + newer if replaces else gone:
                done.deleted += self._client.delete(self._target, ids=ids)
            replaced += [there[identity] for identity in newer]
        return replaced

    def _check_target_idle(self) -> None:
        """Raises CommandError if the target serves by now: what only it has may be a caller's."""
        collection, _, number = self._target.rpartition("@")
        for each in self._client.list_generations(collection, exact=False):
            if each.serving and each.number == int(number):
                raise CommandError(f"somebody else has {self._target} serve meanwhile")

    def _missing(self, done: Pass, since_ms: int, again: Collection[str]) -> Iterator[StoredFile]:
        """Files of the rows that the target lacks, or has an older one of, and of those `again`."""
        rows = self._differing(done, since_ms)
        asked = set(again)
        while ids := [row.id for row in islice(rows, _AT_ONCE)]:
            asked.difference_update(ids)
            yield from self._files(self._listed(self._source, ids), done)
        if asked:
            yield from self._files(self._listed(self._source, sorted(asked)), done)

    def _differing(self, done: Pass, since_ms: int) -> Iterator[StoredImage]:
        """Rows of the source, ids and times alone, that the target has not as new; notes those of
        the target that the source has not as new."""
        sources, targets = (self._times(each, since_ms) for each in (self._source, self._target))
        for row, there in differences(sources, targets):
            if row is not None and (there is None or there.indexed_at_ms < row.indexed_at_ms):
                yield row
            elif there is not None:
                done.leaving.append(there)

    def _times(self, address: str, since_ms: int) -> Iterator[StoredImage]:
        """Ids and times, a page ahead of who takes them: both generations are read at once."""
        filter = f"indexed_at_ms >= {since_ms}" if since_ms else ""
        rows = iter(
            self._client.list_images(
                address, filter, output_fields=("indexed_at_ms",), timeout_s=_LIST_TIMEOUT_S
            )
        )
        pages = iter(lambda: list(islice(rows, _PAGE_ROWS)), [])
        with closing(made_ahead(pages, 1)) as made:
            for page in made:
                yield from page

    def _listed(self, address: str, ids: Sequence[str]) -> Iterable[StoredImage]:
        """The rows of these ids, as far as they are there."""
        return self._client.list_images(
            address, ids=ids, output_fields=_FIELDS, timeout_s=_LIST_TIMEOUT_S
        )

    def _files(self, rows: Iterable[StoredImage], done: Pass) -> Iterator[StoredFile]:
        for row in rows:
            try:
                yield file_of(row)
            except UnreadableFile as error:
                done.unreadable[row.id] = str(error)

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
        if not ids:
            return 0
        listed = self._client.list_images(self._source, ids=ids, timeout_s=_LIST_TIMEOUT_S)
        gone = set(ids) - {image.id for image in listed}
        return self._client.delete(self._target, ids=sorted(gone)) if gone else 0


def _parts(items: Sequence[Item]) -> Iterator[Sequence[Item]]:
    for start in range(0, len(items), _AT_ONCE):
        yield items[start : start + _AT_ONCE]


def _nothing_until(event: threading.Event) -> Iterator[StoredFile]:
    event.wait()
    yield from ()


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
