"""Random layers with weights and inputs, and W x in plain Python integers to compare with."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING

import numpy as np
from hypothesis import strategies as st

from ppidm.protocol.linear import Layer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from ppidm.protocol.ring import Integers


@dataclass(frozen=True)
class Case:
    """A layer, its weights, and an input."""

    layer: Layer
    weights: Integers
    x: Integers


LAYERS = {  # one of every kind, for tests that need no drawing; small enough for plain Python
    "product": Layer(name="product", kind="product", in_channels=5, out_channels=3),
    "pointwise": Layer(name="pointwise", kind="convolution", in_channels=3, out_channels=4, strides=(2, 2)),
    "convolution": Layer(
        name="convolution", kind="convolution", in_channels=3, out_channels=4, kernel=(3, 3), pads=(1, 1, 1, 1)
    ),
    "strided": Layer(
        name="strided",
        kind="convolution",
        in_channels=2,
        out_channels=5,
        kernel=(3, 2),
        strides=(2, 1),
        pads=(0, 1, 1, 2),
    ),
    "grouped": Layer(
        name="grouped",
        kind="convolution",
        in_channels=4,
        out_channels=6,
        kernel=(2, 3),
        pads=(1, 0, 0, 2),
        dilations=(1, 2),
        groups=2,
    ),
}


def input_shape(layer: Layer) -> tuple[int, ...]:
    """A shape that every one of `LAYERS` accepts."""
    return (6, layer.in_channels) if layer.kind == "product" else (2, 5, 6, layer.in_channels)


def random_weights(rng: np.random.Generator, layer: Layer, bits: int = 12) -> Integers:
    """Signed integers of `bits`, both ends included."""
    shape = (layer.out_channels, layer.in_channels // layer.groups, *layer.kernel)
    return rng.integers(-(2 ** (bits - 1)), 2 ** (bits - 1), shape)


def random_case(layer: Layer, bits: int = 14, weight_bits: int = 12, seed: int = 0) -> Case:
    """A case within the norm rule of Z_2^32."""
    rng = np.random.default_rng(seed)
    x = rng.integers(-(2 ** (bits - 1)), 2 ** (bits - 1), input_shape(layer))
    return Case(layer, random_weights(rng, layer, weight_bits), x)


def with_norm(layer: Layer, weights: Integers) -> Layer:
    """`layer` with the norm of its weights, as the exporter fills it in."""
    norm = float(np.sqrt(np.square(weights.astype(np.float64)).reshape(len(weights), -1).sum(axis=1).max()))
    return layer.model_copy(update={"weight_norm": norm})


@st.composite
def layers(draw: st.DrawFn) -> Layer:
    """Any geometry, small."""
    groups = draw(st.integers(1, 3))
    channels = {
        "name": "drawn",
        "in_channels": groups * draw(st.integers(1, 3)),
        "out_channels": groups * draw(st.integers(1, 3)),
    }
    if draw(st.booleans()):
        return Layer(kind="product", **channels)
    small = st.integers(1, 3)
    return Layer(
        kind="convolution",
        **channels,
        kernel=draw(st.tuples(small, small)),
        strides=draw(st.tuples(small, small)),
        pads=draw(st.tuples(*[st.integers(0, 2)] * 4)),
        dilations=draw(st.tuples(st.integers(1, 2), st.integers(1, 2))),
        groups=groups,
    )


@st.composite
def shapes(draw: st.DrawFn, layer: Layer) -> tuple[int, ...]:
    """An input shape that `layer` accepts."""
    if layer.kind == "product":
        return (draw(st.integers(1, 5)), layer.in_channels)
    spatial = []
    for axis in range(2):
        reach = layer.dilations[axis] * (layer.kernel[axis] - 1) + 1
        smallest = max(1, reach - layer.pads[axis] - layer.pads[axis + 2])
        spatial.append(draw(st.integers(smallest, smallest + 3)))
    return (draw(st.integers(1, 2)), *spatial, layer.in_channels)


@st.composite
def cases(draw: st.DrawFn, x_bits: int = 32, weight_bits: int = 16) -> Case:
    """A layer with values of all sizes, the ends of their ranges among them."""
    layer = draw(layers())
    shape = draw(shapes(layer))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    x = _with_ends(rng, rng.integers(-(2 ** (x_bits - 1)), 2 ** (x_bits - 1), shape), x_bits)
    return Case(layer, _with_ends(rng, random_weights(rng, layer, weight_bits), weight_bits), x)


def _with_ends(rng: np.random.Generator, values: Integers, bits: int) -> Integers:
    ends = rng.choice([-(2 ** (bits - 1)), 2 ** (bits - 1) - 1, -1, 0, 1], values.shape)
    return np.where(rng.random(values.shape) < rng.random(), ends, values)


def apply_exactly(layer: Layer, weights: Integers, x: Integers) -> NDArray[np.object_]:
    """W x in Python integers of any size, from the definition in the ONNX standard; shares no code with `ppidm`.

    Returns:
        (output positions of all images in order, C_out).
    """
    kernels = [[int(w) for w in kernel.reshape(-1)] for kernel in weights]
    per_group = layer.out_channels // layer.groups
    result = [
        [
            sum(w * value for w, value in zip(kernel, groups[channel // per_group], strict=True))
            for channel, kernel in enumerate(kernels)
        ]
        for groups in rows_exactly(layer, x)
    ]
    return np.array(result, object)


def rows_exactly(layer: Layer, x: NDArray) -> Iterator[list[list]]:
    """For every output position: per group, the values that its kernels see, in the kernels' order."""
    reach = [layer.dilations[axis] * (layer.kernel[axis] - 1) + 1 for axis in range(2)]
    top, left, bottom, right = layer.pads
    for image in x.reshape(-1, 1, 1, layer.in_channels) if layer.kind == "product" else x:
        height, width, _ = image.shape
        for row in range(-top, height + bottom - reach[0] + 1, layer.strides[0]):
            for column in range(-left, width + right - reach[1] + 1, layer.strides[1]):
                yield [_patch(layer, image, row, column, group) for group in range(layer.groups)]


def _patch(layer: Layer, image: NDArray, top: int, left: int, group: int) -> list:
    height, width, _ = image.shape
    size = layer.in_channels // layer.groups
    values = []
    for channel, i, j in product(range(group * size, (group + 1) * size), *map(range, layer.kernel)):
        row, column = top + i * layer.dilations[0], left + j * layer.dilations[1]
        inside = 0 <= row < height and 0 <= column < width
        values.append(image[row, column, channel].item() if inside else 0)
    return values
