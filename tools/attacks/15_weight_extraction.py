"""A client extracts the weights of the model by asking for unit vectors.

Has: what every client has. Tries: unit vectors; column i of a product is W e_i, and an impulse in channel i of a small
image shows all kernel positions of a convolution. Expected to succeed: inherent to a protocol whose client opens linear results.
"""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING

import numpy as np
import whole_model
from parties import RING
from verdict import SUCCEEDS, Size, Verdict

from ppidm.export.check_keys import weights_from_slice
from ppidm.protocol.messages import masked_request
from ppidm.runtime.limits import FEW_ELEMENTS

if TYPE_CHECKING:
    from ppidm.protocol.linear import Layer
    from ppidm.protocol.records import Subgraph
    from ppidm.protocol.ring import Integers

EXPECTED = SUCCEEDS


def run(size: Size) -> Verdict:
    """Slices of the shipped model."""
    chosen = whole_model.manifest().slices[:: size.pick(24, 1)]
    right = values = 0
    for subgraph in chosen:
        truth = weights_from_slice(whole_model.package() / "server-0" / subgraph.file, subgraph.layers)
        for weights, found in zip(truth, extract(subgraph), strict=True):
            values += weights.size
            right += int(np.sum(weights == found))
    return Verdict(right == values, f"{right:,} of {values:,} weights recovered from {len(chosen)} slices")


def extract(subgraph: Subgraph) -> list[Integers]:
    """The weights of every layer of a slice, in ONNX's order."""
    first = subgraph.layers[0]
    impulses = list(product(*(range(1, stride + 1) for stride in first.strides)))
    product_input = np.eye(first.in_channels, dtype=np.uint32)
    x = product_input if first.kind == "product" else images_of_impulses(first, impulses)
    asked = [ask(subgraph, part) for part in np.array_split(x, x.size // FEW_ELEMENTS + 1)]
    results = [np.concatenate(parts) for parts in zip(*asked, strict=True)]
    if first.kind == "product":
        return [y.T[:, :, None, None] for y in results]
    return [kernels(layer, y, impulses) for layer, y in zip(subgraph.layers, results, strict=True)]


def ask(subgraph: Subgraph, x: np.ndarray) -> list[Integers]:
    """One request, as large as a server takes."""
    answer = whole_model.service().infer(subgraph.name, masked_request(RING.to_digits(x))).answer
    return [tensor.array("INT32").astype(np.int64) for tensor in answer]


def images_of_impulses(layer: Layer, impulses: list[tuple[int, int]]) -> np.ndarray:
    """One image per impulse and channel, two pixels larger than the strides."""
    height, width = (2 + stride for stride in layer.strides)
    images = np.zeros((len(impulses), layer.in_channels, height, width, layer.in_channels), np.uint32)
    for index, (row, column) in enumerate(impulses):
        images[index, :, row, column] = np.eye(layer.in_channels, dtype=np.uint32)
    return images.reshape(-1, height, width, layer.in_channels)


def kernels(layer: Layer, y: Integers, impulses: list[tuple[int, int]]) -> Integers:
    """Output position p sees the impulse at h through kernel position h + pad - p * stride."""
    found = np.zeros((layer.out_channels, layer.in_channels, *layer.kernel), np.int64)
    by_impulse = y.reshape(len(impulses), layer.in_channels, *y.shape[1:])
    for index, (row, column) in enumerate(impulses):
        for p, q in product(range(y.shape[1]), range(y.shape[2])):
            i, j = row + layer.pads[0] - p * layer.strides[0], column + layer.pads[1] - q * layer.strides[1]
            if 0 <= i < layer.kernel[0] and 0 <= j < layer.kernel[1]:
                found[:, :, i, j] = by_impulse[index, :, p, q].T
    return found
