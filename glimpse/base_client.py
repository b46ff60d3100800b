"""What both clients stand on: a channel to each service and its stub; making calls is theirs."""

from __future__ import annotations

import contextlib
import inspect
import os
import threading
from collections.abc import Callable, Iterator
from typing import Any

import grpc

from glimpse.arguments import checked
from glimpse.calls import UnaryCall
from glimpse.indexer.v1 import indexer_pb2_grpc
from glimpse.query.v1 import query_pb2_grpc
from glimpse.results import CollectionModel
from glimpse.shrinking import LargePictures
from glimpse.transport.channel import MAX_MESSAGE_BYTES
from glimpse.transport.credentials import client_credentials
from glimpse.transport.diagnosis import Diagnosis
from glimpse.transport.host_port import check_target
from glimpse.transport.status import from_rpc_error
from glimpse.transport.tracing import calling

DEFAULT_QUERY = "127.0.0.1:50053"
DEFAULT_INDEXER = "127.0.0.1:50052"

_STUBS = {"query": query_pb2_grpc.QueryStub, "indexer": indexer_pb2_grpc.IndexerStub}


class BaseClient:
    """BaseClient to the query service and the indexer; made once and kept.

    Addresses are HOST:PORT, such as [::1]:50053, or dns:///NAME:PORT for every address of a name.
    Connections are opened when they are first needed. `timeout_s` bounds each call except `index`,
    in seconds, unless the call is given its own. Every method raises errors of glimpse.errors.
    Before it does, a call has been made five times within its bound: within about a second where
    the service is out of reach, at the times that it asks for where it is overloaded. A service
    that most calls fail at for long gets each only once. Where none came through, up to a second
    more goes into a look at why.

    `tls_ca` is the PEM file of the authorities that the services' certificates must be issued by,
    and turns TLS on; `tls_cert` and `tls_key` are shown to services that ask for a certificate.
    `token` is sent with each call: the token itself, or the path of its file. Files are read again
    when they change. The constructor raises UnusableCredentials, and InvalidInput for what is no
    address. Arguments of a wrong type are a TypeError that names them, here and in every method.

    A picture to search by is sent as what the model sees of it, where that is less than the file:
    hits are the same. That takes Pillow, the release of the services, and this process' memory and
    time for decoding; `shrink_pictures=False` has files sent as they are, which is better for
    strangers' files: the services decode them in processes that may end.

    In a program that traces with OpenTelemetry, each call is a span, which the services continue.
    """

    _open: Callable[..., Any]

    @checked
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
        shrink_pictures: bool = True,
    ) -> None:
        self._timeout_s = timeout_s
        self._shrinks_pictures = shrink_pictures
        # By collection; None: the service does not say.
        self._models: dict[str, CollectionModel | None] = {}
        self._max_message_bytes = max_message_bytes
        self._credentials = client_credentials(tls_ca, tls_cert, tls_key, token)
        self._credentials.check()
        self._targets = {"query": query, "indexer": indexer}
        for name, target in self._targets.items():
            check_target(name, target)
        self._names = {
            "query": f"the query service at {query}",
            "indexer": f"the indexer at {indexer}",
        }
        self._diagnoses = {
            service: Diagnosis(self._names[service], target, self._credentials)
            for service, target in self._targets.items()
        }
        self._connections: dict[str, tuple[Any, Any]] = {}
        self._opening = threading.Lock()
        self._is_closed = False

    def _connection(self, service: str) -> tuple[Any, Any]:
        """The channel to a service and its stub, opened when they are first needed."""
        with self._opening:
            self._check_open()
            if service not in self._connections:
                channel = type(self)._open(
                    self._targets[service], self._max_message_bytes, credentials=self._credentials
                )
                self._connections[service] = channel, _STUBS[service](channel)
            return self._connections[service]

    def _check_open(self) -> None:
        if self._is_closed:
            raise RuntimeError(f"this {type(self).__name__} is closed")

    def _channels_to_close(self) -> list[Any]:
        """Those that are open; no other is opened any more."""
        with self._opening:
            self._is_closed = True
            return [channel for channel, _ in self._connections.values()]

    def _large_pictures(self, call: UnaryCall[Any]) -> LargePictures | None:
        """The call's pictures that are to become smaller, if there are any."""
        if not self._shrinks_pictures:
            return None
        return LargePictures(call.request) or None

    @contextlib.contextmanager
    def _begun(self, call: UnaryCall[Any]) -> Iterator[Any]:
        """What the stub returns: the answer, or something to await for it.

        Around it are the call's span, and gRPC's errors become those of glimpse.errors.
        """
        _, stub = self._connection(call.service)
        method = getattr(stub, call.method)
        timeout_s = self._timeout_s if call.timeout_s is None else call.timeout_s
        with calling(call.request) as trace:
            try:
                yield method(call.request, timeout=timeout_s, metadata=trace)
            except grpc.RpcError as error:
                raise from_rpc_error(error, self._names[call.service]) from error


def present(method: Any, describe: Callable[..., UnaryCall[Any]]) -> None:
    """Gives a client's method the name, the arguments and the text of the call that it makes."""
    signature = inspect.signature(describe)
    this = inspect.Parameter("self", inspect.Parameter.POSITIONAL_OR_KEYWORD)
    result = str(signature.return_annotation).removeprefix("UnaryCall[").removesuffix("]")
    method.__signature__ = signature.replace(
        parameters=[this, *signature.parameters.values()], return_annotation=result
    )
    method.__name__, method.__doc__ = describe.__name__, describe.__doc__
