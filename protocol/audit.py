"""Audits of truncated answers (PROTOCOL.md, section 5).

A truncated answer cannot be checked by itself: with a tolerance a lie of 2**30 still passes now and then, and aborts would
depend on x. So the client asks again for some of them, at random and after they have arrived: the identical bytes, but for
whole answers. Each must be consistent with the truncated one, bit for bit, and the sum must pass the 64-bit check. Who
altered m answers escapes with probability (1 - q)**m, for a share q that is audited.
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

import numpy as np

from ppidm.protocol.errors import InputError
from ppidm.protocol.messages import ANSWER_BITS, parse_answer
from ppidm.protocol.precision import restore, truncate

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ppidm.protocol.linear import Layer, Shape
    from ppidm.protocol.messages import Tensor
    from ppidm.protocol.ring import Ring

DEFAULT_SHARE = 0.05
_RESOLUTION = 1 << 53


def require_share(share: float) -> None:
    """Check the share of the slices that are audited.

    Raises:
        InputError: not from 0 to 1.
    """
    if not 0 <= share <= 1:
        raise InputError(f"--audit is {share:g}; expected the share of the slices to audit, from 0 to 1")


def is_chosen(share: float) -> bool:
    """Whether to audit a request. Call it when all its answers are there.

    Security:
        From the operating system's randomness: no server can foresee it, whatever it has seen of earlier audits.
    """
    return secrets.randbelow(_RESOLUTION) < share * _RESOLUTION


def escape_probability(share: float, altered: int) -> float:
    """That none of `altered` answers is audited."""
    return float((1 - share) ** altered)


def whole_request(request: Sequence[Tensor]) -> list[Tensor]:
    """The identical bytes again, but for whole answers."""
    return [tensor for tensor in request if tensor.name != ANSWER_BITS]


def inconsistency(
    ring: Ring,
    layers: Sequence[Layer],
    shape: Shape,
    truncated: Sequence[Tensor],
    whole: Sequence[Tensor],
    dropped_bits: int,
) -> str | None:
    """What is wrong with one server's pair of answers to the identical bytes, or None.

    Raises:
        InputError: an answer is malformed.
    """
    first = parse_answer(truncated, layers, shape, dropped_bits)
    second = parse_answer(whole, layers, shape)
    for layer, short, long in zip(layers, first, second, strict=True):
        expected = restore(truncate(ring, long & ring.mask, dropped_bits), dropped_bits)
        if differing := int(np.count_nonzero(short != expected)):
            return f"{layer.name}: {differing} values of its truncated answer are not those of its whole one"
    return None
