"""The methods of relay mode, and what requests for slices mean in it."""

from __future__ import annotations

from contextlib import contextmanager
from math import inf
from typing import TYPE_CHECKING, Any

from google.protobuf.message import DecodeError
from tritonclient.grpc import service_pb2 as pb

from ppidm.protocol.errors import InputError
from ppidm.protocol.messages import SEED, SeedRequest, answer
from ppidm.protocol.relay import add_relayed, elements_of, relayed_tensors, sign_share
from ppidm.protocol.relay_messages import (
    SESSION_METADATA,
    parse_close,
    parse_connect,
    parse_open,
    parse_share,
    parse_show,
    share_tensors,
    split_place,
    window_answer,
)
from ppidm.runtime.inbox import RelayError
from ppidm.runtime.peers import host_of, incoming_fingerprint
from ppidm.runtime.translation import tensors_from_request

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import grpc
    import numpy as np
    from numpy.typing import NDArray

    from ppidm.protocol.messages import MaskedRequest, Tensor
    from ppidm.protocol.relay_messages import Place
    from ppidm.runtime.calls import Call
    from ppidm.runtime.peers import Peers
    from ppidm.runtime.relays import Relays
    from ppidm.runtime.service import Service, Work

    Outputs = Sequence[NDArray[np.int32]]
    Request = MaskedRequest | SeedRequest

BEARER = "Bearer "


class RelayMethods:
    """What relay mode adds to a server, in both roles.

    Args:
        service: the models.
        relays: sessions, as evaluator.
        peers: streams, as dealer.
    """

    def __init__(self, service: Service, relays: Relays, peers: Peers) -> None:
        self._service, self.relays, self._peers = service, relays, peers

    def open(self, call: Call, tensors: Sequence[Tensor]) -> list[Tensor]:
        """As evaluator: a session."""
        return window_answer(self.relays.open(call.client, parse_open(tensors)))

    def connect(self, call: Call, tensors: Sequence[Tensor]) -> list[Tensor]:
        """As dealer: a stream to the evaluator that the client names."""
        self._peers.connect(call.client, parse_connect(tensors))
        return []

    def show(self, _call: Call, tensors: Sequence[Tensor]) -> list[Tensor]:
        """As evaluator, in a dispute: what a dealer sent and signed."""
        name, ticket, dealer = parse_show(tensors)
        inboxes = self.relays.session(name).inboxes
        share = inboxes[dealer].get(ticket) if 0 <= dealer < len(inboxes) else None
        if share is None:
            raise RelayError(f"relay: nothing of dealer {dealer} for ticket {ticket}")
        return share_tensors(share)

    def close(self, _call: Call, tensors: Sequence[Tensor]) -> list[Tensor]:
        """As evaluator: the end of a session."""
        self.relays.close(parse_close(tensors))
        return []

    @contextmanager
    def work(
        self, call: Call, name: str, tensors: Sequence[Tensor], version: str
    ) -> Iterator[tuple[Work, Callable[[list[Tensor]], list[Tensor]]]]:
        """A request for a slice, and what becomes of its answer: of a dealer's, in relay mode, it goes to the evaluator."""
        place, others = split_place(tensors)
        if place is None:
            yield self._service.prepare(name, others, version), lambda tensors: tensors
        elif any(tensor.name == SEED for tensor in others):
            outbox = self._peers.outbox(place.session)

            def send(relayed: list[Tensor]) -> list[Tensor]:
                request = _share_message(name, relayed)
                outbox.send(request.SerializeToString(), call.until, call.is_wanted)
                return []

            finish = self._dealt(name, place)
            yield self._service.prepare(name, others, version, finish), send
        else:
            yield (
                self._service.prepare(name, others, version, self._relayed(call, name, place)),
                lambda tensors: tensors,
            )

    def _dealt(self, name: str, place: Place) -> Callable[[Outputs, Request], list[Tensor]]:
        def finish(outputs: Outputs, request: Request) -> list[Tensor]:
            assert isinstance(request, SeedRequest)
            tensors = relayed_tensors(self._service.ring, request.seed, outputs)
            return share_tensors(sign_share(self._service.signer, place.session, name, place.ticket, tensors))

        return finish

    def _relayed(self, call: Call, name: str, place: Place) -> Callable[[Outputs, Request], list[Tensor]]:
        session = self.relays.session(place.session)
        session.touch()
        session.release(place.released)
        shares = session.wait(place.ticket, call.until, call.is_wanted)
        if others := {share.slice for share in shares} - {name}:
            raise RelayError(f"relay: ticket {place.ticket} is of slice {ascii(others)[:200]}, not of {name}")

        def finish(outputs: Outputs, request: Request) -> list[Tensor]:
            assert not isinstance(request, SeedRequest)
            ring, shape = self._service.ring, request.digits.shape[1:]
            layers = self._service.layers(name)
            relayed = [elements_of(ring, layers, shape, share) for share in shares]
            return answer(add_relayed(ring, outputs, relayed), ring, request.dropped_bits)

        return finish

    def stream(self, call: Call, requests: Iterator[bytes], context: grpc.ServicerContext) -> None:
        """As evaluator: what one dealer sends for one session, until it ends."""
        metadata = dict(context.invocation_metadata())
        session = self.relays.session(_hexadecimal(metadata, SESSION_METADATA))
        if not self._peers.allowed.allows_incoming(host_of(context.peer()), incoming_fingerprint(context)):
            raise RelayError("relay: this peer is not allowed; the operator allows others with --allow-peer")
        inbox = session.accept(_hexadecimal(metadata, "authorization"))
        if inbox is None:
            raise RelayError("relay: no such token, or it was used before")
        call.until = inf  # it ends with its session
        inbox.end = call.cancel
        try:
            self._receive(call, requests, session.name, inbox)
        finally:
            inbox.fail("the dealer's stream has ended")

    def _receive(self, call: Call, requests: Iterator[bytes], session: bytes, inbox: Any) -> None:  # noqa: ANN401
        largest = self.relays.largest
        while True:
            inbox.reserve(largest, call.is_wanted)
            share = None
            try:
                content = next(requests, None)
                if content is None:
                    return
                request = _parse(content)
                share = parse_share(request.model_name, tensors_from_request(request))
            finally:
                inbox.settle(largest, session, share)


def _parse(content: bytes) -> pb.ModelInferRequest:
    try:
        return pb.ModelInferRequest.FromString(content)
    except DecodeError as error:
        raise InputError(f"{len(content)} bytes that are no relayed share") from error


def _share_message(name: str, tensors: Sequence[Tensor]) -> pb.ModelInferRequest:
    kind = pb.ModelInferRequest.InferInputTensor
    return pb.ModelInferRequest(
        model_name=name,
        inputs=[kind(name=tensor.name, datatype=tensor.datatype, shape=tensor.shape) for tensor in tensors],
        raw_input_contents=[tensor.content for tensor in tensors],
    )


def _hexadecimal(metadata: dict[str, Any], key: str) -> bytes:
    try:
        return bytes.fromhex(str(metadata.get(key, "")).removeprefix(BEARER))
    except ValueError as error:
        raise RelayError(f"relay: no {key}") from error
