"""What stands in for servers while a graph is exported: callables that compute slices on the spot.

Weights are read where they are used, so that one slice is in memory at a time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ppidm.engines.onnxruntime import CpuEngine
from ppidm.protocol.fixed_point import decode, encode, largest_scale
from ppidm.protocol.linear import patches
from ppidm.protocol.precision import restore, truncate
from ppidm.protocol.shares import aggregate

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from ppidm.export.offload import Group
    from ppidm.export.operators import Linear
    from ppidm.protocol.linear import Layer, Shape
    from ppidm.protocol.openings import Opening
    from ppidm.protocol.records import Subgraph
    from ppidm.protocol.ring import Elements, Ring

    Floats = NDArray[np.float32]


class ZeroOffload:
    """Zeros in place of every answer: costs nothing, and tells the shapes.

    Attributes:
        shapes: of the input of every slice that ran.
    """

    def __init__(self, groups: Sequence[Group]) -> None:
        self._layers = {group.name: [linear.layer for linear in group.operators] for group in groups}
        self.shapes: dict[str, Shape] = {}

    def __call__(self, name: str, x: Floats) -> list[Floats]:
        """See `engines.program.ProgramRunner.run`."""
        layers = self._layers[name]
        rows = _rows(layers[0], x)
        self.shapes[name] = rows.shape
        return _restored([np.zeros(layer.output_shape(rows.shape), np.float32) for layer in layers], x, rows)


class FloatOffload:
    """Slices as float32 products of the original weights."""

    def __init__(self, groups: Sequence[Group]) -> None:
        self._groups = {group.name: group.operators for group in groups}

    def __call__(self, name: str, x: Floats) -> list[Floats]:
        """See `engines.program.ProgramRunner.run`."""
        rows = _rows(self._groups[name][0].layer, x)
        return _restored([_product(linear, rows) for linear in self._groups[name]], x, rows)


class SliceOffload:
    """The exported slices, on encoded but unmasked activations: masking cancels exactly, so the result is the same."""

    def __init__(
        self,
        server: Path,
        slices: Sequence[Subgraph],
        openings: Mapping[str, Sequence[Opening]],
        ring: Ring,
        dropped_bits: int = 0,
    ) -> None:
        self._engine, self._server, self._ring, self._dropped_bits = CpuEngine(ring), server, ring, dropped_bits
        self._slices = {subgraph.name: subgraph for subgraph in slices}
        self._openings = openings

    def __call__(self, name: str, x: Floats) -> list[Floats]:
        """See `engines.program.ProgramRunner.run`."""
        subgraph = self._slices[name]
        rows = _rows(subgraph.layers[0], x)
        scale = largest_scale(self._ring, subgraph.layers, rows, 1, self._dropped_bits)
        digits = self._ring.to_digits(self._ring.reduce(encode(rows, scale)))
        answers = self._engine.load(self._server, subgraph).run(digits)
        pairs = zip(answers, self._openings[name], strict=True)
        sums = ((aggregate(self._ring, self._shares(answer)), opening) for answer, opening in pairs)
        return _restored([decode(y, scale, opening.scales, opening.bias) for y, opening in sums], x, rows)

    def _shares(self, answer: NDArray[np.int32]) -> list[Elements]:
        """The answer, as one share; as two that are truncated if answers are."""
        whole = answer.view(np.uint32) & self._ring.mask
        if not self._dropped_bits:
            return [whole]
        share = np.random.default_rng(0).integers(0, 2**32, whole.shape, np.uint32) & self._ring.mask
        shares = share, (whole - share) & self._ring.mask
        return [restore(truncate(self._ring, each, self._dropped_bits), self._dropped_bits) for each in shares]


def _rows(layer: Layer, x: Floats) -> Floats:
    return x.reshape(-1, x.shape[-1]) if layer.kind == "product" else x


def _restored(results: list[Floats], x: Floats, rows: Floats) -> list[Floats]:
    return [result.reshape(*x.shape[:-1], -1) if x.ndim != rows.ndim else result for result in results]


def _product(linear: Linear, rows: Floats) -> Floats:
    layer, kernels = linear.layer, linear.weights()
    inputs = np.split(patches(layer, rows), layer.groups, axis=3)
    results = [
        group.reshape(-1, layer.row_length) @ kernel.reshape(len(kernel), -1).T
        for group, kernel in zip(inputs, np.split(kernels, layer.groups), strict=True)
    ]
    return np.concatenate(results, axis=1).reshape(layer.output_shape(rows.shape)) + linear.bias()
