"""How exactly a package computes: the ring, the bits of weights and of answers (PROTOCOL.md, sections 1 and 4).

Truncated answers carry the top bits of each share. Every share is rounded to the nearest, not floored, so the sum of n + 1
truncated shares is off by at most (n + 1) / 2 units in the last place, 2**t for t dropped bits; where one server alone
truncates, and the client subtracts what it knows exactly, by at most 1/2.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

import numpy as np

from ppidm.protocol.ring import Ring

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ppidm.protocol.ring import Elements

TRUNCATED_BITS = 16  # of a truncated answer


class Precision(StrEnum):
    """What `--precision` takes.

    exact: Z_2^32, weights of 12 bits, whole answers, every answer checked.
    balanced: Z_2^32, weights of 12 bits, answers of 16 bits, audited.
    fast: Z_2^24, weights of 8 bits (and activations of about 10), answers of 16 bits, audited.
    """

    EXACT = "exact"
    BALANCED = "balanced"
    FAST = "fast"

    @property
    def ring(self) -> Ring:
        """Of all slices."""
        return Ring(24 if self is Precision.FAST else 32)

    @property
    def weight_bits(self) -> int:
        """Of a quantised weight, sign included."""
        return 8 if self is Precision.FAST else 12

    @property
    def dropped_bits(self) -> int:
        """Low bits of an answer that no server sends; 0 if answers are whole."""
        return 0 if self is Precision.EXACT else truncation(self.ring)


def truncation(ring: Ring) -> int:
    """Low bits that a truncated answer drops."""
    return ring.bits - TRUNCATED_BITS


def truncate(ring: Ring, share: Elements, dropped_bits: int) -> NDArray[np.uint16]:
    """A server: the top bits of its share, rounded to the nearest. Right with wrap-around, modulo 2**(k - t)."""
    half = np.uint32(1 << (dropped_bits - 1))
    return (((share + half) & ring.mask) >> np.uint32(dropped_bits)).astype(np.uint16)


def restore(truncated: NDArray[np.uint16], dropped_bits: int) -> Elements:
    """The client: the element of Z_2^k whose top bits a server sent; its low bits are 0."""
    return truncated.astype(np.uint32) << np.uint32(dropped_bits)
