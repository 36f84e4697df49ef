"""How W x is asked for: in relay mode, and in direct mode where that fails."""

from __future__ import annotations

import warnings
from enum import StrEnum
from threading import Lock
from typing import TYPE_CHECKING

from ppidm.protocol.errors import PeerError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ppidm.client.direct import DirectExchange
    from ppidm.client.relay import RelayExchange
    from ppidm.protocol.records import Subgraph
    from ppidm.protocol.ring import Integers


class Mode(StrEnum):
    """What `--mode` takes."""

    DIRECT = "direct"
    RELAY = "relay"


class Exchange:
    """Asks for W x. Safe to call from several threads at once.

    Args:
        direct: direct mode.
        open_relay: opens a session of relay mode, when the first request is made; None stays in direct mode.
    """

    def __init__(self, direct: DirectExchange, open_relay: Callable[[], RelayExchange] | None) -> None:
        self._direct, self._open_relay, self._lock = direct, open_relay, Lock()
        self._relay: RelayExchange | None = None
        self._expected: dict[str, int] = {}

    def expect(self, requests: Mapping[str, int]) -> None:
        """Say how often each slice will be asked for, so that dealers can run ahead."""
        self._expected = dict(requests)
        if self._relay is not None:
            self._relay.expect(requests)

    def __call__(self, subgraph: Subgraph, x: Integers, pieces: int = 1) -> list[Integers]:
        """W x of every layer; `pieces` of this shape are asked for, whenever the slice is.

        Raises:
            CheckError: an answer was wrong.
            PeerError: a server failed in direct mode.
        """
        relay = self._opened()
        if relay is None or not relay.fits(subgraph, x.shape):
            return self._direct(subgraph, x)
        try:
            return relay(subgraph, x, pieces)
        except PeerError as error:
            self._give_up(error)
            return self._direct(subgraph, x)  # under a fresh mask

    def _opened(self) -> RelayExchange | None:
        with self._lock:
            if self._relay is None and self._open_relay is not None:
                try:
                    self._relay = self._open_relay()
                    self._relay.expect(self._expected)
                except PeerError as error:
                    self._warn(error)
            return self._relay if self._open_relay is not None else None

    def _give_up(self, error: PeerError) -> None:
        with self._lock:
            if self._open_relay is not None:
                self._warn(error)

    def _warn(self, error: PeerError) -> None:
        self._open_relay = None
        if self._relay is not None:
            self._relay.close()
        warnings.warn(f"the relay failed ({error}); going on in direct mode", stacklevel=2)

    def close(self) -> None:
        """End the session of relay mode, if there is one."""
        with self._lock:
            if self._open_relay is not None and self._relay is not None:
                self._relay.close()
            self._open_relay = None
