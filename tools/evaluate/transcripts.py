"""What every party receives while ppidm's own client draws a picture, recorded on its way to the servers.

The evaluator's request and the dealer's seed of the same request are kept together. Whoever holds both holds x_int (attack
14): so a transcript also says what an unprotected build would have sent.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace
from threading import Lock, local
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from ppidm.protocol.masks import dealer_share
from ppidm.protocol.messages import MASKED, SEED, Tensor
from ppidm.protocol.prg import Seed

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from ppidm.client.servers import Servers
    from ppidm.client.transport import Server
    from ppidm.protocol.ring import Elements, Integers, Ring

    Answer = Callable[[], list[Tensor]]


@dataclass(frozen=True, repr=False)
class Exchange:
    """One request for a slice, as elements of Z_2^k of the activation's shape.

    Attributes:
        ring: Z_2^k.
        masked: x_int - r, what the evaluator got.
        share: r, what the dealer made of its seed.
    """

    ring: Ring
    masked: Elements
    share: Elements

    @property
    def encoded(self) -> Integers:
        """x_int: what evaluator and dealer would learn together."""
        return self.ring.signed((self.masked + self.share) & self.ring.mask)


class Recorder:
    """Keeps what goes to an evaluator and one dealer. Safe to use from several threads at once.

    Attributes:
        sizes: bytes of every message with the evaluator, by slice: requests and answers in the order of the requests.
    """

    def __init__(self, ring: Ring) -> None:
        self._ring, self._lock, self._thread = ring, Lock(), local()
        self._seen: defaultdict[str, list[tuple[Tensor, Tensor]]] = defaultdict(list)
        self.sizes: defaultdict[str, list[int]] = defaultdict(list)

    def around(self, servers: Servers) -> Servers:
        """The same servers, recorded."""
        evaluator, (dealer,) = servers.evaluator, servers.dealers
        recorded = (_Recorded(server, self._keep) for server in (evaluator, dealer))
        return replace(servers, evaluator=cast("Server", next(recorded)), dealers=(cast("Server", next(recorded)),))

    def _keep(self, name: str, tensors: Sequence[Tensor], answer: Answer) -> Answer:
        """A thread of the client asks the evaluator, then the dealer, for the same activation."""
        by_name = {tensor.name: tensor for tensor in tensors}
        if MASKED not in by_name:
            with self._lock:
                self._seen[name].append((self._thread.masked, by_name[SEED]))
            return answer
        self._thread.masked = by_name[MASKED]
        return self._measured(name, len(by_name[MASKED].content), answer)

    def _measured(self, name: str, sent: int, answer: Answer) -> Answer:
        def measured() -> list[Tensor]:
            tensors = answer()
            with self._lock:
                self.sizes[name] += [sent, sum(len(tensor.content) for tensor in tensors)]
            return tensors

        return measured

    def take(self, name: str, index: int) -> Exchange:
        """Request number `index` for slice `name` of the current picture."""
        masked, seed = self._seen[name][index]
        elements = self._ring.from_digits(masked.array("UINT8"))
        share = dealer_share(self._ring, Seed(seed.content), elements.shape)
        return Exchange(self._ring, elements, self._ring.from_digits(share))

    def counts(self) -> dict[str, int]:
        """Requests by slice."""
        return {name: len(requests) for name, requests in sorted(self._seen.items())}

    def lengths(self) -> NDArray[np.float32]:
        """What TLS does not hide: how many messages of which size, in a fixed order."""
        values = [value for name in sorted(self.sizes) for value in (len(self.sizes[name]), *sorted(self.sizes[name]))]
        return np.array(values, np.float32)

    def clear(self) -> None:
        """Forget; for the next picture."""
        self._seen.clear()
        self.sizes.clear()


class _Recorded:
    """A server whose requests are kept."""

    def __init__(self, server: Server, keep: Callable[[str, Sequence[Tensor], Answer], Answer]) -> None:
        self._server, self._keep = server, keep

    def ask(self, name: str, tensors: Sequence[Tensor]) -> Answer:
        """See `ppidm.client.transport.Server.ask`."""
        return self._keep(name, tensors, self._server.ask(name, tensors))

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401
        return getattr(self._server, name)

    def __str__(self) -> str:
        return str(self._server)
