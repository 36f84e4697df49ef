"""What a build will take, before it begins: measured on TensorRT for RTX 1.7 and 2 cores, see docs/measurements/engines.json."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ppidm.protocol.records import Subgraph

SECONDS, SECONDS_PER_PRODUCT, SECONDS_PER_WEIGHT = 0.03, 0.0175, 1.3e-8  # of one core
FIXED_BYTES, BYTES_PER_WEIGHT = 400 << 20, 14  # of memory; the latter of a slice that is being compiled
PLAN_BYTES, PLAN_BYTES_PER_PRODUCT, PLAN_BYTES_PER_WEIGHT = 200_000, 37_000, 4  # kernels; weights are float32
MIB = 1 << 20


@dataclass(frozen=True)
class Estimate:
    """Of a build.

    Attributes:
        slices: to compile.
        seconds: until it is done.
        memory: bytes at the peak.
        disk: bytes of all plans.
    """

    slices: int
    seconds: float
    memory: int
    disk: int

    def __str__(self) -> str:
        return (
            f"{self.slices} slices to compile: about {self.seconds:.0f} s, {self.memory // MIB} MiB of memory and "
            f"{self.disk // MIB} MiB of disk"
        )


def estimate(slices: Sequence[Subgraph], jobs: int, buckets: int = 1) -> Estimate:
    """Of compiling `slices`, `jobs` at a time on as many cores, with a number of profiles each."""
    weights = sorted(map(weights_of, slices), reverse=True)
    products = sum(map(products_of, slices))
    seconds = SECONDS * len(slices) + SECONDS_PER_PRODUCT * products + SECONDS_PER_WEIGHT * sum(weights)
    return Estimate(
        slices=len(slices),
        seconds=buckets * seconds / jobs,
        memory=FIXED_BYTES + BYTES_PER_WEIGHT * sum(weights[:jobs]),
        disk=buckets * (PLAN_BYTES * len(slices) + PLAN_BYTES_PER_PRODUCT * products)
        + PLAN_BYTES_PER_WEIGHT * sum(weights),
    )


def weights_of(subgraph: Subgraph) -> int:
    """How many weights a slice has."""
    return sum(layer.row_length * layer.out_channels for layer in subgraph.layers)


def products_of(subgraph: Subgraph) -> int:
    """How many matrix products a slice consists of."""
    return sum(layer.parts * prod(layer.kernel) for layer in subgraph.layers)
