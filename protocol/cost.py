"""The declared cost of a request: rounds and payload bytes. A test measures that the declaration is true."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING

from ppidm.protocol.pieces import pieces_of
from ppidm.protocol.prg import SEED_BYTES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ppidm.protocol.linear import Layer, Shape
    from ppidm.protocol.ring import Ring

ANSWER_BYTES = 4  # of one element of an answer: int32


@dataclass(frozen=True)
class Cost:
    """What one request costs the client. Bytes are tensor contents; names, shapes and framing come on top."""

    rounds: int
    evaluator_sent: int
    dealer_sent: int  # per dealer
    received: int  # per server, evaluator and dealers alike


def direct_cost(ring: Ring, layers: Sequence[Layer], shape: Shape) -> Cost:
    """Direct mode: all servers are asked at once, so it is one round whatever the number of dealers."""
    outputs = sum(prod(layer.output_shape(shape)) for layer in layers)
    return Cost(
        rounds=1,
        evaluator_sent=ring.limbs * prod(shape),
        dealer_sent=SEED_BYTES + 8 * len(shape),
        received=ANSWER_BYTES * outputs,
    )


def slice_cost(ring: Ring, layers: Sequence[Layer], shape: Shape) -> Cost:
    """Of a slice for an input of any size, which may travel in pieces: all of them are asked in the same round."""
    requests = [direct_cost(ring, layers, piece.shape_of(shape)) for piece in pieces_of(layers, shape)]
    return Cost(
        rounds=1,
        evaluator_sent=sum(cost.evaluator_sent for cost in requests),
        dealer_sent=sum(cost.dealer_sent for cost in requests),
        received=sum(cost.received for cost in requests),
    )
