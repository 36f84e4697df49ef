"""An evaluator and two dealers of relay mode in this process, with the engines of `ppidm serve`. Honest, but for their hooks."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import TYPE_CHECKING

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ppidm.client.transport import Traffic
from ppidm.protocol.masks import dealer_share
from ppidm.protocol.messages import MaskedRequest, SeedRequest, Tensor, answer, parse_request
from ppidm.protocol.relay import RelayedShare, add_relayed, elements_of, relayed_tensors, sign_share
from ppidm.protocol.relay_messages import OPEN, parse_show, share_tensors, split_place, window_answer

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from session import Answer, Model

    from ppidm.protocol.relay_messages import Place

WINDOW = 1 << 30


@dataclass
class Hooks:
    """Where a liar lies. All are honest by default; limb products, which disputes ask for, always are.

    Attributes:
        outputs: of W (x - r) or W r, before anything is added or masked.
        shares: the shares that an evaluator adds.
        tensors: of the answer.
        show: what an evaluator says that dealer number i has sent.
    """

    outputs: Callable[[Answer], Answer] = field(default=lambda outputs: outputs)
    shares: Callable[[list[RelayedShare]], list[RelayedShare]] = field(default=lambda shares: shares)
    tensors: Callable[[list[Tensor]], list[Tensor]] = field(default=lambda tensors: tensors)
    show: Callable[[int, RelayedShare], list[Tensor]] = field(default=lambda _dealer, share: share_tensors(share))


class Server:
    """What both roles have. A request is disputed if it asks for whole answers of direct mode."""

    certificate = None

    def __init__(self, name: str, model: Model) -> None:
        self.hooks, self.traffic, self.address = Hooks(), Traffic(0, 0), name
        self.model, self.is_direct = model, False

    def __str__(self) -> str:
        return self.address

    def ask(self, name: str, tensors: Sequence[Tensor]) -> Callable[[], list[Tensor]]:
        """See `ppidm.client.transport.Server.ask`."""
        place, others = split_place(tensors)
        request = parse_request(others, self.model.layers(name), self.model.ring)
        answered = self.answer_directly(name, request) if place is None else self.answer_placed(name, request, place)
        return lambda: answered

    def answer_directly(self, name: str, request: MaskedRequest | SeedRequest) -> list[Tensor]:
        """In direct mode, and in a dispute, in which everybody is honest."""
        ring = self.model.ring
        is_seed = isinstance(request, SeedRequest)
        digits = dealer_share(ring, request.seed, request.shape) if is_seed else request.digits
        lies = self.is_direct and not _is_limb(digits)
        outputs = self.model.run(name, digits)
        sent = _signed(self.hooks.outputs(outputs) if lies else outputs)
        tensors = answer(sent, ring, request.dropped_bits)
        return self.hooks.tensors(tensors) if lies else tensors

    def answer_placed(self, name: str, request: MaskedRequest | SeedRequest, place: Place) -> list[Tensor]:
        """In relay mode."""
        raise NotImplementedError


def _is_limb(digits: np.ndarray) -> bool:
    return bool((digits[1:] == 128).all())  # noqa: PLR2004  (see `limb_requests`)


def _signed(outputs: Answer) -> list[np.ndarray]:
    return [values.view(np.int32) for values in outputs]


class Evaluator(Server):
    """Adds what dealers have sent, and shows it."""

    def __init__(self, model: Model) -> None:
        super().__init__("evaluator", model)
        self.inbox: dict[tuple[int, int], RelayedShare] = {}
        self.answered: dict[str, list[Tensor]] = {}  # the last, by datatype: whole or truncated

    def relay(self, method: str, tensors: Sequence[Tensor]) -> list[Tensor]:
        """See `ppidm.client.transport.Server.relay`."""
        if method == OPEN:
            return window_answer(WINDOW)
        _, ticket, dealer = parse_show(tensors)
        return self.hooks.show(dealer, self.inbox[dealer, ticket])

    def answer_placed(self, name: str, request: MaskedRequest | SeedRequest, place: Place) -> list[Tensor]:
        """W (x - r) and all shares."""
        assert isinstance(request, MaskedRequest)
        model, shape = self.model, request.digits.shape[1:]
        shares = [share for (_, ticket), share in sorted(self.inbox.items()) if ticket == place.ticket]
        relayed = [elements_of(model.ring, model.layers(name), shape, share) for share in self.hooks.shares(shares)]
        total = add_relayed(model.ring, _signed(self.hooks.outputs(model.run(name, request.digits))), relayed)
        tensors = self.hooks.tensors(answer(total, model.ring, request.dropped_bits))
        self.answered[tensors[0].datatype] = tensors
        return tensors


class Dealer(Server):
    """Signs W r + s and gives it to the evaluator."""

    def __init__(self, index: int, model: Model, evaluator: Evaluator) -> None:
        super().__init__(f"dealer {index + 1}", model)
        self._index, self._evaluator, self._key = index, evaluator, Ed25519PrivateKey.generate()

    def handshake(self) -> SimpleNamespace:
        """See `ppidm.client.transport.Server.handshake`."""
        return SimpleNamespace(signer=self._key.public_key().public_bytes_raw().hex())

    def relay(self, _method: str, _tensors: Sequence[Tensor]) -> list[Tensor]:
        """Connects at once."""
        return []

    def answer_placed(self, name: str, request: MaskedRequest | SeedRequest, place: Place) -> list[Tensor]:
        """Nothing for the client."""
        assert isinstance(request, SeedRequest)
        outputs = self.model.run(name, dealer_share(self.model.ring, request.seed, request.shape))
        tensors = relayed_tensors(self.model.ring, request.seed, _signed(self.hooks.outputs(outputs)))
        share = sign_share(self._key, place.session, name, place.ticket, tensors)
        self._evaluator.inbox[self._index, place.ticket] = share
        return []
