"""A liar plays innocent in the dispute, so that the blame falls on another.

Has: its first, wrong answer. Tries: to show the honest limb products. Weak build: a dispute that checks products but does not
compare them with the first answer; it finds nobody wrong, and a client that must blame somebody blames the evaluator.
"""

from __future__ import annotations

import numpy as np
from exchange import DEALER, EVALUATOR, Exchange
from parties import Slice
from verdict import FAILS, Size, Verdict

EXPECTED = FAILS


def run(size: Size) -> Verdict:
    """A dealer lies; does the evaluator get the blame?"""
    rng = np.random.default_rng(18)
    disputes, named, framed, weak_framed = size.pick(15, 1000), 0, 0, 0
    for _ in range(disputes):
        exchange = Exchange.draw(rng, Slice.draw(rng, channels=(4, 6)), dealers=int(rng.integers(1, 4)))
        lie = exchange.elements(DEALER)
        lie.flat[rng.integers(lie.size)] ^= np.uint32(rng.integers(1, 2**32))
        found = exchange.named(DEALER, lie, exchange.products(DEALER))
        named += found == {DEALER}
        framed += bool(found - {DEALER})
        weak_framed += blamed_without_comparison(exchange) == EVALUATOR
    number = f"{framed} of {disputes:,} honest servers blamed, {named:,} liars named; without the comparison {weak_framed:,} framed"
    return Verdict(framed > 0 or named < disputes, number, weak_framed == disputes)


def blamed_without_comparison(exchange: Exchange) -> int:
    """The weak build: every server is judged on products and what they add up to; the first answer is forgotten."""
    for server in range(exchange.servers):
        if exchange.named(server, exchange.elements(server)):
            return server
    return EVALUATOR
