"""A server learns the client's check vectors from which of its lies are rejected.

Has: one bit per lie, since everybody sees a session end. Tries: lies e at two output channels with <e, v> = 0 modulo 2^(j+1)
exactly if its guess of bit j of v1 / v2 is right: 32 lies later it can add any multiple of (v2, -v1) unnoticed. Weak build:
the check modulo 2^32. Against 64 bits every reject rules out at most 2^-33 of all vectors, so it learns nothing worth naming.
"""

from __future__ import annotations

from math import log, log1p, log2
from typing import TYPE_CHECKING

import numpy as np
from exchange import Exchange
from parties import RING, Slice
from verdict import FAILS, Size, Verdict

from ppidm.protocol.check import CheckVectors, wrong_rows
from ppidm.protocol.shares import aggregate

if TYPE_CHECKING:
    from collections.abc import Callable

    Oracle = Callable[[int, int], bool]  # errors at two channels of one row -> whether the answer is accepted

EXPECTED = FAILS


def run(size: Size) -> Verdict:
    """Sessions of 32 adaptive lies and one forgery."""
    rng = np.random.default_rng(11)
    sessions, told, accepted, forged = size.pick(30, 400), 0, 0, 0
    for _ in range(sessions):
        exchange = Exchange.draw(rng, Slice.draw(rng, channels=(4, 6)), size=2)
        exact, weak = oracle(exchange, 0), oracle(exchange, 32)
        lies, passed = forge(exact)
        told, accepted = told + lies, accepted + passed
        forged += forge(weak)[1] > 0
    half = size.pick(3, 4)
    worst = worst_share_ruled_out(half)
    learnt = -log1p(-told * 2.0**-33) / log(2)
    number = (
        f"{accepted} of {told:,} lies accepted: <= {learnt:.1e} bits learnt of 384; modulo 2^32 {forged} of {sessions} forged; "
        f"all vectors of {2 * half} bits enumerated: a reject rules out <= 2^{log2(worst):.0f}"
    )
    return Verdict(accepted > 0 or worst > 2.0 ** -(half + 1), number, forged > 0)


def oracle(exchange: Exchange, shift: int) -> Oracle:
    """Whether the client accepts; `shift` 32 makes its check one modulo 2^32."""
    check = CheckVectors(exchange.held.check.v << shift, exchange.held.check.u << shift)
    honest, rest = exchange.elements(0), exchange.elements(1)

    def accepts(first: int, second: int) -> bool:
        lie = honest.copy()
        lie[0, 0, 0, :2] += np.array([first % 2**32, second % 2**32], np.uint32)
        return not wrong_rows(exchange.held.layer, check, exchange.x, aggregate(RING, [lie, rest]))

    return accepts


def forge(accepts: Oracle) -> tuple[int, int]:
    """Find q = v1 / v2 modulo 2^32 bit by bit, then add (1, -q). Lies told, and forgeries that were accepted.

    Works on a check modulo 2^32 if v2 is odd: half of the time; the bits found are those with which lies passed.
    """
    q = 0
    for bit in range(32):
        if not accepts(1 << (31 - bit), -q << (31 - bit)):
            q |= 1 << bit
    return 33, accepts(1, -q)


def worst_share_ruled_out(half: int) -> float:
    """The share of all pairs of check numbers that the best lie rules out, by enumeration at a reduced size.

    Args:
        half: bits of a value; 32 in ppidm. Check numbers have twice as many.
    """
    numbers = np.arange(2 ** (2 * half))
    errors = range(-(2**half) + 1, 2**half)
    shares = [
        float(np.mean((a * numbers[:, None] + b * numbers[None]) % len(numbers) == 0))
        for a in errors
        for b in errors
        if (a, b) != (0, 0)
    ]
    return max(shares)
