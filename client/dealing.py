"""Relay mode: which seeds dealers get, and when: ahead of the request, as far as the evaluator's window allows.

Slices are asked for in the same order in every evaluation. So each request puts its slice in line for the next evaluation, and
whenever there is room the first in line is dealt. A slice that travels in pieces is in line once for every piece. The room that the
largest of them needs stays free, so that a request whose turn it is never waits for those that are ahead of theirs.
"""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from dataclasses import dataclass, field
from itertools import count
from threading import Condition
from typing import TYPE_CHECKING

from ppidm.protocol.messages import seed_request
from ppidm.protocol.prg import Seed
from ppidm.protocol.relay import relayed_bytes
from ppidm.protocol.relay_messages import Place, place_tensors

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from ppidm.client.transport import Server
    from ppidm.protocol.linear import Shape
    from ppidm.protocol.messages import Tensor
    from ppidm.protocol.records import Subgraph
    from ppidm.protocol.ring import Ring

_OVERHEAD = 1024  # bytes of a message besides its tensors


@dataclass(frozen=True, repr=False)
class Deal:
    """Seeds of all dealers for one request, and what they say to it.

    Security:
        `repr` shows no content.
    """

    place: Place
    seeds: tuple[Seed, ...]
    acknowledgements: list[Callable[[], list[Tensor]]] = field(default_factory=list)


class Dealing:
    """The deals of one session. Safe to use from several threads at once.

    Args:
        session: its name.
        dealers: who gets seeds.
        ring: of the slices.
        window: bytes that each dealer may have under way.
    """

    def __init__(self, session: bytes, dealers: Sequence[Server], ring: Ring, window: int) -> None:
        self._session, self._dealers, self._ring, self._window = session, dealers, ring, window
        self._changed, self._tickets = Condition(), count(1)
        self._expected: Counter[str] = Counter()  # how often each slice is asked for, in all, whole or in pieces
        self._taken: Counter[tuple[str, Shape]] = Counter()  # requests that were made
        self._line: deque[tuple[Subgraph, Shape]] = deque()
        self._ahead: defaultdict[tuple[str, Shape], deque[Deal]] = defaultdict(deque)
        self._under_way: dict[int, int] = {}  # ticket -> bytes per dealer, until the evaluator has been told to drop it
        self._done: list[int] = []  # tickets that it has not been told of
        self._largest = self.relayed = 0
        self._closed = False

    def expect(self, requests: Mapping[str, int]) -> None:
        """Say how often each slice will be asked for, from now on."""
        with self._changed:
            self._expected.update(requests)

    def size(self, subgraph: Subgraph, shape: Shape) -> int:
        """Bytes of what one dealer relays."""
        return relayed_bytes(self._ring, subgraph.layers, shape) + _OVERHEAD

    def fits(self, subgraph: Subgraph, shape: Shape) -> bool:
        """Whether the window can hold it at all."""
        return self.size(subgraph, shape) <= self._window

    def take(self, subgraph: Subgraph, shape: Shape, pieces: int = 1) -> tuple[Deal, Place]:
        """A deal for a request that is made now, and what the request must say: which tickets the evaluator may drop.

        Args:
            subgraph: the slice.
            shape: of the input.
            pieces: of this shape, whenever the slice is asked for.
        """
        size = self.size(subgraph, shape)
        with self._changed:
            self._largest = max(self._largest, size)
            ready = self._ahead[subgraph.name, shape]
            if not ready:
                self._leave_line(subgraph, shape)
                self._changed.wait_for(lambda: self._closed or self._used() + size <= self._window)
            deal = ready.popleft() if ready else self._deal(subgraph, shape, size)
            self._taken[subgraph.name, shape] += 1
            released, self._done = tuple(self._done), []
            for ticket in released:
                del self._under_way[ticket]
            self._enter_line(subgraph, shape, pieces)
            return deal, Place(self._session, deal.place.ticket, released)

    def deal_ahead(self) -> None:
        """Deal those that are first in line, as long as there is room."""
        with self._changed:
            while self._line and not self._closed:
                subgraph, shape = self._line[0]
                size = self.size(subgraph, shape)
                if self._used() + size + self._largest > self._window:
                    return
                self._line.popleft()
                self._ahead[subgraph.name, shape].append(self._deal(subgraph, shape, size))

    def release(self, deal: Deal) -> None:
        """Nobody will ask about this deal again."""
        with self._changed:
            self._done.append(deal.place.ticket)
            self._changed.notify_all()

    def close(self) -> None:
        """Let nobody wait."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _used(self) -> int:
        """Bytes under way, but those that the next request tells the evaluator to drop."""
        return sum(self._under_way.values()) - sum(self._under_way[ticket] for ticket in self._done)

    def _enter_line(self, subgraph: Subgraph, shape: Shape, pieces: int) -> None:
        key = subgraph.name, shape
        waiting = sum((other.name, other_shape) == key for other, other_shape in self._line) + len(self._ahead[key])
        left = pieces * self._expected[subgraph.name] - self._taken[key]
        self._line.extend([(subgraph, shape)] * (min(pieces, left) - waiting))

    def _leave_line(self, subgraph: Subgraph, shape: Shape) -> None:
        """This request comes before its turn in the line."""
        for index, (other, other_shape) in enumerate(self._line):
            if (other.name, other_shape) == (subgraph.name, shape):
                del self._line[index]
                return

    def _deal(self, subgraph: Subgraph, shape: Shape, size: int) -> Deal:
        deal = Deal(Place(self._session, next(self._tickets)), tuple(Seed.fresh() for _ in self._dealers))
        self._under_way[deal.place.ticket] = size
        self.relayed += len(self._dealers) * (size - _OVERHEAD)
        place = place_tensors(deal.place)
        for dealer, seed in zip(self._dealers, deal.seeds, strict=True):
            deal.acknowledgements.append(dealer.ask(subgraph.name, [*seed_request(seed, shape), *place]))
        return deal
