"""The client for programs that block: search, index, look after collections; the command line and
the messages' making are not its job."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import grpc
from google.protobuf.message import Message
from grpc_health.v1 import health_pb2, health_pb2_grpc

from glimpse import convert, errors
from glimpse.channel import MAX_MESSAGE_BYTES, open_channel
from glimpse.credentials import client_credentials
from glimpse.indexer.v1 import indexer_pb2, indexer_pb2_grpc
from glimpse.ingest import Ingest
from glimpse.query.v1 import query_pb2, query_pb2_grpc
from glimpse.results import Collection, FoundImages, ImageFile, SearchResult, Term
from glimpse.tracing import calling
from glimpse.window import IngestLimits

DEFAULT_QUERY = "127.0.0.1:50053"
DEFAULT_INDEXER = "127.0.0.1:50052"
MAX_BATCH_IDS = 1_000


class Client:
    """Connections to the query service and the indexer; thread-safe, made once and kept.

    Addresses are HOST:PORT, or dns:///NAME:PORT for every address of a name. `timeout_s` bounds
    each call except `index`, in seconds. Every method raises errors of glimpse.errors; a call that
    finds a service out of reach has been tried four times within about a second.

    `tls_ca` is the PEM file of the authorities that the services' certificates must descend from,
    and turns TLS on; `tls_cert` and `tls_key` are shown to services that ask for a certificate.
    `token` is sent with each call: the token itself, or the path of its file. Files are read again
    when they change. The constructor raises UnusableCredentials.

    In a program that traces with OpenTelemetry, each call is a span, which the services continue.
    """

    def __init__(
        self,
        query: str = DEFAULT_QUERY,
        indexer: str = DEFAULT_INDEXER,
        *,
        timeout_s: float = 10.0,
        max_message_bytes: int = MAX_MESSAGE_BYTES,
        tls_ca: str | os.PathLike[str] | None = None,
        tls_cert: str | os.PathLike[str] | None = None,
        tls_key: str | os.PathLike[str] | None = None,
        token: str | os.PathLike[str] | None = None,
    ) -> None:
        self._timeout_s = timeout_s
        self._max_message_bytes = max_message_bytes
        credentials = client_credentials(tls_ca, tls_cert, tls_key, token)
        self._query_channel = open_channel(query, max_message_bytes, credentials)
        self._indexer_channel = open_channel(indexer, max_message_bytes, credentials)
        self._query_name = f"the query service at {query}"
        self._indexer_name = f"the indexer at {indexer}"
        self._query = query_pb2_grpc.QueryStub(self._query_channel)
        self._indexer = indexer_pb2_grpc.IndexerStub(self._indexer_channel)

    def close(self) -> None:
        """Closes the connections; calls under way fail."""
        self._query_channel.close()
        self._indexer_channel.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def search(
        self,
        collection: str,
        text: str | None = None,
        *,
        image: bytes | os.PathLike[str] | None = None,
        image_id: str | None = None,
        vector: Sequence[float] | None = None,
        terms: Sequence[Term] | None = None,
        limit: int = 10,
        offset: int = 0,
        filter: str | query_pb2.Condition = "",
        min_score: float | None = None,
        output_fields: Sequence[str] = (),
        strong: bool = False,
        prompt_template: str = "",
        include_query_images: bool = False,
        page_token: str = "",
        timeout_s: float | None = None,
    ) -> SearchResult:
        """The best images for a text, a picture (bytes or path), an indexed image, a vector, or a
        weighted sum of these (`terms`): give exactly one of the five.

        Bounds are those of glimpse/query/v1/query.proto. `strong` sees everything acknowledged
        before the call, slowly. Raises ValueError unless exactly one thing to look for is given.
        """
        request = convert.search_request(
            collection,
            convert.terms_of(text, image, image_id, vector, terms),
            page_token,
            limit=limit,
            offset=offset,
            filter=filter,
            min_score=min_score,
            output_fields=output_fields,
            strong=strong,
            prompt_template=prompt_template,
            include_query_images=include_query_images,
        )
        return convert.search_result(self._ask(self._query.Search, request, timeout_s))

    def get_images(
        self, collection: str, ids: Sequence[str], output_fields: Sequence[str] = ()
    ) -> FoundImages:
        """Images by id, at most 1,000."""
        request = query_pb2.GetImagesRequest(
            collection=collection, ids=ids, output_fields=output_fields
        )
        return convert.found_images(self._ask(self._query.GetImages, request))

    def index(
        self,
        collection: str,
        images: Iterable[ImageFile],
        *,
        create_collection: bool = True,
        force: bool = False,
        max_in_flight: int = 2_048,
        max_in_flight_bytes: int = 256 * 2**20,
        patience_s: float = 120.0,
    ) -> Ingest:
        """Sends images and yields an Acknowledgement for each, in any order.

        Pictures are read ahead, at most `max_in_flight` of them or `max_in_flight_bytes` together
        being unacknowledged. A stream that is cut is opened again, with back-off, and what was not
        acknowledged is sent again, until `patience_s` has passed without any progress. An indexer
        that cannot be reached at the start raises Unavailable at once.
        """
        self._check_indexer()
        options = indexer_pb2.IndexOptions(
            collection=collection, create_collection=create_collection, force=force
        )
        limits = IngestLimits(
            max_in_flight, max_in_flight_bytes, self._max_message_bytes, patience_s
        )
        return Ingest(self._indexer, self._indexer_name, options, images, limits)

    def delete(
        self, collection: str, *, ids: Sequence[str] | None = None, filter: str | None = None
    ) -> int:
        """Deletes images by ids (any number of them) or by filter; returns how many there were."""
        if (ids is None) == (filter is None):
            raise ValueError("give exactly one of ids and filter")
        if filter is not None:
            request = indexer_pb2.DeleteImagesRequest(collection=collection, filter=filter)
            return self._manage(self._indexer.DeleteImages, request).deleted
        assert ids is not None
        deleted = 0
        for start in range(0, max(1, len(ids)), MAX_BATCH_IDS):
            batch = indexer_pb2.Ids(ids=ids[start : start + MAX_BATCH_IDS])
            request = indexer_pb2.DeleteImagesRequest(collection=collection, ids=batch)
            deleted += self._manage(self._indexer.DeleteImages, request).deleted
        return deleted

    def create_collection(
        self, collection: str, *, index_kind: str = "AUTO", metric: str = "INNER_PRODUCT"
    ) -> Collection:
        """Makes an empty collection; names as in Milvus: FLAT, HNSW …; INNER_PRODUCT, COSINE."""
        kinds, metrics = indexer_pb2.IndexKind, indexer_pb2.Metric
        request = indexer_pb2.CreateCollectionRequest(
            collection=collection,
            index_kind=_number(kinds, "INDEX_KIND_", index_kind, "index_kind"),  # type: ignore[arg-type]
            metric=_number(metrics, "METRIC_", metric, "metric"),  # type: ignore[arg-type]
        )
        response = self._manage(self._indexer.CreateCollection, request)
        return convert.collection(response.collection)

    def get_collection(self, collection: str) -> Collection:
        """A collection, its rows counted exactly."""
        request = indexer_pb2.GetCollectionRequest(collection=collection)
        return convert.collection(self._manage(self._indexer.GetCollection, request).collection)

    def collections(self) -> list[Collection]:
        """Every collection, in the order of their names."""
        request = indexer_pb2.ListCollectionsRequest()
        response = self._manage(self._indexer.ListCollections, request)
        return [convert.collection(message) for message in response.collections]

    def drop_collection(self, collection: str) -> None:
        """Removes a collection and all its rows, for good."""
        request = indexer_pb2.DropCollectionRequest(collection=collection, confirm=collection)
        self._manage(self._indexer.DropCollection, request)

    def _check_indexer(self) -> None:
        """Raises Unavailable when nobody is there; a service that starts up is somebody."""
        stub = health_pb2_grpc.HealthStub(self._indexer_channel)
        try:
            request = health_pb2.HealthCheckRequest()
            stub.Check(request, timeout=self._timeout_s)  # type: ignore[attr-defined]
        except grpc.RpcError as error:
            failure = errors.from_rpc_error(error, self._indexer_name)
            if isinstance(failure, errors.Unavailable | errors.DeadlineExceeded):
                raise failure from error

    def _ask(
        self, method: Callable[..., Any], request: Message, timeout_s: float | None = None
    ) -> Any:
        return self._call(method, request, self._query_name, timeout_s or self._timeout_s)

    def _manage(self, method: Callable[..., Any], request: Message) -> Any:
        return self._call(method, request, self._indexer_name, self._timeout_s)

    @staticmethod
    def _call(method: Callable[..., Any], request: Message, peer: str, timeout_s: float) -> Any:
        with calling(request) as trace:
            try:
                return method(request, timeout=timeout_s, metadata=trace)
            except grpc.RpcError as error:
                raise errors.from_rpc_error(error, peer) from error


def _number(kinds: Any, prefix: str, name: str, field: str) -> int:
    """The number of an enum's value by the name that people use. Raises InvalidInput."""
    try:
        return kinds.Value(prefix + name.upper())
    except ValueError:
        names = ", ".join(n.removeprefix(prefix) for n in kinds.keys() if "UNSPECIFIED" not in n)  # noqa: SIM118 (no dict)
        raise errors.InvalidInput(
            f"{field}: must be one of {names}, not {name!r}", field=field
        ) from None
