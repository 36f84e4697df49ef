"""All servers together freeze the picture: they answer every step of a session as they answered its first.

Has: evaluator and dealer each keep their answers of step 1; they need not know each other's. Tries: the sum of the old answers
is W x of step 1, right for that step, so the client would open a value that is right in itself, and the picture stands still.
Weak build: authenticated links without a check of contents (`--verify off`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from exchange import Exchange
from parties import RING, Party, Slice, client_of, draw_activation
from verdict import FAILS, Size, Verdict

from ppidm.protocol.errors import CheckError
from ppidm.protocol.run import open_answers

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ppidm.protocol.messages import Tensor

EXPECTED = FAILS


class Stale:
    """Keeps the first answer to every slice; limb products in a dispute are honest."""

    def __init__(self) -> None:
        self._first: dict[str, list[Tensor]] = {}

    def __call__(self, name: str, _request: Sequence[Tensor], answer: list[Tensor]) -> list[Tensor]:
        """Answer."""
        return self._first.setdefault(name, answer)


def run(size: Size) -> Verdict:
    """Sessions of two steps: the first is fine, the second must end the session."""
    rng = np.random.default_rng(10)
    sessions, caught, escaped = size.pick(15, 700), 0, 0
    for _ in range(sessions):
        held = Slice.draw(rng, channels=(4, 6))
        caught += session_ends(held, rng)
        before, now = Exchange.draw(rng, held), Exchange.draw(rng, held)
        opened = open_answers(RING, [held.layer], None, now.x, before.transcript.answers)
        escaped += bool(np.any(opened[0] != open_answers(RING, [held.layer], None, now.x, now.transcript.answers)[0]))
    number = f"{caught:,} of {sessions:,} sessions end at the second step; without a check {escaped:,} go on"
    return Verdict(caught < sessions, number, escaped == sessions)


def session_ends(held: Slice, rng: np.random.Generator) -> bool:
    """Whether ppidm's client notices."""
    servers = [Party(role, {held.name: held}, Stale()) for role in ("evaluator", "dealer 1")]
    shape = (1, 4, 4, held.layer.in_channels)
    client = client_of([held], servers, shape)
    client(held.name, draw_activation(rng, shape))
    try:
        client(held.name, draw_activation(rng, shape))
    except CheckError:
        return True
    return False
