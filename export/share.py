"""`--offload SHARE`: which slices make up a share of the FLOPs at the fewest bytes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ppidm.protocol.cost import slice_cost
from ppidm.protocol.errors import UnsupportedError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ppidm.export.offload import Group
    from ppidm.export.reference import DryRun
    from ppidm.protocol.linear import Shape
    from ppidm.protocol.ring import Ring

TOLERANCE = 0.03  # of the FLOPs
_OVER = 0.01  # by which a slice may exceed the share; a larger one is left out, and smaller ones fill the gap


def work_of(group: Group, shape: Shape) -> int:
    """FLOPs of a slice for an input of `shape`."""
    return sum(linear.layer.flops(shape) for linear in group.operators)


def bytes_of(group: Group, shape: Shape, ring: Ring) -> int:
    """Bytes of tensors, up to the evaluator and down from one server."""
    cost = slice_cost(ring, [linear.layer for linear in group.operators], shape)
    return cost.evaluator_sent + cost.received


def choose_share(groups: Sequence[Group], dry: DryRun, share: float, ring: Ring) -> frozenset[str]:
    """The names of slices that make up `share` of all FLOPs, those with the most FLOPs per byte first.

    Args:
        groups: all that can be offloaded.
        dry: a run with all of them.
        share: of the FLOPs of one evaluation, hoisted work included.
        ring: of the slices.

    Raises:
        UnsupportedError: no choice comes within `TOLERANCE`.
    """
    work = {group.name: work_of(group, dry.shapes[group.name]) for group in groups}
    price = {group.name: bytes_of(group, dry.shapes[group.name], ring) for group in groups}
    whole = sum(work.values()) + dry.client_flops
    chosen, done = set(), 0
    for name in sorted(work, key=lambda name: work[name] / price[name], reverse=True):
        if done + work[name] <= (share + _OVER) * whole:
            chosen.add(name)
            done += work[name]
    if not chosen or abs(done / whole - share) > TOLERANCE:
        most = sum(work.values()) / whole
        raise UnsupportedError(
            f"--offload {share:g}: the nearest share that its layers make up is {done / whole:.3f}; at most {most:.3f} of "
            "this model's FLOPs can be offloaded. Give another share, or all"
        )
    return frozenset(chosen)
