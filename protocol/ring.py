"""The ring Z_2^k, and its elements as centred digits on the wire (PROTOCOL.md, section 1)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ppidm.protocol.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Elements = NDArray[np.uint32]
    Digits = NDArray[np.uint8]
    Integers = NDArray[np.int64]

DIGIT_BITS = 8
DIGIT_CENTRE = 128  # the byte b stands for the digit b - 128; it is also the byte of padding


@dataclass(frozen=True)
class Ring:
    """Integers modulo 2**`bits`; elements are uint32 below 2**`bits`.

    Raises:
        InputError: `bits` is not 16, 24 or 32.
    """

    bits: int = 32

    def __post_init__(self) -> None:
        if self.bits not in (16, 24, 32):
            raise InputError(f"ring_bits is {self.bits}; expected 16, 24 or 32 (whole bytes, at most an int32)")

    @property
    def limbs(self) -> int:
        """Number of 8-bit digits of an element."""
        return self.bits // DIGIT_BITS

    @property
    def mask(self) -> np.uint32:
        """2**bits - 1."""
        return np.uint32((1 << self.bits) - 1)

    @property
    def centre(self) -> np.uint32:
        """The element whose digits are all 128: 0x80808080 for k = 32."""
        return np.uint32(sum(DIGIT_CENTRE << (DIGIT_BITS * i) for i in range(self.limbs)))

    def reduce(self, x: Integers) -> Elements:
        """Integers of any size -> elements, modulo 2**bits."""
        return x.astype(np.uint32) & self.mask  # a cast of int64 to uint32 keeps the low 32 bits

    def signed(self, x: Elements) -> Integers:
        """Elements -> integers in [-2**(bits-1), 2**(bits-1))."""
        shift = 32 - self.bits
        return ((x << np.uint32(shift)).view(np.int32) >> np.int32(shift)).astype(np.int64)

    def to_digits(self, x: Elements) -> Digits:
        """Elements of shape S -> planar bytes of shape (limbs, *S), least significant limb first."""
        little_endian = np.ascontiguousarray(x + self.centre).astype("<u4")
        planar = little_endian.view(np.uint8).reshape(*x.shape, 4)
        return np.ascontiguousarray(np.moveaxis(planar, -1, 0)[: self.limbs])

    def from_digits(self, digits: Digits) -> Elements:
        """Planar bytes of shape (limbs, *S) -> elements of shape S; the inverse of `to_digits`."""
        interleaved = np.zeros((*digits.shape[1:], 4), np.uint8)
        interleaved[..., : self.limbs] = np.moveaxis(digits, 0, -1)
        return (interleaved.view("<u4")[..., 0].astype(np.uint32) - self.centre) & self.mask
