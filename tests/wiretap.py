"""A wiretap: a gRPC server between a client and a real one. It records what crosses the wire, and can alter answers."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

import grpc
import numpy as np
from tritonclient.grpc import service_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    Alter = Callable[[str, pb.ModelInferResponse], None]  # name of the slice, and the answer, to be changed in place

INFER = "/inference.GRPCInferenceService/ModelInfer"
OPTIONS = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1), ("grpc.enable_http_proxy", 0)]
WORKERS = 16


@dataclass(frozen=True, repr=False)
class Call:
    """One call, as bytes. `metadata` is what gRPC shows a server besides the message."""

    method: str
    metadata: tuple[tuple[str, str], ...]
    content: bytes
    answer_size: int

    @property
    def request(self) -> pb.ModelInferRequest:
        return pb.ModelInferRequest.FromString(self.content)

    @property
    def slice(self) -> str:
        return self.request.model_name

    @property
    def tensors(self) -> dict[str, bytes]:
        request = self.request
        return {tensor.name: raw for tensor, raw in zip(request.inputs, request.raw_input_contents, strict=True)}

    @property
    def digits(self) -> NDArray[np.uint8]:
        """What an evaluator gets: planar bytes."""
        request = self.request
        return np.frombuffer(request.raw_input_contents[0], np.uint8).reshape(tuple(request.inputs[0].shape))

    def outline(self, *secret: str) -> tuple[Any, ...]:
        """All of the call, byte for byte, but the contents of the tensors that are named."""
        request = self.request
        contents = [
            len(raw) if tensor.name in secret else raw
            for tensor, raw in zip(request.inputs, request.raw_input_contents, strict=True)
        ]
        del request.raw_input_contents[:]
        rest = request.SerializeToString(deterministic=True)
        return self.method, self.metadata, rest, tuple(contents), self.answer_size


@dataclass
class Wiretap(grpc.GenericRpcHandler):
    """Listens at `address` and forwards to `upstream`, as long as the context lasts.

    Attributes:
        calls: what was recorded since they were last taken.
        alter: changes answers on their way to the client.
    """

    upstream: str
    address: str = ""
    calls: list[Call] = field(default_factory=list)
    alter: Alter | None = None

    def __enter__(self) -> Self:
        self._channel = grpc.insecure_channel(self.upstream, OPTIONS)
        self._pool = ThreadPoolExecutor(WORKERS, "wiretap")
        self._server = grpc.server(self._pool, (self,), options=OPTIONS)
        self.address = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        self._server.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.stop(None).wait()
        self._pool.shutdown()
        self._channel.close()

    def service(self, details: Any) -> grpc.RpcMethodHandler:
        """Handle a call of any method, without reading its message."""
        forward = self._channel.unary_unary(details.method)

        def handle(content: bytes, _context: grpc.ServicerContext) -> bytes:
            answer = forward(content)
            if details.method == INFER:
                answer = self._altered(content, answer)
                metadata = tuple(sorted((key, str(value)) for key, value in details.invocation_metadata))
                self.calls.append(Call(details.method, metadata, content, len(answer)))
            return answer

        return grpc.unary_unary_rpc_method_handler(handle)

    def _altered(self, content: bytes, answer: bytes) -> bytes:
        if self.alter is None:
            return answer
        response = pb.ModelInferResponse.FromString(answer)
        self.alter(pb.ModelInferRequest.FromString(content).model_name, response)
        return response.SerializeToString()

    def take(self) -> list[Call]:
        """What was recorded; the record starts anew."""
        taken, self.calls = self.calls, []
        return taken


@dataclass
class Recording:
    """A picture, and what every server received for it: the evaluator first."""

    result: Any
    views: list[list[Call]]

    @property
    def evaluator(self) -> list[Call]:
        return self.views[0]

    @property
    def dealers(self) -> list[list[Call]]:
        return self.views[1:]

    def seeds(self) -> Iterator[bytes]:
        for view in self.dealers:
            yield from (call.tensors["seed"] for call in view)

    def outlines(self) -> list[Counter[tuple[Any, ...]]]:
        """What every server learns besides masked digits and seeds; in no order, since requests overlap."""
        return [Counter(call.outline("masked", "seed") for call in view) for view in self.views]
