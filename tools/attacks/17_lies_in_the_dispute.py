"""A liar lies in the dispute too, consistently.

Has: its first, wrong answer. Tries: limb products that add up to that answer, the error hidden in one limb or spread over all of
them. Weak build: a dispute that only asks whether the products add up.
"""

from __future__ import annotations

import numpy as np
from exchange import Exchange
from parties import RING, Slice
from verdict import FAILS, Size, Verdict

EXPECTED = FAILS


def run(size: Size) -> Verdict:
    """An error in one place, split over the limbs at random so that it adds up."""
    rng = np.random.default_rng(17)
    disputes = named = believed = 0
    for _ in range(size.pick(10, 500)):
        held = Slice.draw(rng, channels=(4, 6))
        exchange = Exchange.draw(rng, held, dealers=int(rng.integers(1, 4)))
        liar, place = int(rng.integers(exchange.servers)), int(rng.integers(exchange.elements(0).size))
        for spread in (1, 4):
            shown = [product.copy() for product in exchange.products(liar)]
            for limb in range(spread):
                shown[limb].flat[place] ^= np.uint32(1 << int(rng.integers(32 - 8 * limb)))
            first = recombined(shown)
            disputes += 1
            named += exchange.named(liar, first, shown) == {liar}
            believed += bool(np.array_equal(recombined(shown), first))  # the weak build asks no more
    number = f"{named:,} of {disputes:,} liars named, and only they; a test of the sum believes {believed:,}"
    return Verdict(named < disputes, number, believed == disputes)


def recombined(products: list[np.ndarray]) -> np.ndarray:
    """The answer that limb products add up to."""
    total = np.zeros_like(products[0])
    for limb, product in enumerate(products):
        total += product << np.uint32(8 * limb)
    return total & RING.mask
