"""What clients may ask for: sizes, memory, requests at once, time. Memory is bounded whatever clients do.

Two pools of bytes, each half of `memory`: messages that are being read or wait, and what is computed or waits to be taken.
A call reserves before it reads, and before it computes; it waits for others, and is refused when it has waited too long.
Nobody gets more than half of a pool, so that one client cannot stop another.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address
from math import prod
from threading import Condition
from time import monotonic
from typing import TYPE_CHECKING

from ppidm.protocol.cost import direct_cost
from ppidm.protocol.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ppidm.protocol.linear import Shape
    from ppidm.protocol.records import Subgraph
    from ppidm.protocol.ring import Ring

FEW_ELEMENTS = 1 << 20  # of an input: allowed whatever the nominal shape is, such as all timesteps of a picture at once
LARGEST_MESSAGE = 1 << 30
MESSAGE_OVERHEAD = 1 << 16  # names, shapes and framing of a request
COPIES = 2  # of a message: as it came, and parsed
INPUT_BYTES, OUTPUT_BYTES = (
    16,
    28,
)  # per element and limb, at the peak (measured on 96 slices of products, large inputs: at most 0.53 of their sum)
_IPV6_HOST_BITS = 64  # of an address: whoever has one has all of these


@dataclass(frozen=True)
class Limits:
    """What a server takes. The defaults suit a machine with 8 GiB.

    Args:
        max_scale: elements of an input, relative to the slice's nominal shape; batch times the scale of the picture.
        memory: bytes for all requests together, beyond those of the loaded slices.
        requests: that are read, computed or answered at once; more are refused.
        client_requests: the same for one client, which is an IP address (of IPv6, a /64 network).
        connections: at once; more are closed.
        seconds: from the first byte of a request to the last byte of its answer.

    Raises:
        InputError: out of range.
    """

    max_scale: int = 64
    memory: int = 4 << 30
    requests: int = 128
    client_requests: int = 64
    connections: int = 256
    seconds: float = 120.0

    def __post_init__(self) -> None:
        whole = (self.max_scale, self.requests, self.client_requests, self.connections)
        if min(whole) < 1 or not 0 < self.seconds <= 86400 or self.memory < 64 << 20:  # noqa: PLR2004
            raise InputError(
                f"{self}; expected at least 1 each, more than 0 and at most 86400 seconds, and at least 64 MiB of memory"
            )

    def largest_message(self, ring: Ring, slices: Sequence[Subgraph]) -> int:
        """Bytes of the largest request: what `max_scale` allows, and what lets 16 be read at once."""
        elements = max(self.max_elements(subgraph) for subgraph in slices)
        return min(ring.limbs * elements + MESSAGE_OVERHEAD, self.memory // 64, LARGEST_MESSAGE)

    def max_elements(self, subgraph: Subgraph) -> int:
        """Elements that an input of a slice may have."""
        return max(self.max_scale * prod(subgraph.nominal_shape), FEW_ELEMENTS)

    def require_scale(self, subgraph: Subgraph, shape: Shape) -> None:
        """Check the size of an input: a seed of 32 bytes may ask for any.

        Raises:
            InputError: it is too large.
        """
        if prod(shape) > (most := self.max_elements(subgraph)):
            raise InputError(
                f"{subgraph.name}: {shape} is {prod(shape)} elements; this server takes {most} (--max-scale "
                f"{self.max_scale} times the model's own size). Ask for a smaller picture or batch, or its operator"
            )


def working_bytes(ring: Ring, subgraph: Subgraph, shape: Shape) -> int:
    """An upper bound of the memory that answering takes, beyond the request itself."""
    outputs = direct_cost(ring, subgraph.layers, shape).received // 4
    return ring.limbs * (INPUT_BYTES * prod(shape) + OUTPUT_BYTES * outputs)


class RefusedError(Exception):
    """There is no room; the message says what to do."""


class GoneError(Exception):
    """Nobody waits for the answer any more."""


class Admission:
    """Pools that calls reserve from. Safe to use from several threads at once.

    Args:
        limits: how large they are.
        workers: requests that are computed at once.
    """

    def __init__(self, limits: Limits, workers: int) -> None:
        self.limits = limits
        self.changed = Condition()
        half = limits.memory // 2
        self.calls = Pool(self.changed, limits.requests, limits.client_requests)
        self.messages = Pool(self.changed, half, half // 2)
        self.working = Pool(self.changed, half, half // 2)
        self.workers = Pool(self.changed, workers, workers)

    def wake(self) -> None:
        """Let those that wait look whether they are still wanted."""
        with self.changed:
            self.changed.notify_all()


class Pool:
    """Something of which there is a fixed amount.

    Args:
        changed: is notified when some of it is given back.
        total: how much there is.
        share: how much of it one client gets.
    """

    def __init__(self, changed: Condition, total: int, share: int) -> None:
        self._changed, self._total, self.share = changed, total, min(share, total)
        self._used: Counter[str] = Counter()

    @property
    def used(self) -> int:
        """How much is taken."""
        return self._used.total()

    def try_take(self, client: str, amount: int) -> bool:
        """Take `amount` if it is there now."""
        with self._changed:
            if self._used.total() + amount > self._total or self._used[client] + amount > self.share:
                return False
            self._used[client] += amount
            return True

    def take(self, client: str, amount: int, until: float, is_wanted: Callable[[], bool]) -> None:
        """Take `amount`, and wait for it until `until` (`time.monotonic()`) if need be.

        Raises:
            RefusedError: it is more than one client ever gets, or the time is over.
            GoneError: `is_wanted` said no.
        """
        if amount > self.share:
            raise RefusedError(
                f"this request needs {amount >> 20} MiB, one client gets {self.share >> 20} MiB; ask for a smaller "
                "picture or batch, or the operator for more (--memory)"
            )
        with self._changed:
            while is_wanted():
                if self.try_take(client, amount):
                    return
                if (left := until - monotonic()) <= 0:
                    raise RefusedError("the server is busy; try again later")
                self._changed.wait(left)
        raise GoneError

    def add(self, client: str, amount: int) -> None:
        """Take `amount` whether it is there or not: of what the caller has already, under another name."""
        with self._changed:
            self._used[client] += amount

    def give_back(self, client: str, amount: int) -> None:
        """Give back some of what `client` took."""
        with self._changed:
            self._used[client] -= amount
            if not self._used[client]:
                del self._used[client]
            self._changed.notify_all()


def client_of(peer: str) -> str:
    """Whom a call counts for: the IP address in what gRPC calls its peer, such as `ipv6:%5B::1%5D:50001`."""
    host = peer.partition(":")[2].rpartition(":")[0].replace("%5B", "").replace("%5D", "").strip("[]")
    try:
        address = ip_address(host.partition("%")[0])
    except ValueError:
        return host
    if isinstance(address, IPv6Address) and address.ipv4_mapped is None:
        return str(IPv6Address(int(address) >> _IPV6_HOST_BITS << _IPV6_HOST_BITS))
    return str(getattr(address, "ipv4_mapped", None) or address)
