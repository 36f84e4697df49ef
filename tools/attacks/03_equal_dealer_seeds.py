"""The evaluator and one of two dealers pool what they know: one coalition too small for the stated threshold.

Has: x - r1 - r2 and the first dealer's seed. Tries: assume that the second dealer has the same seed. Weak build: one seed per
request, sent to every dealer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from parties import RING, SHAPE, Party, Slice, client_of, draw_activation, servers_of
from verdict import FAILS, Size, Verdict

from ppidm.protocol.errors import InputError
from ppidm.protocol.masks import Mask, dealer_share
from ppidm.protocol.messages import masked_request, seed_request
from ppidm.protocol.prg import Seed

if TYPE_CHECKING:
    from ppidm.protocol.messages import Tensor
    from ppidm.protocol.ring import Elements

EXPECTED = FAILS


def run(size: Size) -> Verdict:
    """Several requests with two dealers."""
    rng = np.random.default_rng(3)
    held, requests = Slice.draw(rng), size.pick(5, 1000)
    evaluator, *dealers = servers = servers_of([held], dealers=2)
    client = client_of([held], servers)
    found = weak_found = 0
    for index in range(requests):
        x = draw_activation(rng)
        secret = RING.reduce(held.encoded(x, dealers=2))
        client(held.name, x)
        found += int(np.sum(guess(evaluator.masked(index), dealers[0].seen[index][1]) == secret))
        weak_found += int(np.sum(guess(*weak_exchange(held, secret)) == secret))
    values = requests * secret.size
    number = f"{found} of {values:,} values recovered by evaluator and 1 of 2 dealers; with equal seeds {weak_found:,}"
    return Verdict(found > values // 1000 or not refused(), number, weak_found == values)


def guess(masked: Elements, dealt: list[Tensor]) -> Elements:
    """X, if both dealers hold the seed of the first."""
    seed = Seed(next(tensor for tensor in dealt if tensor.name == "seed").content)
    return masked + 2 * RING.from_digits(dealer_share(RING, seed, SHAPE))


def weak_exchange(held: Slice, secret: Elements) -> tuple[Elements, list[Tensor]]:
    """The weak build: r = 2 PRG(seed), made of two masks because ppidm's refuses equal seeds."""
    seed, evaluator = Seed.fresh(), Party("evaluator", {held.name: held})
    once = RING.from_digits(Mask(RING, SHAPE, [seed]).hide(secret))
    evaluator.ask(held.name, masked_request(Mask(RING, SHAPE, [seed]).hide(once)))
    return evaluator.masked(0), seed_request(seed, SHAPE)


def refused() -> bool:
    """Whether ppidm's mask refuses two equal seeds."""
    seed = Seed.fresh()
    try:
        Mask(RING, SHAPE, [seed, seed])
    except InputError:
        return True
    return False
