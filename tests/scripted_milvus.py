"""A Milvus that answers what it is told to: for answers that no server at hand gives."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import grpc
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from pymilvus.grpc_gen import common_pb2, milvus_pb2

_METHODS = milvus_pb2.DESCRIPTOR.services_by_name["MilvusService"].methods_by_name

Answer = Message | common_pb2.Status | grpc.StatusCode


class ScriptedMilvus(grpc.GenericRpcHandler):
    """Answers each method with what it has for it in `answers`, one after the other, the last one
    again and again; with success and nothing else where it has nothing.

    A Status stands for a message with that status, a StatusCode for a call that fails with it.
    """

    def __init__(self, version: str) -> None:
        self.requests: list[str] = []  # methods, in the order in which they came
        self.answers: dict[str, deque[Answer]] = {}
        self.script("GetVersion", milvus_pb2.GetVersionResponse(version=version))

    def script(self, method: str, *answers: Answer) -> None:
        self.answers[method] = deque(answers)

    def service(self, handler_call_details):
        method = handler_call_details.method.rpartition("/")[2]
        return grpc.unary_unary_rpc_method_handler(
            lambda _, context: self._answer(method, context),
            response_serializer=lambda message: message.SerializeToString(),
        )

    def _answer(self, method: str, context: grpc.ServicerContext) -> Message:
        self.requests.append(method)
        scripted = self.answers.get(method, ())
        answer = scripted.popleft() if len(scripted) > 1 else next(iter(scripted), None)
        if isinstance(answer, grpc.StatusCode):
            context.abort(answer, "as the script says")
        message = GetMessageClass(_METHODS[method].output_type)()
        if isinstance(answer, type(message)):
            return answer
        if answer is not None:
            message.status.CopyFrom(answer)
        return message

    @contextmanager
    def serve(self) -> Iterator[str]:
        """Yields the URI."""
        server = grpc.server(ThreadPoolExecutor(4), options=[("grpc.so_reuseport", 0)])
        server.add_generic_rpc_handlers([self])
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            server.stop(None).wait()


def status(
    code: int, reason: str = "words that nobody reads", old_code: int = 1, is_input: bool = False
) -> common_pb2.Status:
    """As Milvus 2.4 and newer make it: the code, and beside it the one of Milvus 2.2."""
    answer = common_pb2.Status(code=code, reason=reason, detail=reason, error_code=old_code)
    if is_input:
        answer.extra_info["is_input_error"] = "true"
    return answer
