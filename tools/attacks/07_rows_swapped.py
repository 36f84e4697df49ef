"""A server swaps two rows (output positions) of its answer.

Has: its own request and the weights. Tries: every row is right, only elsewhere. Weak build: one comparison for the sum of all
rows, which would save the client most of the work of the check.
"""

from __future__ import annotations

import numpy as np
from exchange import Exchange, Tally, nonzero_lie
from parties import RING, Slice
from verdict import FAILS, Size, Verdict

from ppidm.protocol.linear import patches
from ppidm.protocol.shares import aggregate

EXPECTED = FAILS


def run(size: Size) -> Verdict:
    """Random pairs of rows."""
    rng = np.random.default_rng(7)
    tally, escaped = Tally(), 0
    for _ in range(size.pick(20, 1000)):
        held = Slice.draw(rng, channels=(4, 6))
        exchange = Exchange.draw(rng, held)
        liar = int(rng.integers(exchange.servers))
        honest = exchange.elements(liar)
        rows = honest.reshape(-1, honest.shape[-1])
        first, second = rng.permutation(len(rows))[:2]
        lie = rows.copy()
        lie[[first, second]] = rows[[second, first]]
        lie = lie.reshape(honest.shape)
        if nonzero_lie(honest, lie):
            tally.play(exchange, liar, lie)
            escaped += summed_check_passes(exchange, liar, lie)
    return Verdict(tally.succeeded, f"{tally}; a check of the sum of rows lets {escaped:,} pass", escaped == tally.told)


def summed_check_passes(exchange: Exchange, liar: int, lie: np.ndarray) -> bool:
    """The weak build: both sides summed over the rows before they are compared, modulo 2^32 as the answers are."""
    held = exchange.held
    shares = [lie if server == liar else exchange.elements(server) for server in range(exchange.servers)]
    left = aggregate(RING, shares) @ held.check.v
    right = patches(held.layer, exchange.x).reshape(len(left.reshape(-1)), -1) @ held.check.u.reshape(-1)
    return bool(RING.reduce(left.reshape(-1)).sum(dtype=np.uint32) == RING.reduce(right).sum(dtype=np.uint32))
