"""Runs of relay mode: every message of a session of one request."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from vectors.cases import CONVOLUTION, PRODUCT, STRIDED, WIDE, make_case, pseudorandom
from vectors.described import array, inputs, short

from ppidm.protocol.linear import ANSWER_RING, apply
from ppidm.protocol.masks import Mask, dealer_share
from ppidm.protocol.messages import answer, masked_request, seed_request
from ppidm.protocol.precision import truncation
from ppidm.protocol.relay import add_relayed, elements_of, open_relayed, relayed_tensors, sign_share
from ppidm.protocol.relay_messages import (
    KEY_BYTES,
    SESSION_BYTES,
    TOKEN_BYTES,
    ConnectRelay,
    OpenRelay,
    Place,
    close_request,
    connect_request,
    open_request,
    place_tensors,
    share_tensors,
    show_request,
    window_answer,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray
    from vectors.cases import Case
    from vectors.described import Vector

    from ppidm.protocol.messages import Tensor
    from ppidm.protocol.relay import RelayedShare
    from ppidm.protocol.ring import Digits

PEER, WINDOW = "192.0.2.1:8001", 1 << 20
TICKET, RELEASED = 7, (5, 6)


def named_bytes(name: str, size: int) -> bytes:
    """Bytes that depend on `name` only."""
    return pseudorandom(name, (size,)).tobytes()


@dataclass(frozen=True)
class Relay:
    """A session of one request for the slice `name`, with TLS (a pin) or without."""

    name: str
    case: Case
    pinned: bool = False
    dropped_bits: int = 0

    @property
    def session(self) -> bytes:
        """The client's name for it."""
        return named_bytes(f"{self.name} session", SESSION_BYTES)

    @property
    def tokens(self) -> list[bytes]:
        """One-time, of every dealer."""
        return [named_bytes(f"{self.name} token {index}", TOKEN_BYTES) for index in range(len(self.case.seeds))]

    @property
    def keys(self) -> list[Ed25519PrivateKey]:
        """With which dealers sign. For test vectors only: these are public."""
        private = [named_bytes(f"{self.name} key {index}", KEY_BYTES) for index in range(len(self.case.seeds))]
        return [Ed25519PrivateKey.from_private_bytes(each) for each in private]

    @property
    def signers(self) -> list[bytes]:
        """Their public keys."""
        return [key.public_key().public_bytes_raw() for key in self.keys]

    def opening(self) -> list[Tensor]:
        """Client to evaluator."""
        digests = tuple(hashlib.sha256(token).digest() for token in self.tokens)
        return open_request(OpenRelay(self.session, digests, tuple(self.signers)))

    def connects(self) -> list[list[Tensor]]:
        """Client to every dealer."""
        pin = named_bytes(f"{self.name} pin", 32).hex() if self.pinned else None
        return [connect_request(ConnectRelay(self.session, PEER, pin, token)) for token in self.tokens]

    def deals(self) -> list[list[Tensor]]:
        """Client to every dealer, for the request."""
        place = place_tensors(Place(self.session, TICKET))
        return [[*seed_request(seed, self.case.x.shape), *place] for seed in self.case.seeds]

    def shares(self) -> list[RelayedShare]:
        """Every dealer to the evaluator."""
        shares = []
        for seed, key in zip(self.case.seeds, self.keys, strict=True):
            outputs = self._products(dealer_share(self.case.ring, seed, self.case.x.shape))
            tensors = relayed_tensors(self.case.ring, seed, outputs)
            shares.append(sign_share(key, self.session, self.name, TICKET, tensors))
        return shares

    @cached_property
    def digits(self) -> Digits:
        """What the evaluator gets."""
        case = self.case
        return Mask(case.ring, case.x.shape, case.seeds).hide(case.ring.reduce(case.x))

    def request(self) -> list[Tensor]:
        """Client to evaluator."""
        place = place_tensors(Place(self.session, TICKET, RELEASED))
        return [*masked_request(self.digits, self.dropped_bits), *place]

    def answer(self) -> list[Tensor]:
        """Evaluator to client."""
        ring, layers, shape = self.case.ring, self.case.layers, self.case.x.shape
        elements = [elements_of(ring, layers, shape, share) for share in self.shares()]
        return answer(add_relayed(ring, self._products(self.digits), elements), ring, self.dropped_bits)

    def _products(self, digits: Digits) -> list[NDArray[np.int32]]:
        pairs = zip(self.case.layers, self.case.weights, strict=True)
        return [apply(layer, weights, digits, ANSWER_RING).view(np.int32) for layer, weights in pairs]


def relay_vectors() -> Iterator[tuple[str, Vector]]:
    """Whole answers and truncated ones, both rings, one to three dealers, with a pin and without."""
    for name, case, pinned, truncated in [
        ("product", make_case("relay product", 32, [PRODUCT], (4, 5), 1), False, False),
        ("convolution", make_case("relay convolution", 32, [CONVOLUTION], (1, 4, 3, 3), 2), True, False),
        ("strided_24", make_case("relay strided 24", 24, [STRIDED], (1, 6, 3, 2), 3), False, False),
        ("truncated_24", make_case("relay truncated 24", 24, [PRODUCT], (4, 5), 2), True, True),
        ("truncated_shared_input", make_case("relay truncated", 32, [PRODUCT, WIDE], (3, 5), 1), False, True),
    ]:
        yield f"relay_{name}", relay_vector(Relay(name, case, pinned, truncation(case.ring) if truncated else 0))


def relay_vector(relay: Relay) -> Vector:
    """All of a run."""
    case = relay.case
    given, message = (case.ring, case.layers), relay.answer()
    checks = None if relay.dropped_bits else case.checks
    opened = open_relayed(*given, checks, case.x, case.seeds, message, relay.dropped_bits)
    shares = [share_tensors(share) for share in relay.shares()]
    return {
        **inputs(case),
        "seeds": [seed.reveal().hex() for seed in case.seeds],
        "dropped_bits": relay.dropped_bits,
        "slice": relay.name,
        "ticket": TICKET,
        "released": list(RELEASED),
        **session_vector(relay),
        "deals": [[short(tensor) for tensor in deal] for deal in relay.deals()],
        "shares": [[short(tensor) for tensor in share] for share in shares],
        "request": [short(tensor) for tensor in relay.request()],
        "answer": [short(tensor) for tensor in message],
        "opened": [array(result) for result in opened],
    }


def session_vector(relay: Relay) -> Vector:
    """What opens and closes the session, and what a dispute about the request would ask for."""
    shows = [show_request(relay.session, TICKET, dealer) for dealer in range(len(relay.case.seeds))]
    return {
        "session": relay.session.hex(),
        "tokens": [token.hex() for token in relay.tokens],
        "keys": [key.private_bytes_raw().hex() for key in relay.keys],
        "open": [short(tensor) for tensor in relay.opening()],
        "window": [short(tensor) for tensor in window_answer(WINDOW)],
        "connects": [[short(tensor) for tensor in connect] for connect in relay.connects()],
        "shows": [[short(tensor) for tensor in show] for show in shows],
        "close": [short(tensor) for tensor in close_request(relay.session)],
    }
