"""Lies in relay mode, and about truncated answers, told to ppidm's own client, over all slices of the shipped model.

Truncated answers are all audited here (`--audit 1`): how many escape if only a share of them is, `make audits` measures.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

from relay_lies import DIRECT_KINDS, RELAY_KINDS, Cast

from ppidm.client.account import Account
from ppidm.client.direct import DirectExchange
from ppidm.client.exchange import Mode
from ppidm.client.relay import RelayExchange
from ppidm.client.servers import Servers
from ppidm.protocol.errors import CheckError
from ppidm.protocol.precision import Precision

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import numpy as np
    from session import Model

DEALERS = 2
PLAYED = (
    (Mode.RELAY, Precision.EXACT),
    (Mode.RELAY, Precision.BALANCED),
    (Mode.RELAY, Precision.FAST),
    (Mode.DIRECT, Precision.BALANCED),
    (Mode.DIRECT, Precision.FAST),
)


@dataclass
class RelayCounts:
    """Of one mode and precision."""

    tampered: int = 0
    caught: int = 0
    named: int = 0
    honest: int = 0
    false_alarms: int = 0
    kinds: Counter[str] = field(default_factory=Counter)

    @property
    def is_clean(self) -> bool:
        """Whether every liar was named, and nobody else."""
        return min(self.caught, self.named) == self.tampered > 0 and not self.false_alarms


class Played:
    """One mode and precision: a session of ppidm's client with an evaluator and two dealers."""

    def __init__(self, model: Model, mode: Mode, precision: Precision) -> None:
        self._model, self.cast, self.counts = model, Cast.of(model, DEALERS), RelayCounts()
        for server in self.cast.servers:
            server.is_direct = mode is Mode.DIRECT
        self.kinds = RELAY_KINDS if mode is Mode.RELAY else DIRECT_KINDS
        servers = Servers(cast("Any", self.cast.evaluator), tuple(cast("Any", dealer) for dealer in self.cast.dealers))
        exchange = RelayExchange if mode is Mode.RELAY else DirectExchange
        self._exchange = exchange(model.client(precision), servers, Account(servers), 1.0)

    def tell(self, rng: np.random.Generator, name: str, kind: str) -> None:
        """An honest request, and one in which somebody lies."""
        self.cast.evaluator.inbox.clear()
        self.counts.honest += 1
        self.counts.false_alarms += self._liars(rng, name) is not None
        liar = self.kinds[kind](rng, self.cast)
        liars = self._liars(rng, name)
        self.cast.become_honest()
        self.counts.tampered += 1
        self.counts.kinds[kind] += 1
        self.counts.caught += liars is not None
        self.counts.named += liars == (str(liar),)

    def _liars(self, rng: np.random.Generator, name: str) -> tuple[str, ...] | None:
        """Whom the client names; None if it noticed nothing."""
        try:
            self._exchange(self._model.subgraph(name), self._model.activation(name, rng, DEALERS))
        except CheckError as error:
            return error.liars
        return None


def turns(played: Played, names: list[str], count: int) -> Iterator[tuple[str, str]]:
    """Slices and kinds in turn: every kind of lie is told about every slice, if there are as many."""
    kinds = list(played.kinds)
    for number in range(count):
        turn, place = divmod(number, len(names))
        yield names[place], kinds[(turn + place) % len(kinds)]


def tell_all(
    models: dict[Precision, Model], count: int, rng: np.random.Generator, progress: Callable[[int], None]
) -> dict[str, RelayCounts]:
    """`count` lies in every mode and precision; by name of the two."""
    results: dict[str, RelayCounts] = {}
    done = 0
    for mode, precision in PLAYED:
        played = Played(models[precision], mode, precision)
        for name, kind in turns(played, models[precision].names, count):
            played.tell(rng, name, kind)
            done += 1
            progress(done)
        results[f"{mode}, {precision}"] = played.counts
    return results
