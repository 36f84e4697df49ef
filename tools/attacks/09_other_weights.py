"""A server answers with the weights of another slice, or with its own weights slightly changed (a cheaper or poisoned model).

Has: its own request and all weights. Tries: a slice of the same shape; one weight changed by 1. Weak build: authenticated links
without a check of contents (`--verify off`).
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from exchange import Exchange, Tally, nonzero_lie
from parties import RING, Slice
from verdict import FAILS, Size, Verdict

from ppidm.protocol.linear import apply

EXPECTED = FAILS


def run(size: Size) -> Verdict:
    """Both kinds in turn."""
    rng = np.random.default_rng(9)
    tally = Tally()
    for _ in range(size.pick(15, 700)):
        held = Slice.draw(rng, channels=(4, 6))
        exchange = Exchange.draw(rng, held)
        nearly = held.weights.copy()
        nearly.flat[rng.integers(nearly.size)] += 1
        for other in (Slice.draw(rng, channels=(4, 6)), replace(held, weights=nearly)):
            liar = int(rng.integers(exchange.servers))
            lie = apply(held.layer, other.weights, exchange.digits(liar), RING)
            assert nonzero_lie(exchange.elements(liar), lie)
            tally.play(exchange, liar, lie)
    return Verdict(
        tally.succeeded, f"{tally}; without a check {tally.weak_escaped:,} pass", tally.weak_escaped == tally.told
    )
