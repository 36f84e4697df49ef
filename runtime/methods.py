"""The methods of the server: Open Inference Protocol, health, reflection."""

from __future__ import annotations

from time import perf_counter
from typing import TYPE_CHECKING, Any, NoReturn, Protocol

import grpc
from google.protobuf.message import DecodeError
from tritonclient.grpc import service_pb2 as pb

from ppidm.protocol.errors import InputError
from ppidm.protocol.relay_messages import CLOSE, CONNECT, OPEN, SHOW, STREAM
from ppidm.protocol.relay_messages import SERVICE as RELAY
from ppidm.runtime import translation
from ppidm.runtime.inbox import RelayError
from ppidm.runtime.limits import GoneError, RefusedError
from ppidm.runtime.log import describe
from ppidm.runtime.service import UnknownModelError

try:
    from grpc_health.v1 import health_pb2
    from grpc_reflection.v1alpha import reflection, reflection_pb2
except ImportError as error:
    raise InputError(f"a server needs {error.name}; install it with: pip install 'ppidm[server]'") from error

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from concurrent.futures import ThreadPoolExecutor

    from google.protobuf.message import Message
    from structlog.typing import FilteringBoundLogger

    from ppidm.protocol.messages import Tensor
    from ppidm.runtime.calls import Call, Calls
    from ppidm.runtime.relay_methods import RelayMethods
    from ppidm.runtime.service import Service

INFERENCE = "inference.GRPCInferenceService"
HEALTH = "grpc.health.v1.Health"
_LONGEST_MESSAGE = 1000  # characters of an error: gRPC sends it as a header, and those may hold 8 KiB in all
_ANSWER_COPIES = 2  # of an answer that waits to be taken: ours and gRPC's


class Methods:
    """Handlers of all methods; what is not here is answered with UNIMPLEMENTED.

    Args:
        service: the models.
        log: gets unexpected exceptions; at debug level every request, and every refusal.
        calls: under which requests are read and computed.
        largest: bytes of the largest request.
        quick: threads for methods that read nothing.
        relay: what relay mode adds.
    """

    def __init__(
        self,
        service: Service,
        log: FilteringBoundLogger,
        calls: Calls,
        largest: int,
        quick: ThreadPoolExecutor,
        relay: RelayMethods,
    ) -> None:
        self._relay = relay
        self._service, self._log, self._calls, self._largest, self._quick = service, log, calls, largest, quick
        self._reflection = reflection.ReflectionServicer([INFERENCE, HEALTH, reflection.SERVICE_NAME])

    def handlers(self) -> tuple[grpc.GenericRpcHandler, ...]:
        """One per service. Health has one state: a server that answers has loaded all slices."""
        healthy = health_pb2.HealthCheckResponse(status=health_pb2.HealthCheckResponse.SERVING)
        services = {
            INFERENCE: {
                "ServerLive": self._constant(pb.ServerLiveResponse(live=True)),
                "ServerReady": self._constant(pb.ServerReadyResponse(ready=True)),
                "ServerMetadata": self._constant(translation.server_metadata(self._service)),
                "ModelReady": self._unary(self._model_ready),
                "ModelMetadata": self._unary(self._model_metadata),
                "ModelInfer": self._unary(self._infer),
            },
            RELAY: {
                OPEN: self._relayed(self._relay.open),
                CONNECT: self._relayed(self._relay.connect),
                SHOW: self._relayed(self._relay.show),
                CLOSE: self._relayed(self._relay.close),
                STREAM: grpc.stream_unary_rpc_method_handler(self._stream),
            },
            HEALTH: {"Check": self._constant(healthy)},
            reflection.SERVICE_NAME: {"ServerReflectionInfo": grpc.stream_stream_rpc_method_handler(self._reflect)},
        }
        return tuple(grpc.method_handlers_generic_handler(name, methods) for name, methods in services.items())

    def _constant(self, response: Message) -> grpc.RpcMethodHandler:
        """Answers without reading the request."""
        content: bytes = response.SerializeToString()

        def handle(_requests: Iterator[bytes], _context: grpc.ServicerContext) -> bytes:
            return content

        handle.experimental_thread_pool = self._quick  # type: ignore[attr-defined]
        return grpc.stream_unary_rpc_method_handler(handle)

    def _unary(self, answer: Callable[[Call, bytes], bytes]) -> grpc.RpcMethodHandler:
        """Reads one message and answers it."""

        def handle(requests: Iterator[bytes], context: grpc.ServicerContext) -> bytes:
            try:
                with self._calls.enter(context) as call:
                    return answer(call, _first(call, requests, self._largest))
            except grpc.RpcError:  # the client has gone
                raise
            except Exception as error:  # noqa: BLE001  (one request must not end the server)
                self._refuse(context, error)

        return grpc.stream_unary_rpc_method_handler(handle)

    def _relayed(self, answer: Callable[[Call, Sequence[Tensor]], list[Tensor]]) -> grpc.RpcMethodHandler:
        """A method of relay mode: tensors to tensors."""

        def handle(call: Call, content: bytes) -> bytes:
            request = _parse(pb.ModelInferRequest, content)
            tensors = answer(call, translation.tensors_from_request(request))
            return _serialized(translation.response_from_tensors(request, tensors))

        return self._unary(handle)

    def _stream(self, requests: Iterator[bytes], context: grpc.ServicerContext) -> bytes:
        try:
            with self._calls.enter(context) as call:
                self._relay.stream(call, requests, context)
        except grpc.RpcError:
            raise
        except Exception as error:  # noqa: BLE001
            self._refuse(context, error)
        return b""

    def _reflect(self, requests: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
        try:
            with self._calls.enter(context) as call:
                for response in self._reflection.ServerReflectionInfo(
                    _reflected(call, requests, self._largest), context
                ):
                    yield response.SerializeToString()
        except grpc.RpcError:
            raise
        except Exception as error:  # noqa: BLE001
            self._refuse(context, error)

    def _model_ready(self, _call: Call, content: bytes) -> bytes:
        request = _parse(pb.ModelReadyRequest, content)
        ready = self._service.has_model(request.name, request.version)
        return _serialized(pb.ModelReadyResponse(ready=ready))

    def _model_metadata(self, _call: Call, content: bytes) -> bytes:
        request = _parse(pb.ModelMetadataRequest, content)
        return _serialized(translation.model_metadata(self._service.metadata(request.name, request.version)))

    def _infer(self, call: Call, content: bytes) -> bytes:
        """Answer a request of a client, as evaluator or as dealer."""
        started = perf_counter()
        request = _parse(pb.ModelInferRequest, content)
        tensors = translation.tensors_from_request(request)
        del request.raw_input_contents[:], content
        received = _size(tensors)
        name, version = request.model_name, request.model_version
        with self._relay.work(call, name, tensors, version) as (work, deliver):
            with call.computing(work.bytes) as keep:
                answer = work.answer()
                keep(_ANSWER_COPIES * _size(answer))
            answer = deliver(answer)
        response = _serialized(translation.response_from_tensors(request, answer))
        self._log.debug(
            "request",
            slice=request.model_name,
            role=work.role,
            input=work.shape,
            outputs=[tensor.shape for tensor in answer],
            milliseconds=round(1000 * (perf_counter() - started), 3),
            bytes_received=received,
            bytes_sent=_size(answer),
        )
        return response

    def _refuse(self, context: grpc.ServicerContext, error: Exception) -> NoReturn:
        code, text = _STATUS.get(type(error), grpc.StatusCode.INVALID_ARGUMENT), str(error)
        if not isinstance(error, (InputError, RefusedError, GoneError)):
            self._log.error("request failed", **describe(error))
            code, text = grpc.StatusCode.INTERNAL, f"the server failed ({type(error).__name__}); see its operator's log"
        else:
            self._log.debug("refused", code=code.name)
        context.abort(code, text if len(text) <= _LONGEST_MESSAGE else text[:_LONGEST_MESSAGE] + "...")
        raise AssertionError  # context.abort raises


_STATUS = {
    RelayError: grpc.StatusCode.FAILED_PRECONDITION,
    UnknownModelError: grpc.StatusCode.NOT_FOUND,
    RefusedError: grpc.StatusCode.RESOURCE_EXHAUSTED,
    GoneError: grpc.StatusCode.CANCELLED,
}


class _Parsed(Protocol):
    def __getattr__(self, name: str) -> Any: ...  # noqa: ANN401


def _first(call: Call, requests: Iterator[bytes], largest: int) -> bytes:
    content = call.read(requests, largest)
    if content is None:
        raise InputError("no message; expected one")
    return content


def _reflected(call: Call, requests: Iterator[bytes], largest: int) -> Iterator[_Parsed]:
    while (content := call.read(requests, largest)) is not None:
        yield _parse(reflection_pb2.ServerReflectionRequest, content)


def _parse(kind: Any, content: bytes) -> Any:  # noqa: ANN401
    try:
        return kind.FromString(content)
    except DecodeError as error:
        raise InputError(f"{len(content)} bytes that are no {kind.DESCRIPTOR.name}") from error


def _size(tensors: Iterable[Tensor]) -> int:
    return sum(len(tensor.content) for tensor in tensors)


def _serialized(message: Message) -> bytes:
    return bytes(message.SerializeToString())
