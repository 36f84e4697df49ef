"""What the client needs besides the integers of an answer: scales and bias of every layer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ppidm.protocol.arrays import read_arrays, write_arrays
from ppidm.protocol.errors import PackageError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from ppidm.protocol.records import Subgraph

OPENINGS = "openings.npz"


@dataclass(frozen=True)
class Opening:
    """Of one layer: float32 `scales` (weight = integer * scale) and `bias`, both of shape (C_out,)."""

    scales: NDArray[np.float32]
    bias: NDArray[np.float32]


def write_openings(path: Path, openings: Mapping[str, Sequence[Opening]]) -> None:
    """Write the openings of all slices: name -> one per layer."""
    arrays = {}
    for name, layers in openings.items():
        for index, opening in enumerate(layers):
            arrays[f"{name}/{index}/scales"], arrays[f"{name}/{index}/bias"] = opening.scales, opening.bias
    write_arrays(path, arrays)


def read_openings(path: Path, slices: Sequence[Subgraph]) -> dict[str, list[Opening]]:
    """Read the openings of `slices`.

    Raises:
        PackageError: the file does not hold just these, or one is inf or nan.
    """
    expected = {
        f"{subgraph.name}/{index}/{field}": ("<f4", (layer.out_channels,))
        for subgraph in slices
        for index, layer in enumerate(subgraph.layers)
        for field in ("scales", "bias")
    }
    arrays = read_arrays(path, expected)
    if broken := [name for name, values in arrays.items() if not np.isfinite(values).all()]:
        raise PackageError(f"{path}: array {broken[0]!r} holds inf or nan; copy or export the package again")
    return {
        subgraph.name: [
            Opening(arrays[f"{subgraph.name}/{index}/scales"], arrays[f"{subgraph.name}/{index}/bias"])
            for index in range(len(subgraph.layers))
        ]
        for subgraph in slices
    }
