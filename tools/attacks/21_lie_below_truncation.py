"""A server lies about less than truncation itself may err by.

Has: its own request and the weights. Tries: one unit more or less in a truncated answer, within the bound (n + 1) / 2; and a
change of the bits that are dropped, which shows in an audit only. Weak build: an audit that compares truncated with whole
answers up to the error of truncation, and opens the whole ones without the 64-bit check. Every audit here is one that happens:
whether it does is attack 20's business.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from parties import Party, Slice, client_of, draw_activation, honest
from verdict import FAILS, Size, Verdict

from ppidm.protocol.errors import CheckError
from ppidm.protocol.messages import ANSWER_BITS, Tensor
from ppidm.protocol.precision import Precision, restore

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ppidm.protocol.ring import Elements

EXPECTED = FAILS
SHAPE = (1, 3, 3, 4)
ROLES = ("evaluator", "dealer 1")


class Liar:
    """Changes one value, a little.

    Args:
        rng: chooses it.
        place: "top": the truncated answer, by one unit; "dropped": a dropped bit of the whole one; "both": one unit in both.
        precision: of the package.
    """

    def __init__(self, rng: np.random.Generator, place: str, precision: Precision) -> None:
        self._rng, self._place, self._index = rng, place, 0
        self._ring, self._dropped_bits = precision.ring, precision.dropped_bits
        self._first: Elements | None = None
        self.is_forgiven = False

    def tamper(self, _name: str, request: Sequence[Tensor], answer: list[Tensor]) -> list[Tensor]:
        """See `parties.Tamper`."""
        is_whole = all(tensor.name != ANSWER_BITS for tensor in request)
        [tensor] = answer
        values = tensor.array("INT32" if is_whole else "INT16").copy()
        if not is_whole:
            self._index = int(self._rng.integers(values.size))
        if is_whole and self._place == "dropped":
            values.flat[self._index] ^= 1 << int(self._rng.integers(self._dropped_bits))
        elif is_whole and self._place == "both":
            values[...] = (values.astype(np.int64) + self._unit(values)).astype(np.int32)
        elif not is_whole and self._place != "dropped":
            values[...] = (values.astype(np.int64) + self._unit(values, 1)).astype(np.int16)
        self._note(values)
        return [Tensor(tensor.name, tensor.datatype, tensor.shape, values.tobytes())]

    def _unit(self, values: np.ndarray, size: int = 0) -> np.ndarray:
        unit = np.zeros(values.shape, np.int64)
        unit.flat[self._index] = size or 1 << self._dropped_bits
        return unit

    def _note(self, values: np.ndarray) -> None:
        """The weak build: whether truncated and whole answer differ by at most (n + 1) / 2 = 1 unit."""
        if values.dtype == np.int16:
            self._first = restore(values.view(np.uint16), self._dropped_bits)
        elif self._first is not None:
            error = self._ring.signed((self._first - values.view(np.uint32)) & self._ring.mask)
            self.is_forgiven, self._first = bool(np.abs(error).max() <= 1 << self._dropped_bits), None


def run(size: Size) -> Verdict:
    """Every kind of lie, by each server, in both kinds of package."""
    rng = np.random.default_rng(21)
    told = caught = named = forgiven = 0
    for _ in range(size.pick(2, 250)):
        for precision in (Precision.BALANCED, Precision.FAST):
            for place in ("top", "dropped", "both"):
                for liar in range(len(ROLES)):
                    held = Slice.draw(rng, channels=(4, 2))
                    lie = Liar(rng, place, precision)
                    told += 1
                    liars = accused(held, rng, precision, liar, lie.tamper)
                    caught += liars is not None
                    named += liars == (ROLES[liar],)
                    forgiven += lie.is_forgiven
    number = f"{caught:,} of {told:,} caught, {named:,} liars named; an audit with a tolerance forgives {forgiven:,}"
    return Verdict(min(caught, named) < told, number, forgiven > 0)


def accused(
    held: Slice,
    rng: np.random.Generator,
    precision: Precision,
    liar: int,
    lie: Callable[[str, Sequence[Tensor], list[Tensor]], list[Tensor]],
) -> tuple[str, ...] | None:
    """Whom ppidm's client names after an audit; None if nothing was noticed."""
    slices = {held.name: held}
    servers = [
        Party(role, slices, lie if index == liar else honest, precision.ring) for index, role in enumerate(ROLES)
    ]
    try:
        client_of([held], servers, SHAPE, precision, 1.0)(held.name, draw_activation(rng, SHAPE))
    except CheckError as error:
        return error.liars
    return None
