"""A server that truncates lies about the answers that will not be audited.

Has: the weights, its own requests, which of them were audited in as many earlier runs as it likes, and the image seed. Tries: to
lie about m answers of a run, those that were audited least often; and never to lie about one that it foresees to be audited. Weak
build: audits drawn by a generator that the image seed starts. Against the operating system's randomness, drawn after the answers
have arrived, m lies escape with (1 - q)^m, as blind ones do.
"""

from __future__ import annotations

import random
from collections import Counter
from typing import TYPE_CHECKING

import numpy as np
from parties import Party, Slice, client_of, draw_activation
from verdict import FAILS, Size, Verdict

from ppidm.protocol.audit import escape_probability
from ppidm.protocol.errors import CheckError
from ppidm.protocol.messages import ANSWER_BITS, Tensor
from ppidm.protocol.precision import Precision

if TYPE_CHECKING:
    from collections.abc import Sequence

EXPECTED = FAILS
SLICES, LIES, SHARE = 24, 8, 0.25
SHAPE = (1, 2, 2, 3)
DEVIATIONS = 5  # a Gaussian leaves them with probability 6e-7


class Watcher:
    """Counts audits per slice while it learns; then lies about the slices that were audited least often."""

    def __init__(self) -> None:
        self.audited: Counter[str] = Counter()
        self.targets: set[str] = set()

    def tamper(self, name: str, request: Sequence[Tensor], answer: list[Tensor]) -> list[Tensor]:
        """One unit more, in truncated answers and, consistently, in whole ones."""
        is_whole = all(tensor.name != ANSWER_BITS for tensor in request)
        self.audited[name] += is_whole
        if name not in self.targets:
            return answer
        [tensor] = answer
        values = tensor.array("INT32" if is_whole else "INT16").copy()
        values.flat[0] ^= 1 << (20 if is_whole else 4)
        return [Tensor(tensor.name, tensor.datatype, tensor.shape, values.tobytes())]


def run(size: Size) -> Verdict:
    """Runs to learn from, then runs with lies."""
    rng = np.random.default_rng(20)
    held = [Slice.draw(rng, f"slice.{index}", (3, 2)) for index in range(SLICES)]
    watcher = Watcher()
    for _ in range(size.pick(2, 100)):
        session_goes_on(held, watcher, rng)
    watcher.targets = {name for name, _ in sorted(watcher.audited.items(), key=lambda item: item[1])[:LIES]}
    runs = size.pick(30, 1000)
    escaped = sum(session_goes_on(held, watcher, rng) for _ in range(runs))
    expected = escape_probability(SHARE, LIES)
    deviation = (runs * expected * (1 - expected)) ** 0.5
    foreseen = sum(weak_escapes(seed) for seed in range(runs))
    number = (
        f"{escaped:,} of {runs:,} runs with {LIES} lies of {SLICES} escape audits of {SHARE:.0%}, (1 - q)^m gives "
        f"{runs * expected:,.0f}; audits from the image seed: {foreseen:,} escape"
    )
    return Verdict(escaped > runs * expected + DEVIATIONS * deviation + 1, number, foreseen == runs)


def session_goes_on(held: Sequence[Slice], watcher: Watcher, rng: np.random.Generator) -> bool:
    """One run of ppidm's client over all slices; False if it ended in an accusation."""
    slices = {each.name: each for each in held}
    servers = [Party("evaluator", slices, watcher.tamper), Party("dealer", slices)]
    client = client_of(held, servers, SHAPE, Precision.BALANCED, SHARE)
    try:
        for each in held:
            client(each.name, draw_activation(rng, SHAPE))
    except CheckError:
        return False
    return True


def weak_escapes(image_seed: int) -> bool:
    """The weak build: the liar starts the same generator, and lies about what it does not choose."""
    client, liar = random.Random(image_seed), random.Random(image_seed)  # noqa: S311  (that is the point)
    safe = [index for index in range(SLICES) if liar.random() >= SHARE]
    audited = {index for index in range(SLICES) if client.random() < SHARE}
    return not audited & set(safe[:LIES]) and len(safe) >= LIES
