"""The evaluator subtracts two masked activations of one slice.

Has: everything that the evaluator receives. Tries: if a mask hides two activations, (x - r) - (x' - r) = x - x', and the
difference of two steps shows the picture. Weak build: one mask per slice, drawn once per session.
"""

from __future__ import annotations

import numpy as np
from parties import RING, Party, Slice, client_of, draw_activation, servers_of
from verdict import FAILS, Size, Verdict

from ppidm.protocol.errors import MaskReuseError
from ppidm.protocol.masks import Mask
from ppidm.protocol.messages import masked_request
from ppidm.protocol.prg import Seed

EXPECTED = FAILS


def run(size: Size) -> Verdict:
    """Every pair of requests of a session."""
    rng = np.random.default_rng(1)
    held = Slice.draw(rng)
    activations = [draw_activation(rng) for _ in range(size.pick(6, 60))]
    secrets = [RING.reduce(held.encoded(x)) for x in activations]
    evaluator, *dealers = servers_of([held])
    client = client_of([held], [evaluator, *dealers])
    for x in activations:
        client(held.name, x)
    weak_evaluator = Party("evaluator", {held.name: held})
    for secret in secrets:
        weak_evaluator.ask(held.name, masked_request(reusing_mask().hide(secret)))
    found, asked = recovered(evaluator, secrets)
    weak_found, _ = recovered(weak_evaluator, secrets)
    number = f"{found} of {asked:,} values of x - x' recovered; with a reused mask {weak_found:,}"
    return Verdict(found > asked // 1000 or not second_use_raises(), number, weak_found == asked)


def recovered(evaluator: Party, secrets: list[np.ndarray]) -> tuple[int, int]:
    """Values of the differences of all pairs that the evaluator gets right, and how many there are."""
    pairs = [(i, j) for i in range(len(secrets)) for j in range(i)]
    right = [evaluator.masked(i) - evaluator.masked(j) == secrets[i] - secrets[j] for i, j in pairs]
    return int(np.sum(right)), sum(each.size for each in right)


def reusing_mask() -> Mask:
    """The weak build: always the same mask."""
    return Mask(RING, (1, 9, 9, 8), [Seed(bytes(range(32)))])


def second_use_raises() -> bool:
    """Ppidm's own mask object hides one tensor."""
    mask, x = Mask.fresh(RING, (2, 2), 1), np.zeros((2, 2), np.uint32)
    mask.hide(x)
    try:
        mask.hide(x)
    except MaskReuseError:
        return True
    return False
