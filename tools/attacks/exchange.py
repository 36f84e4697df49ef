"""One exchange of the protocol, honest so far, for attacks on the correctness of answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from parties import RING, Slice, draw_activation

from ppidm.protocol.dispute import judge, limb_requests
from ppidm.protocol.errors import CheckError, InputError
from ppidm.protocol.masks import Mask, dealer_share
from ppidm.protocol.messages import MaskedRequest, Tensor, masked_request, parse_answer, parse_request
from ppidm.protocol.run import Transcript, ask, open_answers, serve

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ppidm.protocol.ring import Digits, Elements, Integers

    Show = Callable[[list[Digits], list[Elements]], list[Elements]]

EVALUATOR, DEALER = 0, 1


@dataclass
class Exchange:
    """A request for a slice, and the honest answers of all servers."""

    held: Slice
    x: Integers
    transcript: Transcript

    @classmethod
    def play(cls, held: Slice, x: Integers, dealers: int = 1) -> Exchange:
        """Ask honest servers."""
        transcript = ask(RING, x, Mask.fresh(RING, x.shape, dealers))
        transcript.answers = [serve(RING, [held.layer], [held.weights], request) for request in transcript.requests]
        return cls(held, x, transcript)

    @classmethod
    def draw(cls, rng: np.random.Generator, held: Slice, size: int = 4, dealers: int = 1) -> Exchange:
        """An exchange on a fresh activation of `size` x `size` positions."""
        x = draw_activation(rng, (1, size, size, held.layer.in_channels))
        return cls.play(held, held.encoded(x, dealers), dealers)

    @property
    def servers(self) -> int:
        """How many took part."""
        return len(self.transcript.requests)

    def elements(self, server: int) -> Elements:
        """The honest answer of a server, to be changed at will."""
        return parse_answer(self.transcript.answers[server], [self.held.layer], self.x.shape)[0].copy()

    def digits(self, server: int) -> Digits:
        """What a server computes on."""
        request = parse_request(self.transcript.requests[server], [self.held.layer], RING)
        return request.digits if isinstance(request, MaskedRequest) else dealer_share(RING, request.seed, request.shape)

    def answers_with(self, server: int, elements: Elements) -> list[list[Tensor]]:
        """All answers, with that of `server` replaced."""
        answers = list(self.transcript.answers)
        answers[server] = [Tensor("answer_0", "INT32", elements.shape, elements.astype("<u4").tobytes())]
        return answers

    def opened(self, server: int, elements: Elements, *, verify: bool) -> Integers | None:
        """What the client makes of it; None if it notices. `verify` off is a weak build."""
        checks = [self.held.check] if verify else None
        try:
            return open_answers(RING, [self.held.layer], checks, self.x, self.answers_with(server, elements))[0]
        except (CheckError, InputError):
            return None

    def products(self, server: int) -> list[Elements]:
        """The limb products that an honest server shows in a dispute."""
        requests = [masked_request(limb) for limb in limb_requests(self.digits(server))]
        answers = [serve(RING, [self.held.layer], [self.held.weights], request) for request in requests]
        return [parse_answer(answer, [self.held.layer], self.x.shape)[0] for answer in answers]

    def named(self, liar: int, first: Elements, shown: Sequence[Elements] | None = None) -> set[int]:
        """Whom a dispute names: `liar` answered `first`, and shows `shown` (by default honest products)."""
        found = set()
        for server in range(self.servers):
            answered = first if server == liar else self.elements(server)
            products = shown if server == liar and shown is not None else self.products(server)
            digits = self.digits(server)
            if judge(RING, [self.held.layer], [self.held.check], digits, [answered], [[p] for p in products]):
                found.add(server)
        return found


@dataclass
class Tally:
    """Lies that were told, and what became of them."""

    told: int = 0
    caught: int = 0
    named: int = 0
    weak_escaped: int = 0

    def play(self, exchange: Exchange, liar: int, lie: Elements) -> None:
        """Tell one lie, to ppidm and to a client with `--verify off`."""
        self.told += 1
        self.caught += exchange.opened(liar, lie, verify=True) is None
        self.named += exchange.named(liar, lie) == {liar}
        self.weak_escaped += exchange.opened(liar, lie, verify=False) is not None

    @property
    def succeeded(self) -> bool:
        """Whether one lie passed, or its liar was not named."""
        return min(self.caught, self.named) < self.told

    def __str__(self) -> str:
        return f"{self.caught:,} of {self.told:,} caught, {self.named:,} liars named"


def nonzero_lie(honest: Elements, lie: Elements) -> bool:
    """Whether `lie` differs at all (a swap of equal rows does not)."""
    return bool(np.any(honest != lie))
