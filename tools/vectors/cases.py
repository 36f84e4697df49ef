"""The inputs of a run, all of them from its name."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from ppidm.protocol.check import check_from_v
from ppidm.protocol.linear import Layer
from ppidm.protocol.prg import SEED_BYTES, Seed
from ppidm.protocol.ring import Ring
from ppidm.protocol.run import Transcript, run_protocol, serve

if TYPE_CHECKING:
    from ppidm.protocol.check import CheckVectors
    from ppidm.protocol.messages import Tensor
    from ppidm.protocol.ring import Integers

X_BITS = {24: 9, 32: 14}  # of the encoded activation; with the weights below no result leaves the ring
WEIGHT_BITS = {24: 8, 32: 12}

PRODUCT = Layer(name="product", kind="product", in_channels=5, out_channels=3)
TWIN = PRODUCT.model_copy(update={"name": "twin"})
WIDE = Layer(name="wide", kind="product", in_channels=5, out_channels=4)
CONVOLUTION = Layer(
    name="convolution", kind="convolution", in_channels=3, out_channels=2, kernel=(3, 3), pads=(1, 1, 1, 1)
)
STRIDED = Layer(
    name="strided", kind="convolution", in_channels=2, out_channels=3, kernel=(3, 2), strides=(2, 1), pads=(0, 1, 1, 2)
)
GROUPED = Layer(
    name="grouped",
    kind="convolution",
    in_channels=4,
    out_channels=6,
    kernel=(2, 3),
    pads=(1, 0, 0, 2),
    dilations=(1, 2),
    groups=2,
)
POINTWISE = Layer(name="pointwise", kind="convolution", in_channels=3, out_channels=2, strides=(2, 2))


@dataclass(frozen=True)
class Case:
    """The inputs of one run."""

    ring: Ring
    layers: list[Layer]
    weights: list[Integers]
    checks: list[CheckVectors]
    x: Integers
    seeds: list[Seed]

    def run(self) -> tuple[list[Integers], Transcript]:
        """Play all parties."""
        return run_protocol(self.ring, self.layers, self.weights, self.checks, self.x, self.seeds)

    def serve(self, request: list[Tensor]) -> list[Tensor]:
        """What a server answers."""
        return serve(self.ring, self.layers, self.weights, request)


def make_case(name: str, bits: int, layers: list[Layer], shape: tuple[int, ...], dealers: int) -> Case:
    """A case within the norm rule, all of it from `name`."""
    weights = [signed(f"{name} weights {layer.name}", weight_shape(layer), WEIGHT_BITS[bits]) for layer in layers]
    checks = [
        check_from_v(layer, w, signed(f"{name} check {layer.name}", (layer.out_channels,), 64))
        for layer, w in zip(layers, weights, strict=True)
    ]
    x = signed(f"{name} x", shape, X_BITS[bits])
    return Case(Ring(bits), layers, weights, checks, x, make_seeds(name, dealers))


def ends_case() -> Case:
    """The largest activations there are, the ends of the ring, and check vectors at the ends of theirs."""
    layer = Layer(name="ends", kind="product", in_channels=2, out_channels=2)
    weights = np.array([[1, 0], [0, -1]]).reshape(2, 2, 1, 1)
    x = np.array([[2**31 - 1, 2**31 - 1], [-(2**31) + 1, -(2**31) + 1], [0, 1], [-1, 0]])
    check = check_from_v(layer, weights, np.array([-(2**63), 2**63 - 1]))
    return Case(Ring(32), [layer], [weights], [check], x, make_seeds("ends", 1))


def weight_shape(layer: Layer) -> tuple[int, ...]:
    """ONNX's order."""
    return (layer.out_channels, layer.in_channels // layer.groups, *layer.kernel)


def make_seeds(name: str, dealers: int) -> list[Seed]:
    """One per dealer. For test vectors only: these are public."""
    return [Seed(pseudorandom(f"{name} seed {dealer}", (SEED_BYTES,)).tobytes()) for dealer in range(dealers)]


def signed(name: str, shape: tuple[int, ...], bits: int) -> Integers:
    """Integers of `bits`, uniform."""
    wide = pseudorandom(name, (8 * prod(shape),)).view("<i8").astype(np.int64)
    return (wide >> (64 - bits)).reshape(shape)


def pseudorandom(name: str, shape: tuple[int, ...]) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Bytes that depend on `name` only."""
    stream = hashlib.shake_256(f"ppidm test vector: {name}".encode()).digest(prod(shape))
    return np.frombuffer(stream, np.uint8).reshape(shape)
