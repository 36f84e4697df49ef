"""Relay mode in one process: an evaluator that keeps what dealers send it, and dealers that sign."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from parties import Party

from ppidm.protocol.linear import ANSWER_RING, apply
from ppidm.protocol.masks import dealer_share
from ppidm.protocol.messages import SeedRequest, Tensor, answer, parse_request
from ppidm.protocol.relay import RelayedShare, add_relayed, elements_of, relayed_tensors, sign_share
from ppidm.protocol.relay_messages import OPEN, SHOW, parse_show, share_tensors, split_place, window_answer

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from parties import Slice, Tamper

    from ppidm.protocol.relay_messages import Place
    from ppidm.protocol.ring import Elements, Ring

WINDOW = 1 << 30


def as_computed(elements: Elements) -> Elements:
    """Change nothing."""
    return elements


def as_sent(_dealer: int, share: RelayedShare) -> list[Tensor]:
    """Show it."""
    return share_tensors(share)


class RelayEvaluator(Party):
    """Adds what dealers have sent. In a dispute it shows what `shown` makes of it."""

    address, certificate = "evaluator:1", None

    def __init__(self, role: str, slices: Mapping[str, Slice], tamper: Tamper, ring: Ring) -> None:
        super().__init__(role, slices, tamper, ring)
        self.inbox: dict[tuple[int, int], RelayedShare] = {}
        self.shown: Callable[[int, RelayedShare], list[Tensor]] = as_sent

    def compute(self, name: str, tensors: Sequence[Tensor]) -> list[Tensor]:
        """The honest answer."""
        place, others = split_place(tensors)
        if place is None:
            return super().compute(name, others)
        held = self._slices[name]
        request = parse_request(others, [held.layer], self._ring)
        assert not isinstance(request, SeedRequest)
        own = [apply(held.layer, held.weights, request.digits, ANSWER_RING).view(np.int32)]
        shares = [share for (_, ticket), share in self.inbox.items() if ticket == place.ticket]
        shape = request.digits.shape[1:]
        relayed = [elements_of(self._ring, [held.layer], shape, share) for share in shares]
        return answer(add_relayed(self._ring, own, relayed), self._ring, request.dropped_bits)

    def relay(self, method: str, tensors: Sequence[Tensor]) -> list[Tensor]:
        """See `ppidm.client.transport.Server.relay`."""
        if method == OPEN:
            return window_answer(WINDOW)
        if method == SHOW:
            _, ticket, dealer = parse_show(tensors)
            return self.shown(dealer, self.inbox[dealer, ticket])
        return []


class RelayDealer(Party):
    """Signs W r + s and gives it to the evaluator. `lie` changes W r before that."""

    def __init__(
        self, role: str, index: int, slices: Mapping[str, Slice], evaluator: RelayEvaluator, ring: Ring
    ) -> None:
        super().__init__(role, slices, ring=ring)
        self._index, self._evaluator, self._key = index, evaluator, Ed25519PrivateKey.generate()
        self.lie: Callable[[Elements], Elements] = as_computed

    def handshake(self) -> SimpleNamespace:
        """See `ppidm.client.transport.Server.handshake`."""
        return SimpleNamespace(signer=self._key.public_key().public_bytes_raw().hex())

    def relay(self, _method: str, _tensors: Sequence[Tensor]) -> list[Tensor]:
        """Connects at once."""
        return []

    def compute(self, name: str, tensors: Sequence[Tensor]) -> list[Tensor]:
        """Nothing for the client, in relay mode."""
        place, others = split_place(tensors)
        if place is None:
            return super().compute(name, others)
        self._deal(name, others, place)
        return []

    def _deal(self, name: str, tensors: Sequence[Tensor], place: Place) -> None:
        held = self._slices[name]
        request = parse_request(tensors, [held.layer], self._ring)
        assert isinstance(request, SeedRequest)
        digits = dealer_share(self._ring, request.seed, request.shape)
        product = self.lie(apply(held.layer, held.weights, digits, ANSWER_RING)).view(np.int32)
        relayed = relayed_tensors(self._ring, request.seed, [product])
        share = sign_share(self._key, place.session, name, place.ticket, relayed)
        self._evaluator.inbox[self._index, place.ticket] = share
