"""What every party receives in relay mode, with truncated answers and audits, while ppidm's own client draws a picture.

The evaluator gets x_int - r from the client and W r + s from the dealer, and answers W x + s, truncated. The recorder sees what
the client sends and gets; W r + s it computes from the dealer's seed, with the dealer's own functions.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from tools.evaluate.transcripts import Exchange, Recorder

from ppidm.protocol.masks import dealer_share
from ppidm.protocol.messages import MASKED, SEED, Tensor
from ppidm.protocol.precision import Precision, restore
from ppidm.protocol.prg import Seed
from ppidm.protocol.relay import relayed_tensors
from ppidm.protocol.relay_messages import split_place

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray
    from tools.evaluate.transcripts import Answer

    from ppidm.protocol.ring import Digits, Elements

    Floats = NDArray[np.float32]
    Products = Callable[[str, Digits], list[NDArray[np.int32]]]

PRECISION = Precision.BALANCED


@dataclass(frozen=True, repr=False)
class RelayExchange(Exchange):
    """One request in relay mode.

    Attributes:
        dealt: W r + s of every layer, what the dealer sent to the evaluator.
        answered: W x + s of every layer, what the evaluator answered: its low bits are 0.
    """

    dealt: list[Elements]
    answered: list[Elements]


class RelayRecorder(Recorder):
    """Keeps what an evaluator gets and answers in relay mode, and the seeds of one dealer. Of an audit only the sizes.

    Args:
        products: what the dealer's engine computes for a slice.
    """

    def __init__(self, products: Products) -> None:
        super().__init__(PRECISION.ring)
        self._products = products
        self._dealt: dict[int, Tensor] = {}  # ticket -> seed
        self._answers: dict[int, Sequence[Tensor]] = {}
        self._tickets: defaultdict[str, list[int]] = defaultdict(list)

    def _keep(self, name: str, tensors: Sequence[Tensor], answer: Answer) -> Answer:
        """The dealer gets its seed before the evaluator is asked, often long before."""
        place, others = split_place(tensors)
        assert place is not None, "a request of direct mode"
        by_name = {tensor.name: tensor for tensor in others}
        with self._lock:
            if MASKED not in by_name:
                self._dealt[place.ticket] = by_name[SEED]
                return answer
            if not (is_audit := place.ticket in self._tickets[name]):
                self._tickets[name].append(place.ticket)
                self._seen[name].append((by_name[MASKED], self._dealt[place.ticket]))
        measured = self._measured(name, len(by_name[MASKED].content), answer)
        return measured if is_audit else self._kept(place.ticket, measured)

    def _kept(self, ticket: int, answer: Answer) -> Answer:
        def kept() -> list[Tensor]:
            self._answers[ticket] = tensors = answer()
            return tensors

        return kept

    def take(self, name: str, index: int) -> RelayExchange:
        """See `Recorder.take`."""
        seen, seed = super().take(name, index), Seed(self._seen[name][index][1].content)
        digits = dealer_share(self._ring, seed, seen.masked.shape)
        dealt = relayed_tensors(self._ring, seed, self._products(name, digits))
        answer, dropped_bits = self._answers[self._tickets[name][index]], PRECISION.dropped_bits
        return RelayExchange(
            self._ring,
            seen.masked,
            seen.share,
            [self._ring.from_digits(tensor.array("UINT8")) for tensor in dealt],
            [restore(tensor.array("INT16").view("<u2"), dropped_bits) for tensor in answer],
        )

    def lengths(self) -> Floats:
        """How many messages, and how many bytes, by slice: the number of audits differs from picture to picture."""
        values = [value for name in sorted(self.sizes) for value in (len(self.sizes[name]), sum(self.sizes[name]))]
        return np.array(values, np.float32)

    def clear(self) -> None:
        """Forget; for the next picture."""
        super().clear()
        for kept in (self._dealt, self._answers, self._tickets):
            kept.clear()
