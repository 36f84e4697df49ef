"""The slices of the shipped model, with weights read back from their files; and W x by torch, in 64-bit integers."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
import onnx
import torch
from onnx import numpy_helper

from ppidm.engines.onnxruntime import CpuEngine, OrtRunner
from ppidm.protocol.check_file import VECTORS, read_checks
from ppidm.protocol.fixed_point import encode, largest_scale
from ppidm.protocol.manifest import ServerManifest, load_manifest
from ppidm.protocol.masks import Mask, dealer_share
from ppidm.protocol.ring import Ring

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ppidm.protocol.check import CheckVectors
    from ppidm.protocol.linear import Layer, Shape
    from ppidm.protocol.records import Subgraph
    from ppidm.protocol.ring import Digits, Elements, Integers

RING = Ring(32)
DEALERS = 2


@dataclass(frozen=True, repr=False)
class LoadedSlice:
    subgraph: Subgraph
    runner: OrtRunner
    weights: list[Integers]  # of every layer
    checks: list[CheckVectors]

    @property
    def layers(self) -> tuple[Layer, ...]:
        return self.subgraph.layers

    def small_shape(self) -> Shape:
        """Another shape than the model's own, and a batch."""
        return (3, *((4, 5) if self.layers[0].kind == "convolution" else ()), self.layers[0].in_channels)


@cache
def load_slices(package: Path) -> list[LoadedSlice]:
    server = package / "server-0"
    manifest = load_manifest(server, ServerManifest)
    checks, engine = read_checks(package / "check" / VECTORS, manifest.slices), CpuEngine(RING)
    return [
        LoadedSlice(subgraph, engine.load(server, subgraph), weights_of(server, subgraph), checks[subgraph.name])
        for subgraph in manifest.slices
    ]


def weights_of(server: Path, subgraph: Subgraph) -> list[Integers]:
    initializers = {tensor.name: tensor for tensor in onnx.load(server / subgraph.file).graph.initializer}
    pieces = {
        name: numpy_helper.to_array(tensor) for name, tensor in initializers.items() if name.startswith("weights_")
    }
    weights = []
    for index, layer in enumerate(subgraph.layers):
        parts = [pieces.pop(f"weights_{index}_{part}") for part in range(layer.parts)]
        assert {part.dtype for part in parts} == {np.dtype(np.float16)}
        whole = np.concatenate(parts, axis=-2).astype(np.int64)  # (..., C_in, C_out); of a convolution, by place
        weights.append(np.moveaxis(whole.reshape(-1, *whole.shape[-2:]), (2, 1), (0, 1)).reshape(_shape(layer)))
    assert not pieces
    return weights


def _shape(layer: Layer) -> tuple[int, ...]:
    return (layer.out_channels, layer.in_channels, *layer.kernel)


def apply_torch(layer: Layer, weights: Integers, x: Integers) -> Integers:
    """W x by torch's integer kernels; shares no code with `ppidm`. Exact while |W x| < 2**63."""
    kernel, values = torch.from_numpy(np.ascontiguousarray(weights)), torch.from_numpy(x)
    if layer.kind == "product":
        return (values @ kernel[:, :, 0, 0].T).numpy()
    top, left, bottom, right = layer.pads
    images = torch.nn.functional.pad(values.permute(0, 3, 1, 2), (left, right, top, bottom))
    geometry = {"stride": layer.strides, "dilation": layer.dilations, "groups": layer.groups}
    with one_thread():
        return torch.nn.functional.conv2d(images, kernel, **geometry).permute(0, 2, 3, 1).numpy()


@contextmanager
def one_thread() -> Iterator[None]:
    """Threads that wait for each other take ten times as long where others use the processor, too."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def masked_answers(runner: OrtRunner, ring: Ring, x: Elements, mask: Mask) -> list[list[Elements]]:
    """What evaluator and dealers answer, each a list over the layers."""
    sent = [mask.hide(x), *(dealer_share(ring, seed, x.shape) for seed in mask.seeds)]
    return [[answer.view(np.uint32) for answer in runner.run(digits)] for digits in sent]


def rough_activation(rng: np.random.Generator, loaded: LoadedSlice, shape: Shape) -> Integers:
    """Some channels large, most small, encoded as the client does."""
    x = rng.normal(size=shape) * rng.lognormal(sigma=2, size=shape[-1]) + rng.normal(size=shape[-1])
    return encoded(loaded, x.astype(np.float32))


def extreme_activation(rng: np.random.Generator, loaded: LoadedSlice, shape: Shape) -> Integers:
    """One row is the longest kernel: Cauchy-Schwarz with equality, so that W x reaches an end of the ring."""
    layer, weights = max(zip(loaded.layers, loaded.weights, strict=True), key=lambda pair: pair[0].weight_norm)
    norms = np.square(weights).reshape(len(weights), -1).sum(axis=1)
    row = weights[int(np.argmax(norms))].transpose(1, 2, 0) * rng.choice([-1, 1])
    x = np.zeros(shape, np.float32)
    if layer.kind == "product":
        x[rng.integers(len(x))] = row[0, 0]
    else:
        top, left = np.subtract(layer.strides, layer.pads[:2])  # of output position (1, 1)
        x[rng.integers(len(x)), top : top + layer.kernel[0], left : left + layer.kernel[1]] = row
    return encoded(loaded, x)


def encoded(loaded: LoadedSlice, x: np.ndarray) -> Integers:
    return encode(x, largest_scale(RING, loaded.layers, x, DEALERS))


def plain_digits(x: Integers) -> Digits:
    """What an unmasked build would send."""
    return RING.to_digits(RING.reduce(x))
