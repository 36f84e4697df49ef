"""A linear layer over the integers: its geometry, its exact result, the norms of its rows.

Everything is channels last. A *row* is what one output position depends on: the patch of a convolution, the input
vector of a product. Weights are in ONNX's order, (C_out, C_in / groups, kernel height, kernel width); a product is a
convolution with a 1 x 1 kernel over inputs of shape (rows, C_in).
"""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from pydantic import BaseModel, ConfigDict, NonNegativeFloat, PositiveInt, model_validator

from ppidm.protocol.errors import InputError
from ppidm.protocol.ring import DIGIT_BITS, DIGIT_CENTRE, Ring

if TYPE_CHECKING:
    from typing import Any, Self

    from numpy.typing import NDArray

    from ppidm.protocol.ring import Digits, Elements, Integers

    Shape = tuple[int, ...]


ANSWER_RING = Ring(32)  # answers are int32: W x modulo 2**32, and so modulo 2**k as well


class Layer(BaseModel):
    """The public description of one linear layer.

    `weight_norm` is max_c ||W_c||_2 of the quantised weights; `bound` bounds every partial sum of the portable form
    (below 2**24); `parts` is the number of pieces into which the exporter split C_in for that.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    name: str
    kind: Literal["product", "convolution"]
    in_channels: PositiveInt
    out_channels: PositiveInt
    kernel: tuple[PositiveInt, PositiveInt] = (1, 1)
    strides: tuple[PositiveInt, PositiveInt] = (1, 1)
    pads: tuple[int, int, int, int] = (0, 0, 0, 0)  # top, left, bottom, right
    dilations: tuple[PositiveInt, PositiveInt] = (1, 1)
    groups: PositiveInt = 1
    weight_norm: NonNegativeFloat = 0.0
    bound: NonNegativeFloat = 0.0
    parts: PositiveInt = 1

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.in_channels % self.groups or self.out_channels % self.groups:
            raise ValueError(f"{self.name}: channels {self.in_channels} -> {self.out_channels} in {self.groups} groups")
        if min(self.pads) < 0:
            raise ValueError(f"{self.name}: negative padding {self.pads}")
        geometry = (*self.kernel, *self.strides, *self.dilations, self.groups)
        if self.kind == "product" and (any(self.pads) or max(geometry) > 1):
            raise ValueError(f"{self.name}: a product with the geometry of a convolution")
        return self

    @property
    def rank(self) -> int:
        """Rank of inputs and outputs: (rows, C) or (N, H, W, C)."""
        return 2 if self.kind == "product" else 4

    @property
    def row_length(self) -> int:
        """Number of values in a row: K."""
        return self.in_channels // self.groups * prod(self.kernel)

    def output_shape(self, shape: Shape) -> Shape:
        """Shape of the result for an input of `shape`.

        Raises:
            InputError: `shape` has another rank or number of channels, or is smaller than the kernel.
        """
        if len(shape) != self.rank or shape[-1] != self.in_channels or min(shape) < 1:
            expected = "(rows, C)" if self.rank == 2 else "(N, H, W, C)"  # noqa: PLR2004
            raise InputError(f"{self.name}: input shape is {shape}; expected {expected} with C = {self.in_channels}")
        spatial = [self._output_size(shape[1 + axis], axis) for axis in range(2)] if self.rank == 4 else []  # noqa: PLR2004
        return (shape[0], *spatial, self.out_channels)

    def flops(self, shape: Shape) -> int:
        """Floating-point operations for an input of `shape`: 2 per multiply-accumulate."""
        return 2 * prod(self.output_shape(shape)) * self.row_length

    def _output_size(self, size: int, axis: int) -> int:
        padded = size + self.pads[axis] + self.pads[axis + 2]
        reach = self.dilations[axis] * (self.kernel[axis] - 1) + 1
        if padded < reach:
            raise InputError(f"{self.name}: {padded} padded positions; the kernel reaches over {reach}")
        return (padded - reach) // self.strides[axis] + 1


def patches(layer: Layer, x: NDArray[Any], padding: int = 0) -> NDArray[Any]:
    """A view of every row of `x`.

    Args:
        layer: the geometry; `x` may have any number of channels.
        x: (N, H, W, C) or (rows, C).
        padding: what stands outside of `x`.

    Returns:
        (N, H_out, W_out, C, kernel height, kernel width); (rows, 1, 1, C, 1, 1) of a product.
    """
    if layer.kind == "product":
        return x[:, None, None, :, None, None]
    top, left, bottom, right = layer.pads
    padded = np.pad(x, ((0, 0), (top, bottom), (left, right), (0, 0)), constant_values=padding)
    reach = tuple(d * (k - 1) + 1 for k, d in zip(layer.kernel, layer.dilations, strict=True))
    windows = sliding_window_view(padded, reach, axis=(1, 2))
    (s0, s1), (d0, d1) = layer.strides, layer.dilations
    return windows[:, ::s0, ::s1, :, ::d0, ::d1]


def apply(layer: Layer, weights: Integers, digits: Digits, ring: Ring) -> Elements:
    """W x modulo 2**k, exactly: what a server computes on the digits of x.

    Each limb is one float64 product; its sums are integers below 2**53, so no rounding happens on any machine.

    Args:
        layer: the geometry.
        weights: signed integers, (C_out, C_in / groups, kernel height, kernel width).
        digits: planar bytes, (limbs, *input shape).
        ring: the ring of the digits.

    Returns:
        Elements of `layer.output_shape(digits.shape[1:])`.
    """
    result = np.zeros(layer.output_shape(digits.shape[1:]), np.int64)
    for limb, plane in enumerate(digits):
        result += _product(layer, weights, plane).reshape(result.shape) << (DIGIT_BITS * limb)
    return ring.reduce(result)


def _product(layer: Layer, weights: Integers, plane: NDArray[np.uint8]) -> Integers:
    rows = patches(layer, plane, padding=DIGIT_CENTRE)
    results = []
    for channels, kernel in zip(np.split(rows, layer.groups, axis=3), np.split(weights, layer.groups), strict=True):
        matrix = channels.reshape(-1, layer.row_length).astype(np.float64) - DIGIT_CENTRE
        results.append(matrix @ kernel.reshape(len(kernel), -1).T.astype(np.float64))
    return np.concatenate(results, axis=1).astype(np.int64)


def largest_row_norm(layer: Layer, x: NDArray[np.floating[Any]]) -> float:
    """The largest ||row||_2, in float64: a box sum of squares."""
    squares = np.square(x.astype(np.float64)).reshape(*x.shape[:-1], layer.groups, -1).sum(axis=-1)
    return float(np.sqrt(patches(layer, squares).sum(axis=(4, 5)).max()))
