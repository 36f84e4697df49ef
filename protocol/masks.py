"""One-time masks: how the client hides an activation, and what a dealer makes of its seed (PROTOCOL.md, section 3)."""

from __future__ import annotations

from math import prod
from threading import Lock
from typing import TYPE_CHECKING

import numpy as np

from ppidm.protocol.errors import InputError, MaskReuseError
from ppidm.protocol.prg import Seed, Usage, expand

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ppidm.protocol.linear import Shape
    from ppidm.protocol.ring import Digits, Elements, Ring


def dealer_share(ring: Ring, seed: Seed, shape: Shape) -> Digits:
    """r_i = PRG(seed_i), uniform. The keystream *is* the digits, so a dealer converts nothing.

    Returns:
        Planar bytes, (limbs, *shape).
    """
    stream = expand(seed, Usage.MASK_IN, 0, ring.limbs * prod(shape))
    return np.frombuffer(stream, np.uint8).reshape(ring.limbs, *shape)


class Mask:
    """r = sum of the r_i of all dealers; hides one tensor, once.

    Args:
        ring: the ring.
        shape: of the tensor to hide.
        seeds: one per dealer. Production code calls `Mask.fresh`; tests pass seeds.

    Raises:
        InputError: no seed, or two equal ones (both dealers' shares would be known to each).

    Security:
        `repr` shows the shape only.
    """

    def __init__(self, ring: Ring, shape: Shape, seeds: Sequence[Seed]) -> None:
        distinct = len(set(seeds))
        if not seeds or distinct != len(seeds):
            raise InputError(f"{len(seeds)} seeds, {distinct} of them distinct; expected one distinct seed per dealer")
        self.ring, self.shape, self.seeds = ring, shape, tuple(seeds)
        self._used = Lock()  # taken once, never released: holds between threads and for copies; refuses to be pickled

    @classmethod
    def fresh(cls, ring: Ring, shape: Shape, dealers: int) -> Mask:
        """A mask for one request attempt: 32 fresh bytes of the operating system per dealer."""
        return cls(ring, shape, [Seed.fresh() for _ in range(dealers)])

    def hide(self, x: Elements) -> Digits:
        """X - r as digits: what the evaluator sees. Uniform, whatever x is.

        Raises:
            MaskReuseError: this mask has hidden a tensor before.
        """
        if not self._used.acquire(blocking=False):
            raise MaskReuseError("a mask hides one tensor; draw a fresh one (Mask.fresh) for every request attempt")
        assert x.shape == self.shape, (x.shape, self.shape)
        return self.ring.to_digits((x - self._total()) & self.ring.mask)

    def _total(self) -> Elements:
        total = np.zeros(self.shape, np.uint32)
        for seed in self.seeds:
            total += self.ring.from_digits(dealer_share(self.ring, seed, self.shape))
        return total

    def __repr__(self) -> str:
        return f"Mask(shape={self.shape}, dealers={len(self.seeds)}, used={self._used.locked()})"
