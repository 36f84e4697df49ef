"""Weights -> signed integers, one scale per output channel; and the proof that float32 products of them are exact."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ppidm.protocol.errors import UnsupportedError
from ppidm.protocol.records import EXACT_FLOAT32, Proof
from ppidm.protocol.ring import DIGIT_BITS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from ppidm.protocol.linear import Layer
    from ppidm.protocol.ring import Integers

WEIGHT_BITS = 12  # exact in float16 and in TF32; about 60 dB for a whole U-Net (docs: README, "How exact")
FEWEST_BITS = 8
ROW_SPREAD = 2.0  # the longest row of an activation, relative to an average one: a guess, which only shifts the balance
STANDARD_DEVIATIONS = 12  # a Gaussian leaves them with probability 4e-33
DIGIT_DEVIATION = (255 * 257 / 12) ** 0.5  # standard deviation of a uniform digit in [-128, 127]; its mean is -1/2
MAX_PARTS = 64
SMALLEST = 2.0**-100  # below it a channel counts as zeros: its scale would leave the normal numbers of float32


@dataclass(frozen=True)
class QuantizedLayer:
    """A layer with its integers.

    Attributes:
        layer: geometry, norm, bound on partial sums, number of parts.
        weights: (C_out, C_in / groups, kernel height, kernel width), |w| < 2**(bits - 1).
        scales: float32, (C_out,): weight = integer * scale.
        bias: float32, (C_out,); stays with the client.
    """

    layer: Layer
    weights: Integers
    scales: NDArray[np.float32]
    bias: NDArray[np.float32]


def best_bits(layer: Layer, weights: NDArray[np.float32], ring_bits: int = 32) -> int:
    """How many bits of the ring the weights of a layer should have; activations get the rest.

    A result is a sum of K products, and no longer than the ring: ||row|| ||W_c|| < 2**(k-1). A weight of b bits errs by a
    uniform 1/12 of a unit; so does an activation, whose size follows from the norm. The best b makes the sum of both
    relative errors the smallest: 12, but 11 or 10 for rows of some thousand values.
    """
    rows = weights.reshape(len(weights), -1).astype(np.float64)
    largest, square = np.abs(rows).max(axis=1), np.square(rows).mean(axis=1)
    shape = np.sqrt(square[largest > 0]) / largest[largest > 0]  # of a channel's weights, relative to the largest
    if not shape.size:
        return WEIGHT_BITS

    def error(bits: int) -> float:
        unit = 2 ** (bits - 1) - 1
        of_weights = float((1 / (12 * np.square(unit * shape))).mean())
        norm = float(unit * shape.max()) * layer.row_length**0.5
        activation = 2 ** (ring_bits - 1) / norm / layer.row_length**0.5 / ROW_SPREAD  # an average one, in units
        return float(of_weights + 1 / (12 * activation**2))

    return min(range(WEIGHT_BITS, FEWEST_BITS - 1, -1), key=error)


def quantize_layer(
    layer: Layer, weights: NDArray[np.float32], bias: NDArray[np.float32], bits: int | None = None
) -> QuantizedLayer:
    """Quantise symmetrically, per output channel, and bound the sums.

    Args:
        layer: the geometry.
        weights: (C_out, C_in / groups, kernel height, kernel width).
        bias: (C_out,); must be finite, and is passed on.
        bits: of an integer, sign included; at most `WEIGHT_BITS`, which is what a slice stores exactly. By default
            `best_bits`.

    Raises:
        UnsupportedError: weights that are not finite, or sums that no split makes exact.
    """
    if not (np.isfinite(weights).all() and np.isfinite(bias).all()):
        raise UnsupportedError(f"{layer.name}: weights hold inf or nan; expected finite ones. Check the model's files")
    bits = best_bits(layer, weights) if bits is None else bits
    assert 1 < bits <= WEIGHT_BITS
    largest = np.abs(weights.reshape(len(weights), -1)).max(axis=1).astype(np.float64)
    scales = (np.where(largest >= SMALLEST, largest, 1.0) / (2 ** (bits - 1) - 1)).astype(np.float32)
    integers = np.rint(weights / scales[:, None, None, None].astype(np.float64)).astype(np.int64)
    parts, bound = split_for_exactness(layer, integers)
    norm = float(np.sqrt(np.square(integers).reshape(len(integers), -1).sum(axis=1).max()))
    exact = layer.model_copy(update={"weight_norm": norm, "bound": bound, "parts": parts})
    return QuantizedLayer(exact, integers, scales, bias)


def proof_of(layers: Sequence[QuantizedLayer]) -> Proof:
    """What the exporter knows of the operands and sums of a slice."""
    largest = max(int(np.abs(layer.weights).max()) for layer in layers)
    return Proof(
        operand_bits=max(DIGIT_BITS, largest.bit_length()), sum_bound=max(layer.layer.bound for layer in layers)
    )


def split_for_exactness(layer: Layer, weights: Integers) -> tuple[int, float]:
    """Into how many parts C_in must be split so that every partial sum of a float32 product is exact.

    Digits are uniform by construction (masked, or the mask itself), so the bound is statistical: twelve standard
    deviations plus the mean of the digits, -1/2, times sum |w|. With sum |w| in place of |sum w| it covers every
    partial sum, in whatever order an engine adds. The worst case, 128 sum |w|, would split about 50 times too often.

    Returns:
        The number of parts, the smallest that does, and the bound of the largest of them.

    Raises:
        UnsupportedError: one input channel alone is too much, or a group of a grouped convolution, which is not split.
    """
    per_channel = weights.reshape(*weights.shape[:2], -1).astype(np.float64)
    squares, sums = np.square(per_channel).sum(axis=2), np.abs(per_channel).sum(axis=2)
    most = min(MAX_PARTS, weights.shape[1]) if layer.groups == 1 else 1
    for parts in range(1, 1 + most):
        pieces = zip(np.array_split(squares, parts, axis=1), np.array_split(sums, parts, axis=1), strict=True)
        bound = max(_bound(*piece) for piece in pieces)
        if bound < EXACT_FLOAT32:
            return parts, bound
    raise UnsupportedError(
        f"{layer.name}: {layer.in_channels} input channels in {layer.groups} groups, kernel {layer.kernel}: sums of up "
        f"to {bound:.3g} in {most} parts; expected less than 2**24. Float32 would not be exact for this layer"
    )


def _bound(squares: NDArray[np.float64], sums: NDArray[np.float64]) -> float:
    """Of a piece; both arguments are (C_out, input channels of the piece)."""
    deviation = DIGIT_DEVIATION * np.sqrt(squares.sum(axis=1))
    return float((STANDARD_DEVIATIONS * deviation + sums.sum(axis=1) / 2).max())
