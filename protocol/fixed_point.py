"""Fixed-point encoding: the largest scale at which no result can leave the ring (PROTOCOL.md, section 2).

By Cauchy-Schwarz |<row, W_c>| <= ||row||_2 ||W_c||_2, so an overflow is impossible whatever the activation is. A failed
check is then always a lie, and never a reason to ask again: asking again would make traffic depend on the activation.
"""

from __future__ import annotations

from math import sqrt
from typing import TYPE_CHECKING

import numpy as np

from ppidm.protocol.errors import PackageError
from ppidm.protocol.linear import Layer, largest_row_norm

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from ppidm.protocol.ring import Integers, Ring

LARGEST_INTEGER = 2.0**31 - 1  # |x_int| stays below 2**31
MARGIN = 1 - 2.0**-40  # for the rounding of float64 in the bound itself


def headroom(ring: Ring, dealers: int, dropped_bits: int = 0) -> float:
    """The largest |y_int| that fits: below 2**(k-1) by the error of `dealers` + 1 truncated answers, or by 1 if all are whole.

    Whole answers have no error, so that pictures are the same bit for bit with any number of dealers.
    """
    error = (dealers + 1) * 2.0 ** (dropped_bits - 1) if dropped_bits else 1.0
    return 2.0 ** (ring.bits - 1) - error


def largest_scale(
    ring: Ring, layers: Sequence[Layer], x: NDArray[np.float32], dealers: int, dropped_bits: int = 0
) -> float:
    """The largest scale s at which round(s x) fits and every result of every layer fits.

    Rounding adds at most sqrt(K) / 2 to the norm of a row of K values, which is taken off first.

    Args:
        ring: the ring of the results.
        layers: all layers of a slice; they share the input.
        x: a finite activation, channels last.
        dealers: number of dealers.
        dropped_bits: low bits that answers do not carry.

    Returns:
        s > 0 (1 for an activation of zeros).

    Raises:
        PackageError: the weights of a layer leave no room in the ring; depends on public values only.
    """
    rooms = [
        _room(layer, ring.bits, headroom(ring, dealers, dropped_bits)) for layer in layers
    ]  # raises whatever x is: aborts must not depend on it
    largest = float(np.abs(x).max(initial=0.0))
    if largest == 0.0:
        return 1.0
    scale = (LARGEST_INTEGER - 1) / largest
    for layer, room in zip(layers, rooms, strict=True):
        if row_norm := largest_row_norm(layer, x):  # 0 where strides skip every value of x that is not 0
            scale = min(scale, room / row_norm)
    return scale * MARGIN


def _room(layer: Layer, bits: int, largest: float) -> float:
    """What the norm of a row may be after encoding, before rounding, for results of at most `largest`."""
    room = largest / max(layer.weight_norm, 1.0) - sqrt(layer.row_length) / 2
    if room <= 0:
        raise PackageError(f"{layer.name}: weights of norm {layer.weight_norm:.3g} leave no room in {bits} bits")
    return room


def encode(x: NDArray[np.float32], scale: float) -> Integers:
    """round(x * scale), ties to even."""
    return np.rint(x.astype(np.float64) * scale).astype(np.int64)


def decode(
    y: Integers, scale: float, weight_scales: NDArray[np.float32], bias: NDArray[np.float32]
) -> NDArray[np.float32]:
    """The result as float32, y / scale * weight_scales + bias per output channel; inf where float32 would overflow."""
    with np.errstate(over="ignore"):
        return (y * (weight_scales.astype(np.float64) / scale) + bias).astype(np.float32)
