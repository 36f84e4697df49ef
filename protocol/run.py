"""The protocol on one page: all parties in one process, direct mode.

The client, the servers and the test vectors use the same functions; only the transport is missing here.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from ppidm.protocol.check import wrong_rows
from ppidm.protocol.errors import CheckError
from ppidm.protocol.linear import ANSWER_RING, apply
from ppidm.protocol.masks import Mask, dealer_share
from ppidm.protocol.messages import (
    MaskedRequest,
    Tensor,
    answer,
    masked_request,
    parse_answer,
    parse_request,
    seed_request,
)
from ppidm.protocol.shares import aggregate

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ppidm.protocol.check import CheckVectors
    from ppidm.protocol.linear import Layer
    from ppidm.protocol.prg import Seed
    from ppidm.protocol.ring import Integers, Ring


@dataclass
class Transcript:
    """Every message of a run: `requests[0]` and `answers[0]` are the evaluator's, the others the dealers'."""

    requests: list[list[Tensor]]
    answers: list[list[Tensor]] = field(default_factory=list)


def serve(ring: Ring, layers: Sequence[Layer], weights: Sequence[Integers], request: Sequence[Tensor]) -> list[Tensor]:
    """A server, in either role. It holds no state between requests."""
    parsed = parse_request(request, layers, ring)
    digits = parsed.digits if isinstance(parsed, MaskedRequest) else dealer_share(ring, parsed.seed, parsed.shape)
    outputs = [apply(layer, w, digits, ANSWER_RING).view(np.int32) for layer, w in zip(layers, weights, strict=True)]
    return answer(outputs, ring, parsed.dropped_bits)


def ask(ring: Ring, x: Integers, mask: Mask, dropped_bits: int = 0) -> Transcript:
    """The client's first half: hide the encoded activation `x`; one request for the evaluator, one for each dealer.

    Args:
        ring: Z_2^k.
        x: encoded activation, signed integers within the norm rule, channels last.
        mask: a fresh one.
        dropped_bits: low bits that answers shall not carry.

    Raises:
        MaskReuseError: `mask` was used before; `Mask.fresh` draws one for every attempt.
    """
    masked = masked_request(mask.hide(ring.reduce(x)), dropped_bits)
    return Transcript([masked, *(seed_request(seed, x.shape, dropped_bits) for seed in mask.seeds)])


def open_answers(
    ring: Ring,
    layers: Sequence[Layer],
    checks: Sequence[CheckVectors] | None,
    x: Integers,
    answers: Sequence[Sequence[Tensor]],
    dropped_bits: int = 0,
) -> list[Integers]:
    """The client's second half: add the answers up, check them (unless `checks` is None), return W x of every layer.

    Truncated answers have no check; they give W x within (n + 1) 2**(t-1) for n dealers and t dropped bits.

    Raises:
        CheckError: an answer was wrong.
        InputError: an answer was malformed.
    """
    assert checks is None or not dropped_bits, "truncated answers cannot be checked; they are audited"
    shares = [parse_answer(tensors, layers, x.shape, dropped_bits) for tensors in answers]
    results = [aggregate(ring, of_layer) for of_layer in zip(*shares, strict=True)]
    for layer, check, y in zip(layers, checks or (), results, strict=checks is not None):
        if wrong := wrong_rows(layer, check, x, y):
            raise CheckError(f"{layer.name}: {wrong} rows of the sum of {len(answers)} answers are wrong")
    return results


def run_protocol(
    ring: Ring,
    layers: Sequence[Layer],
    weights: Sequence[Integers],
    checks: Sequence[CheckVectors],
    x: Integers,
    seeds: Sequence[Seed],
) -> tuple[list[Integers], Transcript]:
    """Play all parties for one slice.

    Args:
        ring: Z_2^k.
        layers: the layers of the slice.
        weights: of each layer, signed integers.
        checks: of each layer.
        x: encoded activation, signed integers within the norm rule, channels last.
        seeds: one per dealer; `Seed.fresh()` in production.

    Returns:
        W x of every layer, exactly, and all messages.

    Cost:
        One round; see `ppidm.protocol.cost.direct_cost`.

    Reference:
        Offline/online masking of linear layers: Slalom (Tramer and Boneh, ICLR 2019, section 4.2), with the unblinding
        factors computed by dealers from seeds instead of by the client.
    """
    transcript = ask(ring, x, Mask(ring, x.shape, seeds))
    transcript.answers = [serve(ring, layers, weights, request) for request in transcript.requests]
    return open_answers(ring, layers, checks, x, transcript.answers), transcript
