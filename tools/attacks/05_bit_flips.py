"""A server flips one bit of its answer, any of the 32.

Has: its own request and the weights. Tries: the top bit above all: it changes a value by 2^31, which is 0 or 2^31 modulo 2^32
after multiplication with any check number. Weak build: the same check modulo 2^32.
"""

from __future__ import annotations

import numpy as np
from exchange import DEALER, EVALUATOR, Exchange, Tally
from parties import RING, Slice
from verdict import FAILS, Size, Verdict

from ppidm.protocol.check import CheckVectors, wrong_rows
from ppidm.protocol.shares import aggregate

EXPECTED = FAILS


def run(size: Size) -> Verdict:
    """Every bit, both roles, random places."""
    rng = np.random.default_rng(5)
    tally, top, escaped = Tally(), 0, 0
    for _ in range(size.pick(2, 150)):
        held = Slice.draw(rng, channels=(4, 6))
        exchange = Exchange.draw(rng, held)
        for bit in range(32):
            liar = int(rng.choice([EVALUATOR, DEALER]))
            lie = exchange.elements(liar)
            lie.flat[rng.integers(lie.size)] ^= np.uint32(1 << bit)
            tally.play(exchange, liar, lie)
        for place in range(exchange.elements(0).size):  # the last lie of the loop above, at every place
            lie = exchange.elements(EVALUATOR)
            lie.flat[place] ^= np.uint32(1 << 31)
            top += 1
            escaped += weak_check_passes(exchange, EVALUATOR, lie)
    number = f"{tally}; modulo 2^32 {escaped} of {top} flips of the top bit pass"
    return Verdict(tally.succeeded, number, escaped > 0)


def weak_check_passes(exchange: Exchange, liar: int, lie: np.ndarray) -> bool:
    """The check with 32-bit numbers: 2^32 times v, compared modulo 2^64, is v compared modulo 2^32."""
    check = CheckVectors(exchange.held.check.v << 32, exchange.held.check.u << 32)
    shares = [lie if server == liar else exchange.elements(server) for server in range(exchange.servers)]
    return not wrong_rows(exchange.held.layer, check, exchange.x, aggregate(RING, shares))
