"""The transport: a service of models over gRPC."""
# ruff: noqa: N802, ARG002  (names and arguments of the generated base class)

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from time import perf_counter
from typing import TYPE_CHECKING, Any, NoReturn

import grpc
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc import service_pb2_grpc as pb_grpc

from ppidm.protocol.address import Address
from ppidm.protocol.errors import InputError
from ppidm.runtime import translation
from ppidm.runtime.links import LOOPBACK, Gate, LinkSettings, bind
from ppidm.runtime.log import describe, forwarding
from ppidm.runtime.service import UnknownModelError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from structlog.typing import FilteringBoundLogger

    from ppidm.runtime.service import Served, Service

MAX_MESSAGE_BYTES = 1 << 30  # of a request or a response
MAX_WAITING = 256  # requests that are accepted at once; more are refused as RESOURCE_EXHAUSTED
GRACE_SECONDS = 10.0  # for requests in flight when the server is stopped
_LONGEST_MESSAGE = 1000  # characters of an error: gRPC sends it as a header, and those may hold 8 KiB in all
_OPTIONS = [
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ("grpc.so_reuseport", 0),  # a port in use is an error, not a second server that gets half of the requests
]


class InferenceServicer(pb_grpc.GRPCInferenceServiceServicer):  # type: ignore[misc]  # generated code without types
    """Health, metadata and ModelInfer; the base class answers everything else with UNIMPLEMENTED.

    Args:
        service: the models.
        log: gets unexpected exceptions, and every request at debug level.
    """

    def __init__(self, service: Service, log: FilteringBoundLogger) -> None:
        self._service, self._log = service, log

    def ServerLive(self, request: pb.ServerLiveRequest, context: grpc.ServicerContext) -> pb.ServerLiveResponse:
        """A server that answers is alive."""
        return pb.ServerLiveResponse(live=True)

    def ServerReady(self, request: pb.ServerReadyRequest, context: grpc.ServicerContext) -> pb.ServerReadyResponse:
        """It listens only after all slices are loaded, so a server that answers is ready."""
        return pb.ServerReadyResponse(ready=True)

    def ServerMetadata(
        self, request: pb.ServerMetadataRequest, context: grpc.ServicerContext
    ) -> pb.ServerMetadataResponse:
        """Which package, and which process."""
        return translation.server_metadata(self._service)

    def ModelReady(self, request: pb.ModelReadyRequest, context: grpc.ServicerContext) -> pb.ModelReadyResponse:
        """Whether there is such a model."""
        return pb.ModelReadyResponse(ready=self._service.has_model(request.name, request.version))

    def ModelMetadata(
        self, request: pb.ModelMetadataRequest, context: grpc.ServicerContext
    ) -> pb.ModelMetadataResponse:
        """Inputs and outputs of a model."""
        return self._guard(
            context, lambda: translation.model_metadata(self._service.metadata(request.name, request.version))
        )

    def ModelInfer(self, request: pb.ModelInferRequest, context: grpc.ServicerContext) -> pb.ModelInferResponse:
        """Answer a request of a client, as evaluator or as dealer."""
        return self._guard(context, lambda: self._infer(request))

    def _infer(self, request: pb.ModelInferRequest) -> pb.ModelInferResponse:
        started = perf_counter()
        tensors = translation.tensors_from_request(request)
        served = self._service.infer(request.model_name, tensors, request.model_version)
        response = translation.response_from_tensors(request, served.answer)
        self._log_request(request, served, perf_counter() - started)
        return response

    def _log_request(self, request: pb.ModelInferRequest, served: Served, seconds: float) -> None:
        self._log.debug(
            "request",
            slice=request.model_name,
            role=served.role,
            input=served.shape,
            outputs=[tensor.shape for tensor in served.answer],
            milliseconds=round(1000 * seconds, 3),
            bytes_received=sum(map(len, request.raw_input_contents)),
            bytes_sent=sum(len(tensor.content) for tensor in served.answer),
        )

    def _guard(self, context: grpc.ServicerContext, answer: Callable[[], Any]) -> Any:  # noqa: ANN401
        """`answer()`, with exceptions as status codes."""
        try:
            return answer()
        except UnknownModelError as error:
            _abort(context, grpc.StatusCode.NOT_FOUND, str(error))
        except InputError as error:
            _abort(context, grpc.StatusCode.INVALID_ARGUMENT, str(error))
        except Exception as error:  # noqa: BLE001  (one request must not end the server)
            self._log.error("request failed", **describe(error))
            _abort(
                context, grpc.StatusCode.INTERNAL, f"the server failed ({type(error).__name__}); see its operator's log"
            )


def _abort(context: grpc.ServicerContext, code: grpc.StatusCode, message: str) -> NoReturn:
    context.abort(code, message if len(message) <= _LONGEST_MESSAGE else message[:_LONGEST_MESSAGE] + "...")
    raise AssertionError  # context.abort raises


@contextmanager
def running(
    service: Service, address: Address, workers: int, log: FilteringBoundLogger, links: LinkSettings = LOOPBACK
) -> Iterator[Address]:
    """Serve until the block ends; then refuse new requests, and finish those in flight (at most `GRACE_SECONDS`).

    Args:
        service: the models.
        address: numeric; port 0 picks a free one.
        workers: requests that are computed at once.
        log: see `InferenceServicer`.
        links: certificates and tokens; by default none, for loopback.

    Yields:
        The address with the real port.

    Raises:
        InputError: the port is in use.
    """
    with forwarding("grpc", log), ThreadPoolExecutor(workers, thread_name_prefix="request") as pool:
        server = grpc.server(pool, None, [Gate(links)], options=_OPTIONS, maximum_concurrent_rpcs=MAX_WAITING)
        pb_grpc.add_GRPCInferenceServiceServicer_to_server(InferenceServicer(service, log), server)
        port = bind(server, address, links)
        server.start()
        try:
            yield Address(address.host, port)
        finally:
            server.stop(GRACE_SECONDS).wait()
