"""One connection per server, over the Open Inference Protocol (KServe v2, gRPC)."""

from __future__ import annotations

from dataclasses import dataclass
from threading import Lock
from typing import TYPE_CHECKING, Any

import grpc
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc.service_pb2_grpc import GRPCInferenceServiceStub

from ppidm.client.links import LOOPBACK, LinkSettings, open_link
from ppidm.protocol.address import parse_address
from ppidm.protocol.errors import InputError, PeerError
from ppidm.protocol.handshake import Handshake, parse_extensions
from ppidm.protocol.messages import Tensor
from ppidm.protocol.relay_messages import SERVICE

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_LONGEST_QUOTE = 300  # characters of a server's text that an error repeats


@dataclass(frozen=True)
class Traffic:
    """Bytes of serialised messages; framing excluded."""

    sent: int
    received: int


class _ByteCounter(grpc.UnaryUnaryClientInterceptor):  # type: ignore[misc]
    """Counts what crosses the wire."""

    def __init__(self) -> None:
        self._lock = Lock()
        self.sent = self.received = 0

    def intercept_unary_unary(self, continuation: Callable[..., Any], details: Any, request: Any) -> Any:  # noqa: ANN401
        """Count one call."""
        with self._lock:
            self.sent += request.ByteSize()
        return _CountedCall(continuation(details, request), self._count_response)

    def _count_response(self, size: int) -> None:
        with self._lock:
            self.received += size


class _CountedCall:
    """A call that counts its response when it is read; gRPC's own callbacks may come after the report."""

    def __init__(self, call: Any, count: Callable[[int], None]) -> None:  # noqa: ANN401
        self._call, self._count = call, count

    def result(self) -> Any:  # noqa: ANN401
        """Wait for the response; called once."""
        response = self._call.result()
        self._count(response.ByteSize())
        return response


class Server:
    """A server in one role.

    Args:
        role: "evaluator" or "dealer".
        address: HOST:PORT.
        timeout: seconds that one request may take.
        links: pins, certificates, token.

    Raises:
        InputError: the address is malformed, or neither pinned nor loopback.
        PeerError: the server has not the pinned certificate.
    """

    def __init__(self, role: str, address: str, timeout: float, links: LinkSettings = LOOPBACK) -> None:
        self.role = role
        self._timeout = timeout
        self._counter = _ByteCounter()
        self._link = open_link(parse_address(address), links, timeout)
        self.address = self._link.address
        self._channel = grpc.intercept_channel(self._link.channel, self._counter)
        self._stub = GRPCInferenceServiceStub(self._channel)

    def __str__(self) -> str:
        return f"{self.role} {self.address}"

    @property
    def certificate(self) -> str | None:
        """Fingerprint of its certificate; None on loopback without TLS."""
        return self._link.certificate

    @property
    def traffic(self) -> Traffic:
        """Bytes so far."""
        return Traffic(self._counter.sent, self._counter.received)

    def handshake(self) -> Handshake:
        """Which package the server has, and which process it is.

        Raises:
            PeerError: it cannot be reached, or is no server of ppidm.
        """
        try:
            answer = self._stub.ServerMetadata(
                pb.ServerMetadataRequest(), timeout=self._timeout, metadata=self._link.metadata
            )
            return parse_extensions(answer.extensions)
        except grpc.RpcError as error:
            raise self._peer_error(error) from None
        except InputError as error:
            raise PeerError(f"{self}: {error}") from None

    def ask(self, model: str, tensors: Sequence[Tensor]) -> Callable[[], list[Tensor]]:
        """Send a request for a slice.

        Returns:
            A function that waits for the answer, and raises PeerError if there is none.
        """
        return self._pending(self._stub.ModelInfer, model, tensors)

    def relay(self, method: str, tensors: Sequence[Tensor]) -> list[Tensor]:
        """Call a method of relay mode.

        Raises:
            PeerError: there is no answer.
        """
        multicallable = self._channel.unary_unary(
            f"/{SERVICE}/{method}", pb.ModelInferRequest.SerializeToString, pb.ModelInferResponse.FromString
        )
        return self._pending(multicallable, "", tensors)()

    def _pending(self, method: Any, model: str, tensors: Sequence[Tensor]) -> Callable[[], list[Tensor]]:  # noqa: ANN401
        request = _request_from_tensors(model, tensors)
        call = method.future(request, timeout=self._timeout, metadata=self._link.metadata)

        def answer() -> list[Tensor]:
            try:
                return _tensors_from_response(call.result())
            except grpc.RpcError as error:
                raise self._peer_error(error) from None
            except InputError as error:
                raise PeerError(f"{self}: {error}") from None

        return answer

    def close(self) -> None:
        """Close the connection; requests in flight fail."""
        self._link.channel.close()

    def _tls_advice(self) -> str:
        return "" if self.certificate else ", with --pin if it uses TLS"

    def _peer_error(self, error: Any) -> PeerError:  # noqa: ANN401
        code, details = error.code(), ascii(error.details() or "")[:_LONGEST_QUOTE]
        advice = {
            grpc.StatusCode.UNAVAILABLE: f"is `ppidm serve` running there? Start it and try again{self._tls_advice()}",
            grpc.StatusCode.UNAUTHENTICATED: "give the token that its operator made for you (--token-file)",
            grpc.StatusCode.DEADLINE_EXCEEDED: f"no answer within {self._timeout:g} s; raise --timeout, or try again",
        }.get(code, "see the server's log")
        return PeerError(f"{self} failed: {code.name}, {details}; {advice}")


def _request_from_tensors(model: str, tensors: Sequence[Tensor]) -> pb.ModelInferRequest:
    kind = pb.ModelInferRequest.InferInputTensor
    return pb.ModelInferRequest(
        model_name=model,
        inputs=[kind(name=tensor.name, datatype=tensor.datatype, shape=tensor.shape) for tensor in tensors],
        raw_input_contents=[tensor.content for tensor in tensors],
    )


def _tensors_from_response(response: pb.ModelInferResponse) -> list[Tensor]:
    if len(response.outputs) != len(response.raw_output_contents):
        raise InputError(
            f"an answer with {len(response.outputs)} outputs and {len(response.raw_output_contents)} raw contents; "
            "expected one content per output"
        )
    pairs = zip(response.outputs, response.raw_output_contents, strict=True)
    return [Tensor(output.name, output.datatype, tuple(output.shape), content) for output, content in pairs]
