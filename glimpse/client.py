"""The client for programs that block; what its calls send and what comes back stands in calls."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Concatenate, ParamSpec, TypeVar

from google.rpc import code_pb2

from glimpse import calls, converters, generation_calls
from glimpse.arguments import checked
from glimpse.base_client import BaseClient, present
from glimpse.errors import GlimpseError, Unavailable
from glimpse.in_flight import IngestLimits
from glimpse.indexer.v1 import indexer_pb2
from glimpse.ingest import Ingest
from glimpse.results import Collection, CollectionModel, ImageFile, StoredImage
from glimpse.shrinking import LargePictures
from glimpse.transport.channel import open_channel
from glimpse.upload import Upload

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


def _waiting(
    describe: Callable[Arguments, calls.UnaryCall[Result]],
) -> Callable[Concatenate[Client, Arguments], Result]:
    """The method that makes the described call and waits for its result."""

    def method(self: Client, *args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        return self._make(describe(*args, **kwargs))

    present(method, describe)
    return method


class Client(BaseClient):
    """BaseClient whose methods wait for the answer; arguments as BaseClient takes them.

    Thread-safe: one client serves a whole program.
    """

    _open = staticmethod(open_channel)

    search = _waiting(calls.search)
    batch_search = _waiting(calls.batch_search)
    get_images = _waiting(calls.get_images)
    get_model = _waiting(calls.get_model)
    count_images = _waiting(calls.count_images)
    export_page = _waiting(calls.export_page)
    create_collection = _waiting(calls.create_collection)
    get_collection = _waiting(calls.get_collection)
    drop_collection = _waiting(calls.drop_collection)
    create_generation = _waiting(generation_calls.create_generation)
    list_generations = _waiting(generation_calls.list_generations)
    hold_writes = _waiting(generation_calls.hold_writes)
    switch_generation = _waiting(generation_calls.switch_generation)
    drop_generation = _waiting(generation_calls.drop_generation)

    def close(self) -> None:
        """Closes the connections; calls under way fail."""
        for channel in self._channels_to_close():
            channel.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def collections(self, timeout_s: float | None = None) -> list[Collection]:
        """Every collection, in the order of their names; `timeout_s` bounds each page of them.

        One that cannot be described has an `error` in its place.
        """
        found: list[Collection] = []
        token = ""
        while True:
            page = self._make(calls.collection_page(token, timeout_s))
            found += page.collections
            token = page.next_page_token
            if not token:
                return found

    def list_images(
        self,
        collection: str,
        filter: str = "",
        output_fields: Sequence[str] = (),
        *,
        ids: Sequence[str] | None = None,
        after_id: str = "",
        timeout_s: float | None = None,
    ) -> Iterator[StoredImage]:
        """The images that a filter takes, or those of any number of ids that are there; without
        either all of them. They come in the order of their ids.

        They come page by page as they are asked for; behind an id where one is given, so that a
        list can be continued. `timeout_s` bounds each page.
        """
        for some in calls.lists_of_images(filter, ids, after_id):
            next_id = after_id
            while True:
                page = self._make(
                    calls.image_page(collection, filter, some, output_fields, next_id, timeout_s)
                )
                yield from page.images
                next_id = page.next_after_id
                if not next_id:
                    break

    def delete(
        self,
        collection: str,
        *,
        ids: Sequence[str] | None = None,
        filter: str | None = None,
        timeout_s: float | None = None,
    ) -> int:
        """Deletes images by ids (any number of them) or by filter; returns how many there were."""
        deletions = calls.deletions(collection, ids, filter, timeout_s)
        return sum(self._make(call) for call in deletions)

    @checked
    def index(
        self,
        collection: str,
        images: Iterable[ImageFile],
        *,
        create_collection: bool = True,
        force: bool = False,
        keep_copies: bool = False,
        max_in_flight: int = 2_048,
        max_in_flight_bytes: int = 256 * 2**20,
        patience_s: float = 120.0,
        max_reads: int = 32,
    ) -> Ingest:
        """Sends images and yields an Acknowledgement for each, in any order.

        Pictures are read ahead, `max_reads` files or URLs at once and so in any order, those of one
        id in theirs; at most `max_in_flight` of them or `max_in_flight_bytes` together, and those
        being read, are unacknowledged. A stream that is cut is opened again, with back-off, and
        what was not acknowledged is sent again, until `patience_s` has passed without any progress.
        Where no indexer can be reached, the first step of the iteration raises Unavailable. With
        `keep_copies`, pictures without an id that are equal and have several uris get a row for
        each; without it, the last one's is all that stays.
        """
        options = converters.index_options(
            collection, create_collection, force, patience_s, keep_copies
        )
        limits = IngestLimits(
            max_in_flight, max_in_flight_bytes, self._max_message_bytes, patience_s, max_reads
        )
        channel, _ = self._connection("indexer")
        return Ingest(channel, self._diagnoses["indexer"], options, images, limits)

    def import_images(
        self, options: indexer_pb2.ImportOptions, *, patience_s: float = 120.0
    ) -> Upload:
        """Writes images whose vectors are there already, batch by batch: see Upload.

        A stream that is cut is opened again, with back-off, until `patience_s` has passed without
        any progress.
        """
        channel, _ = self._connection("indexer")
        return Upload(channel, self._diagnoses["indexer"], options, patience_s)

    def _make(self, call: calls.UnaryCall[Result]) -> Result:
        pictures = self._large_pictures(call)
        model = self._model_seeing(pictures) if pictures else None
        if not pictures or not model or not model.preprocessing:
            return self._answer(call)
        pictures.shrink(model.preprocessing)
        result = self._answer(call)
        if getattr(result, "model", None) != model.model:  # which has been replaced
            self._models.pop(pictures.collection, None)
            pictures.restore()
            result = self._answer(call)
        return result

    def _model_seeing(self, pictures: LargePictures) -> CollectionModel | None:
        collection = pictures.collection
        if collection not in self._models:
            model = None
            try:
                model = self._answer(calls.get_model(collection))
            except GlimpseError as error:
                if error.code != code_pb2.UNIMPLEMENTED:  # as of services older than this client
                    raise
            self._models[collection] = model
        return self._models.get(collection)

    def _answer(self, call: calls.UnaryCall[Result]) -> Result:
        try:
            with self._begun(call) as answer:
                return call.result(answer)
        except Unavailable as error:
            raise self._diagnoses[call.service].explained(error) from error.__cause__
