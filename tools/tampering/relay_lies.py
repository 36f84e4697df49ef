"""Every kind of lie in relay mode, and about truncated answers: (rng, cast) -> who lies; it sets the liar's hooks.

All of them differ from the honest answer, or would if they were not below what truncation drops. Everybody is honest about limb
products, and lies of relay mode are told with valid signatures: a dealer signs its own.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from relay_parties import Dealer, Evaluator, Hooks, Server

from ppidm.protocol.relay_messages import share_tensors

if TYPE_CHECKING:
    from collections.abc import Callable

    from session import Answer, Model

    from ppidm.protocol.messages import Tensor
    from ppidm.protocol.relay import RelayedShare
    from ppidm.protocol.ring import Elements

    Rng = np.random.Generator
    Change = Callable[[Rng, Elements, int], None]  # in place; the last is k of the ring


@dataclass
class Cast:
    """Evaluator and dealers, after an honest request for the same slice."""

    evaluator: Evaluator
    dealers: list[Dealer]

    @classmethod
    def of(cls, model: Model, dealers: int = 2) -> Cast:
        """Honest ones."""
        evaluator = Evaluator(model)
        return cls(evaluator, [Dealer(index, model, evaluator) for index in range(dealers)])

    @property
    def servers(self) -> list[Server]:
        """Everybody."""
        return [self.evaluator, *self.dealers]

    def become_honest(self) -> None:
        """Forget all lies."""
        for server in self.servers:
            server.hooks = Hooks()


def flip_bit(rng: Rng, values: Elements, bits: int) -> None:
    """One bit of one value."""
    values.flat[rng.integers(values.size)] ^= np.uint32(1 << int(rng.integers(bits)))


def add_constant(rng: Rng, values: Elements, bits: int) -> None:
    """The same constant everywhere."""
    values += np.uint32(rng.integers(1, 1 << bits))


def randomise(rng: Rng, values: Elements, bits: int) -> None:
    """Noise."""
    values[...] = rng.integers(0, 1 << bits, values.shape, np.uint32)


def zeros(_rng: Rng, values: Elements, _bits: int) -> None:
    """No work at all."""
    values[...] = 0


def changed(rng: Rng, change: Change, bits: int) -> Callable[[Answer], Answer]:
    """The same change whenever the request is made: an audit must not find two different answers."""
    seed = int(rng.integers(2**32))

    def outputs(honest: Answer) -> Answer:
        again = np.random.default_rng(seed)
        lie = [values.copy() for values in honest]
        change(again, lie[again.integers(len(lie))], bits)
        return lie

    return outputs


def wrong_product(change: Change) -> Callable[[Rng, Cast], Server]:
    """Any server computes something else than its product, and stands by it."""

    def lie(rng: Rng, cast: Cast) -> Server:
        liar = cast.servers[int(rng.integers(len(cast.servers)))]
        liar.hooks.outputs = changed(rng, change, liar.model.ring.bits)
        return liar

    return lie


def altered_answer(rng: Rng, cast: Cast) -> Server:
    """The evaluator flips a bit of its answer, another one each time: of a truncated answer, and of its whole one."""
    bits = cast.evaluator.model.ring.bits
    cast.evaluator.hooks.tensors = lambda tensors: [flipped(rng, tensors[0], bits), *tensors[1:]]
    return cast.evaluator


def flipped(rng: Rng, tensor: Tensor, bits: int) -> Tensor:
    """One bit of one value, below the k-th of a whole one."""
    width = 2 if tensor.datatype == "INT16" else 4
    content = bytearray(tensor.content)
    bit = int(rng.integers(min(bits, 8 * width)))
    content[width * int(rng.integers(len(content) // width)) + bit // 8] ^= 1 << bit % 8
    return replace(tensor, content=bytes(content))


def replayed_answer(_rng: Rng, cast: Cast) -> Server:
    """The evaluator answers what it answered to an earlier request, truncated and whole."""
    earlier = dict(cast.evaluator.answered)
    cast.evaluator.hooks.tensors = lambda tensors: earlier[tensors[0].datatype]
    return cast.evaluator


def share_left_out(rng: Rng, cast: Cast) -> Server:
    """The evaluator adds all shares but one."""
    place = int(rng.integers(len(cast.dealers)))
    cast.evaluator.hooks.shares = lambda shares: shares[:place] + shares[place + 1 :]
    return cast.evaluator


def share_of_another_ticket(_rng: Rng, cast: Cast) -> Server:
    """The evaluator adds a share of an earlier request again."""
    earlier = _earlier(cast, 0)
    cast.evaluator.hooks.shares = lambda shares: [earlier, *shares[1:]]
    return cast.evaluator


def _earlier(cast: Cast, dealer: int) -> RelayedShare:
    return min((share for (number, _), share in cast.evaluator.inbox.items() if number == dealer), key=_ticket)


def _ticket(share: RelayedShare) -> int:
    return share.ticket


def blames_with_a_changed_share(rng: Rng, cast: Cast) -> Server:
    """The evaluator lies, and shows a share that no dealer signed."""
    cast.evaluator.hooks.outputs = changed(rng, flip_bit, cast.evaluator.model.ring.bits)

    def show(_dealer: int, share: RelayedShare) -> list[Tensor]:
        first, *others = share.tensors
        return share_tensors(replace(share, tensors=(flipped(rng, first, 8), *others)))

    cast.evaluator.hooks.show = show
    return cast.evaluator


def blames_with_another_ticket(rng: Rng, cast: Cast) -> Server:
    """The evaluator lies, and shows what a dealer signed for an earlier request."""
    cast.evaluator.hooks.outputs = changed(rng, randomise, cast.evaluator.model.ring.bits)
    earlier = [_earlier(cast, dealer) for dealer in range(len(cast.dealers))]
    cast.evaluator.hooks.show = lambda dealer, _share: share_tensors(earlier[dealer])
    return cast.evaluator


def shows_nothing(rng: Rng, cast: Cast) -> Server:
    """The evaluator lies, and shows none."""
    cast.evaluator.hooks.outputs = changed(rng, add_constant, cast.evaluator.model.ring.bits)
    cast.evaluator.hooks.show = lambda _dealer, _share: []
    return cast.evaluator


def altered_answer_of_any(rng: Rng, cast: Cast) -> Server:
    """In direct mode: any server flips a bit of its answer, another one each time."""
    liar = cast.servers[int(rng.integers(len(cast.servers)))]
    liar.hooks.tensors = lambda tensors: [flipped(rng, tensors[0], liar.model.ring.bits), *tensors[1:]]
    return liar


PRODUCTS = {change.__name__: wrong_product(change) for change in (flip_bit, add_constant, randomise, zeros)}
RELAY_KINDS: dict[str, Callable[[Rng, Cast], Server]] = PRODUCTS | {
    lie.__name__: lie
    for lie in (
        altered_answer, replayed_answer, share_left_out, share_of_another_ticket, blames_with_a_changed_share,
        blames_with_another_ticket, shows_nothing,
    )
}  # fmt: skip
DIRECT_KINDS: dict[str, Callable[[Rng, Cast], Server]] = PRODUCTS | {"altered_answer": altered_answer_of_any}
