"""A server adds a constant to one output channel and takes it from another, everywhere.

Has: its own request and the weights. Tries: small and large constants, multiples of high powers of two among them. Weak build:
algorithm-based fault tolerance, a plain checksum over the output channels: it finds faults, not lies.
"""

from __future__ import annotations

import numpy as np
from exchange import Exchange, Tally
from parties import RING, Slice
from verdict import FAILS, Size, Verdict

from ppidm.protocol.check import check_from_v, wrong_rows
from ppidm.protocol.shares import aggregate

EXPECTED = FAILS


def run(size: Size) -> Verdict:
    """Constants 2^0 to 2^31 and random ones."""
    rng = np.random.default_rng(6)
    tally, escaped = Tally(), 0
    for _ in range(size.pick(2, 100)):
        held = Slice.draw(rng, channels=(4, 6))
        exchange = Exchange.draw(rng, held, dealers=2)
        for constant in [1 << bit for bit in range(32)] + rng.integers(1, 2**32, 8).tolist():
            liar, channels = int(rng.integers(exchange.servers)), rng.permutation(6)[:2]
            lie = exchange.elements(liar)
            lie[..., channels[0]] += np.uint32(constant)
            lie[..., channels[1]] -= np.uint32(constant)
            tally.play(exchange, liar, lie)
            escaped += checksum_passes(exchange, liar, lie)
    return Verdict(tally.succeeded, f"{tally}; a checksum lets {escaped:,} pass", escaped > tally.told // 2)


def checksum_passes(exchange: Exchange, liar: int, lie: np.ndarray) -> bool:
    """The weak build: v is all ones."""
    held = exchange.held
    check = check_from_v(held.layer, held.weights, np.ones(held.layer.out_channels, np.int64))
    shares = [lie if server == liar else exchange.elements(server) for server in range(exchange.servers)]
    return not wrong_rows(held.layer, check, exchange.x, aggregate(RING, shares))
