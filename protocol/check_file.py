"""The file of a user's check vectors, `OUT/check/vectors.npz`. Secret: readable by its owner only."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ppidm.protocol.arrays import read_arrays, write_arrays
from ppidm.protocol.check import CheckVectors

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from ppidm.protocol.linear import Shape
    from ppidm.protocol.records import Subgraph

VECTORS = "vectors.npz"
_OWNER_ONLY = 0o600


def write_checks(path: Path, checks: Mapping[str, Sequence[CheckVectors]]) -> None:
    """Write the vectors of all slices: name -> one pair per layer."""
    path.touch(mode=_OWNER_ONLY)
    path.chmod(_OWNER_ONLY)  # an older file may have been open to others
    arrays = {}
    for name, layers in checks.items():
        for index, check in enumerate(layers):
            arrays[f"{name}/{index}/v"], arrays[f"{name}/{index}/u"] = check.v, check.u
    write_arrays(path, arrays)


def read_checks(path: Path, slices: Sequence[Subgraph]) -> dict[str, list[CheckVectors]]:
    """Read the vectors of `slices`.

    Raises:
        PackageError: the file does not hold just these.
    """
    expected: dict[str, tuple[str, Shape]] = {}
    for subgraph in slices:
        for index, layer in enumerate(subgraph.layers):
            expected[f"{subgraph.name}/{index}/v"] = ("<i8", (layer.out_channels,))
            expected[f"{subgraph.name}/{index}/u"] = ("<i8", (layer.in_channels, *layer.kernel))
    arrays = read_arrays(path, expected)
    return {
        subgraph.name: [
            CheckVectors(arrays[f"{subgraph.name}/{index}/v"], arrays[f"{subgraph.name}/{index}/u"])
            for index in range(len(subgraph.layers))
        ]
        for subgraph in slices
    }
