"""Who lied? After a failed check every server is judged by itself (PROTOCOL.md, section 6).

The check is on the sum of the answers, so it cannot name the liar, and checking single answers modulo 2**k with the same
vectors would leak their parities. Instead each server shows its *unreduced* limb products W d_i: integers, not yet added up
modulo 2**k. They must be congruent with its first answer, and pass the 64-bit check by themselves: a wrong answer escapes
with probability at most 2**-33.

A limb product is an ordinary answer, to a request that holds limb i alone, in the lowest place. Its reader learns nothing new:
the evaluator has these digits already, and a dealer's are its own keystream.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ppidm.protocol.check import wrong_rows
from ppidm.protocol.ring import DIGIT_BITS, DIGIT_CENTRE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ppidm.protocol.check import CheckVectors
    from ppidm.protocol.linear import Layer
    from ppidm.protocol.ring import Digits, Elements, Integers, Ring


def limb_requests(digits: Digits) -> list[Digits]:
    """Digits that hold one limb of `digits` each, in the lowest place; digit 0 elsewhere."""
    requests = []
    for plane in digits:
        alone = np.full_like(digits, DIGIT_CENTRE)
        alone[0] = plane
        requests.append(alone)
    return requests


def judge(
    ring: Ring,
    layers: Sequence[Layer],
    checks: Sequence[CheckVectors],
    digits: Digits,
    first: Sequence[Elements],
    products: Sequence[Sequence[Elements]],
) -> str | None:
    """Judge one server.

    Args:
        ring: of the request.
        layers: of the slice.
        checks: of each layer.
        digits: what the server computed on: the masked activation, or the dealer's keystream.
        first: its answer in the disputed request, per layer.
        products: its answers to `limb_requests(digits)`, per limb and layer.

    Returns:
        What is wrong with it, or None if it was honest.
    """
    for index, (layer, check) in enumerate(zip(layers, checks, strict=True)):
        shown = [limb[index].view(np.int32).astype(np.int64) for limb in products]
        if (_recombined(shown, ring) != first[index] & ring.mask).any():
            return f"{layer.name}: its limb products do not add up to its first answer"
        for limb, plane in enumerate(digits):
            if wrong := wrong_rows(layer, check, plane.astype(np.int64) - DIGIT_CENTRE, shown[limb]):
                return f"{layer.name}: {wrong} rows of its product with limb {limb} are wrong"
    return None


def _recombined(products: Sequence[Integers], ring: Ring) -> Elements:
    total = np.zeros_like(products[0])
    for limb, product in enumerate(products):
        total += product << (DIGIT_BITS * limb)
    return ring.reduce(total)
