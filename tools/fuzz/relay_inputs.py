"""What is fuzzed of relay mode: messages of sessions, places of requests, shares that dealers send."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from corpus import LAYERS, RING, SHAPES
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from tritonclient.grpc import service_pb2 as pb
from victim import serialised

from ppidm.protocol import relay_messages as messages
from ppidm.protocol.messages import masked_request, seed_request
from ppidm.protocol.prg import Seed
from ppidm.protocol.relay import add_relayed, elements_of, relayed_tensors, require_signature, sign_share
from ppidm.runtime.translation import tensors_from_request

if TYPE_CHECKING:
    from ppidm.protocol.messages import Tensor
    from ppidm.protocol.relay import RelayedShare

SESSION, KEY = bytes(range(16)), Ed25519PrivateKey.from_private_bytes(bytes(32))
SIGNER = KEY.public_key().public_bytes_raw()
PARSERS = {
    messages.OPEN: messages.parse_open,
    messages.CONNECT: messages.parse_connect,
    messages.SHOW: messages.parse_show,
    messages.CLOSE: messages.parse_close,
    "window": messages.parse_window,
    "place": messages.split_place,
}


def relay_message(content: bytes) -> None:
    """Any message of a session, by the name of its method; a place, by default."""
    message = pb.ModelInferRequest.FromString(content)
    PARSERS.get(message.model_name, messages.split_place)(tensors_from_request(message))


def relayed_share(content: bytes) -> None:
    """What an evaluator does with a message of a dealer's stream, and when the client asks; the signature last: few would pass."""
    message = pb.ModelInferRequest.FromString(content)
    share = messages.parse_share(message.model_name, tensors_from_request(message))
    layer, shape = LAYERS.get(share.slice, LAYERS["conv"]), SHAPES.get(share.slice, SHAPES["conv"])
    elements = elements_of(RING, [layer], shape, share)
    add_relayed(RING, [np.zeros(layer.output_shape(shape), np.int32)], [elements])
    require_signature(SIGNER, SESSION, share)


def relay_messages() -> list[bytes]:
    """Serialised, one of each kind; the model's name is that of the method."""
    opened = messages.OpenRelay(SESSION, (b"\1" * 32, b"\2" * 32), (b"\3" * 32, b"\4" * 32))
    connect = messages.ConnectRelay(SESSION, "192.0.2.1:8001", "ab" * 32, b"\5" * 32)
    kinds: dict[str, list[Tensor]] = {
        messages.OPEN: messages.open_request(opened),
        messages.CONNECT: messages.connect_request(connect),
        messages.SHOW: messages.show_request(SESSION, 3, 1),
        messages.CLOSE: messages.close_request(SESSION),
        "window": messages.window_answer(1 << 20),
        "place": messages.place_tensors(messages.Place(SESSION, 4, (1, 2))),
    }
    return [serialised(name, tensors) for name, tensors in kinds.items()]


def placed_requests() -> list[bytes]:
    """Serialised requests of both roles, in a session."""
    place, shape = messages.place_tensors(messages.Place(SESSION, 4, (3,))), SHAPES["to_out"]
    digits = np.full((RING.limbs, *shape), 128, np.uint8)
    both = masked_request(digits, RING.bits - 16), seed_request(Seed(bytes(32)), shape)
    return [serialised("to_out", [*request, *place]) for request in both]


def relayed_shares() -> list[bytes]:
    """Serialised, signed, one for every slice."""
    return [serialised(share.slice, messages.share_tensors(share)) for share in map(_share, LAYERS)]


def _share(name: str) -> RelayedShare:
    outputs = [np.zeros(LAYERS[name].output_shape(SHAPES[name]), np.int32)]
    return sign_share(KEY, SESSION, name, 5, relayed_tensors(RING, Seed(bytes(32)), outputs))
