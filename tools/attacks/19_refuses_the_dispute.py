"""A liar does not answer in the dispute, or answers nonsense: something short, or nothing.

Has: its first, wrong answer. Tries: to look like a network failure. Weak build: a client that takes a missing answer for a
failure of the network and tries again later.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import numpy as np
from exchange import Exchange
from parties import RING, Party, Slice
from verdict import FAILS, Size, Verdict

from ppidm.client.dispute import find_liars
from ppidm.client.servers import Servers
from ppidm.protocol.errors import PeerError
from ppidm.protocol.messages import Tensor

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

EXPECTED = FAILS


class Silent(Party):
    """Hangs up when it is asked for its products."""

    def ask(self, _name: str, _tensors: Sequence[Tensor]) -> Callable[[], list[Tensor]]:
        """No answer."""

        def answer() -> list[Tensor]:
            raise PeerError("UNAVAILABLE, connection reset")

        return answer


def short(_name: str, _request: Sequence[Tensor], answer: list[Tensor]) -> list[Tensor]:
    """An answer with one byte missing."""
    return [Tensor(t.name, t.datatype, t.shape, t.content[:-1]) for t in answer]


def run(size: Size) -> Verdict:
    """Refusals of three kinds, by every role."""
    rng = np.random.default_rng(19)
    disputes = named = forgiven = 0
    for _ in range(size.pick(4, 200)):
        held = Slice.draw(rng, channels=(4, 6))
        exchange = Exchange.draw(rng, held, dealers=2)
        for refuse in (
            lambda role, held=held: Silent(role, {held.name: held}),
            lambda role, held=held: Party(role, {held.name: held}, short),
            lambda role, held=held: Party(role, {held.name: held}, lambda *_: []),
        ):
            liar = int(rng.integers(exchange.servers))
            servers: list[Party] = [Party(f"server {index}", {held.name: held}) for index in range(exchange.servers)]
            servers[liar] = refuse(f"server {liar}")
            found = disputed(exchange, servers, liar, rng)
            disputes += 1
            named += set(found) == {f"server {liar}"}
            forgiven += not judged_if_they_answered(found)
    number = f"{named:,} of {disputes:,} named, and only they; a client that forgives silence lets {forgiven:,} go"
    return Verdict(named < disputes, number, forgiven == disputes)


def disputed(exchange: Exchange, servers: list[Party], liar: int, rng: np.random.Generator) -> dict[str, str]:
    """The dispute of ppidm's client."""
    lie = exchange.elements(liar)
    lie.flat[rng.integers(lie.size)] ^= np.uint32(1 << rng.integers(32))
    exchange.transcript.answers, honest = exchange.answers_with(liar, lie), exchange.transcript.answers
    everyone = Servers(cast("Any", servers[0]), tuple(cast("Any", server) for server in servers[1:]))
    held = exchange.held
    found = find_liars(RING, held.subgraph(exchange.x.shape), [held.check], everyone, exchange.transcript)
    exchange.transcript.answers = honest
    return found


def judged_if_they_answered(found: dict[str, str]) -> set[str]:
    """The weak build: who did not show products had trouble with the network."""
    return {who for who, what in found.items() if "did not show" not in what}
