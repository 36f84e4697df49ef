"""What one dealer sends ahead for one session of relay mode, within its window."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ppidm.protocol.errors import InputError
from ppidm.protocol.relay import require_signature
from ppidm.runtime.limits import GoneError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from threading import Condition

    from ppidm.protocol.relay import RelayedShare

_RELEASED_AHEAD = 4096  # tickets that are released before their shares come; a client that releases more harms itself
WAKE_SECONDS = 0.25  # how often those that wait look whether they are still wanted


class RelayError(InputError):
    """Relay mode failed; the client can go on in direct mode."""


class Inbox:
    """What one dealer sends for one session.

    Args:
        signer: the dealer's public key.
        window: bytes that it may take.
        changed: is notified of every change.
    """

    def __init__(self, signer: bytes, window: int, changed: Condition) -> None:
        self._signer, self._window, self._changed = signer, window, changed
        self._shares: dict[int, RelayedShare] = {}
        self._released: set[int] = set()
        self.used, self.problem = 0, ""
        self.end: Callable[[], None] = lambda: None  # ends the stream

    def reserve(self, amount: int, is_wanted: Callable[[], bool]) -> None:
        """Wait until there is room for `amount` bytes, and take it.

        Raises:
            GoneError: the session or the stream has ended.
        """
        with self._changed:
            while self.used + amount > self._window:
                if self.problem or not is_wanted():
                    raise GoneError
                self._changed.wait(WAKE_SECONDS)
            self.used += amount

    def settle(self, reserved: int, session: bytes, share: RelayedShare | None) -> None:
        """Keep a share that was read in the room that was reserved, or give the room back.

        Raises:
            RelayError: the dealer did not sign it, or sent the ticket before.
        """
        try:
            if share is not None:
                self._require_signed(session, share)
        except RelayError:
            share = None
            raise
        finally:
            with self._changed:
                self.used -= reserved
                if share is not None and share.ticket not in self._released and not self.problem:
                    self.used += share.bytes
                    self._shares[share.ticket] = share
                self._changed.notify_all()

    def _require_signed(self, session: bytes, share: RelayedShare) -> None:
        if share.ticket in self._shares:
            raise RelayError(f"a second share for ticket {share.ticket}")
        try:
            require_signature(self._signer, session, share)
        except InputError as error:
            raise RelayError(str(error)) from None

    def get(self, ticket: int) -> RelayedShare | None:
        """The share of a ticket, or None if it is not there (yet)."""
        return self._shares.get(ticket)

    def release(self, tickets: Sequence[int]) -> None:
        """Drop what nobody will ask for again, now or when it comes."""
        for ticket in tickets:
            share = self._shares.pop(ticket, None)
            self.used -= share.bytes if share is not None else 0
            if share is None and len(self._released) < _RELEASED_AHEAD:
                self._released.add(ticket)

    def fail(self, problem: str) -> None:
        """No more shares will come."""
        with self._changed:
            self.problem = self.problem or problem
            self._changed.notify_all()

    def clear(self) -> None:
        """Drop everything."""
        self.fail("the session has ended")
        self.used -= sum(share.bytes for share in self._shares.values())
        self._shares.clear()
        self.end()
