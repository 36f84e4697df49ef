"""In relay mode a dealer sends the evaluator a wrong W r + s; or the evaluator lies, and says that a dealer did.

Has: the weights, a seed; the evaluator also what dealers sent. Tries: to spoil the sum unnamed, or to have another named: a
dealer denies what it sent, since the client never saw it; an evaluator shows a changed share, or none. Weak build: shares without
signatures; the word of the evaluator is all that there is, and an honest dealer is blamed for what it never sent.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from parties import Slice, client_of, draw_activation, honest
from relaying import RelayDealer, RelayEvaluator
from verdict import FAILS, Size, Verdict

from ppidm.client import relay_dispute
from ppidm.client.exchange import Mode
from ppidm.protocol.errors import CheckError
from ppidm.protocol.precision import Precision
from ppidm.protocol.relay_messages import share_tensors
from ppidm.protocol.ring import Ring

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ppidm.protocol.messages import Tensor
    from ppidm.protocol.relay import RelayedShare
    from ppidm.protocol.ring import Elements

EXPECTED = FAILS
SHAPE, PLACE = (1, 3, 3, 4), 3
KINDS = (
    "dealer sends a wrong share",
    "evaluator adds wrongly",
    "evaluator shows another share",
    "evaluator shows none",
)


def run(size: Size) -> Verdict:
    """Every kind of lie, in every precision (truncated answers are audited each time)."""
    rng = np.random.default_rng(22)
    told = caught = named = framed = 0
    for _ in range(size.pick(1, 80)):
        for precision in Precision:
            with without_signatures():
                framed += accused(rng, precision, KINDS[2]) == ("dealer 2",)
            for kind in KINDS:
                liars = accused(rng, precision, kind)
                told += 1
                caught += liars is not None
                named += liars == ("dealer 2" if kind == KINDS[0] else "evaluator",)
    number = f"{caught:,} of {told:,} caught, {named:,} liars named; unsigned {framed:,} honest dealers blamed"
    return Verdict(min(caught, named) < told, number, framed > 0)


def accused(rng: np.random.Generator, precision: Precision, kind: str) -> tuple[str, ...] | None:
    """Whom ppidm's client names; None if nothing was noticed."""
    held = Slice.draw(rng, channels=(4, 2))
    slices, ring = {held.name: held}, precision.ring
    evaluator = RelayEvaluator("evaluator", slices, honest if kind == KINDS[0] else wrong_answer, ring)
    dealers = [RelayDealer(f"dealer {index + 1}", index, slices, evaluator, ring) for index in range(2)]
    if kind == KINDS[0]:
        dealers[1].lie = flipped
    if kind == KINDS[2]:
        evaluator.shown = blames
    if kind == KINDS[3]:
        evaluator.shown = lambda _dealer, _share: []
    client = client_of([held], [evaluator, *dealers], SHAPE, precision, 1.0, Mode.RELAY)
    try:
        client(held.name, draw_activation(rng, SHAPE))
    except CheckError as error:
        return error.liars
    return None


def flipped(elements: Elements) -> Elements:
    """One bit, above what truncation drops in the largest ring."""
    lie = elements.copy()
    lie.flat[PLACE] ^= np.uint32(1 << 17)
    return lie


def wrong_answer(_name: str, request: Sequence[Tensor], answer: list[Tensor]) -> list[Tensor]:
    """The evaluator's lie about the sum, in whole answers; honest in the dispute, where requests have no place."""
    if all(tensor.name != "session" for tensor in request):
        return answer
    [tensor] = answer
    if tensor.datatype == "INT16":
        return answer
    values = tensor.array("INT32").copy()
    values.flat[PLACE] += 1  # below truncation, so that it is consistent
    return [replace(tensor, content=values.tobytes())]


def blames(dealer: int, share: RelayedShare) -> list[Tensor]:
    """What the evaluator says that dealer 2 has sent: its own lie is in it, so that it looks honest itself."""
    if dealer == 0:
        return share_tensors(share)
    [tensor] = share.tensors
    ring = Ring(8 * tensor.shape[0])
    elements = ring.from_digits(tensor.array("UINT8"))
    elements.flat[PLACE] += np.uint32(1)
    content = ring.to_digits(elements & ring.mask).tobytes()
    return share_tensors(replace(share, tensors=(replace(tensor, content=content),)))


@contextmanager
def without_signatures() -> Iterator[None]:
    """The weak build: the client believes what is shown."""
    checked = relay_dispute.require_signature
    relay_dispute.require_signature = lambda *_: None  # type: ignore[assignment]
    try:
        yield
    finally:
        relay_dispute.require_signature = checked
