"""A server answers with what it answered to an earlier request of the same slice.

Has: its own requests and answers. Tries: the old answer is well-formed, authentic and once was right. Weak build: authenticated
links without a check of contents (`--verify off`).
"""

from __future__ import annotations

import numpy as np
from exchange import Exchange, Tally
from parties import Slice
from verdict import FAILS, Size, Verdict

EXPECTED = FAILS


def run(size: Size) -> Verdict:
    """The same activation is asked for again, under a fresh mask: even then an old answer is wrong."""
    rng = np.random.default_rng(8)
    tally = Tally()
    for _ in range(size.pick(20, 1000)):
        held = Slice.draw(rng, channels=(4, 6))
        before = Exchange.draw(rng, held)
        now = Exchange.play(held, before.x)
        liar = int(rng.integers(now.servers))
        tally.play(now, liar, before.elements(liar))
    return Verdict(
        tally.succeeded, f"{tally}; without a check {tally.weak_escaped:,} pass", tally.weak_escaped == tally.told
    )
