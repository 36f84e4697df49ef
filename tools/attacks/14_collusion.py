"""The evaluator and all dealers pool what they know, or somebody watches all links.

Has: x - r and every seed. Tries: to add r. Expected to succeed, whatever the number of dealers: it is the assumption of the
protocol that this coalition does not exist. One dealer short, it fails.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from parties import RING, SHAPE, Slice, client_of, draw_activation, servers_of
from verdict import SUCCEEDS, Size, Verdict

from ppidm.protocol.masks import dealer_share
from ppidm.protocol.prg import Seed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from parties import Party

    from ppidm.protocol.ring import Elements

EXPECTED = SUCCEEDS


def run(size: Size) -> Verdict:
    """One to four dealers."""
    rng = np.random.default_rng(14)
    held, right, short, values = Slice.draw(rng), 0, 0, 0
    for dealers in range(1, 5):
        for _ in range(size.pick(2, 50)):
            x, servers = draw_activation(rng), servers_of([held], dealers)
            client_of([held], servers)(held.name, x)
            secret = RING.reduce(held.encoded(x, dealers))
            values += secret.size
            right += int(np.sum(opened(servers) == secret))
            short += int(np.sum(opened(servers[:-1]) == secret))
    if short > values // 1000:
        raise AssertionError(f"{short} values opened without the last dealer")  # worse than documented
    return Verdict(right == values, f"{right:,} of {values:,} values recovered; {short} with one dealer fewer")


def opened(coalition: Sequence[Party]) -> Elements:
    """X - r, plus every known share of r."""
    evaluator, *dealers = coalition
    total = evaluator.masked(0)
    for dealer in dealers:
        (seed,) = [tensor for tensor in dealer.seen[0][1] if tensor.name == "seed"]
        total = total + RING.from_digits(dealer_share(RING, Seed(seed.content), SHAPE))
    return total
