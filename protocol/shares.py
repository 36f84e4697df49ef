"""Aggregation: what the client makes of the servers' answers (PROTOCOL.md, section 4)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ppidm.protocol.ring import Elements, Integers, Ring


def aggregate(ring: Ring, answers: Sequence[Elements]) -> Integers:
    """Add the additive shares W (x - r), W r_1, ..., W r_n modulo 2**k and open: the signed integers W x.

    Exact, because the norm rule keeps |W x| below 2**(k-1).
    """
    total = np.zeros(answers[0].shape, np.uint32)
    for share in answers:
        total += share
    return ring.signed(total & ring.mask)
