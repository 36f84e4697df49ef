"""The declared cost of a request: rounds and payload bytes. A test measures that the declaration is true."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING

from ppidm.protocol.pieces import pieces_of
from ppidm.protocol.prg import SEED_BYTES
from ppidm.protocol.relay import relayed_bytes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ppidm.protocol.linear import Layer, Shape
    from ppidm.protocol.ring import Ring

PLACE_BYTES, RELEASE_BYTES = 16 + 8, 8  # session and ticket; each ticket is released once, the last ones never
ANSWER_BYTES, TRUNCATED_BYTES = 4, 2  # of one element of an answer: int32, or the int16 of a truncated one


@dataclass(frozen=True)
class Cost:
    """What one request costs the client. Bytes are tensor contents; names, shapes and framing come on top."""

    rounds: int
    evaluator_sent: int
    dealer_sent: int  # per dealer
    received: int  # per server, evaluator and dealers alike; in relay mode from the evaluator only
    relayed: int = 0  # per dealer, to the evaluator


def direct_cost(ring: Ring, layers: Sequence[Layer], shape: Shape, dropped_bits: int = 0) -> Cost:
    """Direct mode: all servers are asked at once, so it is one round whatever the number of dealers.

    Truncated answers are asked for with one byte more. An audit of them costs the same request again, for whole answers.
    """
    outputs = sum(prod(layer.output_shape(shape)) for layer in layers)
    asking = 1 if dropped_bits else 0
    return Cost(
        rounds=1,
        evaluator_sent=ring.limbs * prod(shape) + asking,
        dealer_sent=SEED_BYTES + 8 * len(shape) + asking,
        received=(TRUNCATED_BYTES if dropped_bits else ANSWER_BYTES) * outputs,
    )


def relay_cost(ring: Ring, layers: Sequence[Layer], shape: Shape, dropped_bits: int = 0) -> Cost:
    """Relay mode: one round, since dealers are ahead. The client's part depends on the number of dealers by their seeds only.

    Session and ticket come on top of each request: 16 and 8 bytes, and 8 for every earlier ticket that is released.
    """
    direct = direct_cost(ring, layers, shape, dropped_bits)
    return Cost(
        rounds=1,
        evaluator_sent=direct.evaluator_sent + PLACE_BYTES + RELEASE_BYTES,
        dealer_sent=SEED_BYTES + 8 * len(shape) + PLACE_BYTES,
        received=direct.received,
        relayed=relayed_bytes(ring, layers, shape),
    )


def slice_cost(ring: Ring, layers: Sequence[Layer], shape: Shape, dropped_bits: int = 0) -> Cost:
    """Of a slice for an input of any size, which may travel in pieces: all of them are asked in the same round."""
    requests = [direct_cost(ring, layers, piece.shape_of(shape), dropped_bits) for piece in pieces_of(layers, shape)]
    return Cost(
        rounds=1,
        evaluator_sent=sum(cost.evaluator_sent for cost in requests),
        dealer_sent=sum(cost.dealer_sent for cost in requests),
        received=sum(cost.received for cost in requests),
    )
