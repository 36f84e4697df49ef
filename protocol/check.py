"""The 64-bit check of an answer (PROTOCOL.md, section 5): Freivalds' test with secret vectors.

For a row of the answer <y, v> must equal <x, u> with u = W^T v, over the decoded signed integers and modulo 2**64. A
wrong 32-bit value differs by an integer of 2-adic valuation at most 31, so <error, v> is zero modulo 2**64 with
probability at most 2**-33, however the error was chosen. The same test modulo 2**32 misses a flipped top bit half of
the time.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ppidm.protocol.errors import PackageError
from ppidm.protocol.linear import Layer, patches

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ppidm.protocol.ring import Integers

    Vector = NDArray[np.int64]

_ROUNDING = 1 - 2.0**-44  # of float64 in two ways to compute one norm; far less than `fixed_point.MARGIN` leaves


@dataclass(frozen=True, repr=False)
class CheckVectors:
    """v, int64 of shape (C_out,), and u = W^T v, int64 of shape (C_in, kernel height, kernel width).

    Security:
        Secret from the servers: who knows v can lie unnoticed. `repr` shows no content.
    """

    v: Vector
    u: Vector

    def __repr__(self) -> str:
        return f"CheckVectors(out_channels={len(self.v)})"


def require_norm(layer: Layer, weights: Integers) -> None:
    """Check that a layer's `weight_norm` is not less than the norm of its quantised weights.

    The client scales activations by it (`fixed_point`). If it were too small, results could leave the ring, and the
    check would fail for some activations and not for others: a package could make aborts depend on the picture.

    Raises:
        PackageError: it is less.
    """
    rows = np.square(weights.astype(np.float64)).reshape(len(weights), -1).sum(axis=1)
    norm = float(np.sqrt(rows.max(initial=0.0)))
    if not layer.weight_norm >= norm * _ROUNDING:
        raise PackageError(
            f"{layer.name}: the manifest says that its weights have norm {layer.weight_norm:.6g}; expected at least "
            f"{norm:.6g}. A client of this package would give away whether activations are large; do not use it"
        )


def draw_check(layer: Layer, weights: Integers) -> CheckVectors:
    """Draw v from the operating system's randomness and compute u from the public quantised weights."""
    v = np.frombuffer(secrets.token_bytes(8 * layer.out_channels), "<i8").astype(np.int64)
    return check_from_v(layer, weights, v)


def check_from_v(layer: Layer, weights: Integers, v: Vector) -> CheckVectors:
    """Compute u = W^T v modulo 2**64. Production code calls `draw_check`; the test vectors pass v."""
    per_group = zip(np.split(v, layer.groups), np.split(weights, layer.groups), strict=True)
    u = np.concatenate([np.tensordot(part, kernel, axes=1) for part, kernel in per_group])
    return CheckVectors(v, u)


def wrong_rows(layer: Layer, check: CheckVectors, x: Integers, y: Integers) -> int:
    """How many rows of `y` are not W x: 0 for an honest answer, always.

    Args:
        layer: the geometry.
        check: this user's vectors for the layer.
        x: encoded activation, the signed integers before masking, channels last.
        y: opened answer, signed integers, channels last.
    """
    weighted = x @ check.u.reshape(layer.in_channels, -1)  # one image per kernel position, then add them shifted
    kernel_positions = weighted.reshape(*x.shape[:-1], -1)
    return int(np.count_nonzero(y @ check.v != _diagonal(layer, kernel_positions).reshape(y.shape[:-1])))


def _diagonal(layer: Layer, images: Integers) -> Integers:
    """Sum over kernel positions p of image p, shifted by p."""
    kernel_height, kernel_width = layer.kernel
    windows = patches(layer, images)
    total = np.zeros(windows.shape[:3], np.int64)
    for row in range(kernel_height):
        for column in range(kernel_width):
            total += windows[:, :, :, row * kernel_width + column, row, column]
    return total
