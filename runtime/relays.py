"""Relay mode at the evaluator: what dealers send ahead waits here for the client, within a window per dealer.

A dealer's stream is read when there is room for the largest message there is; until then the transport holds it back, and
with it the dealer. What waits is dropped when the client releases it, closes its session, or has not been heard of for as
long as a request may take. So memory stays within what the session reserved when it was opened, whoever runs ahead, stalls or
dies.
"""

from __future__ import annotations

import hashlib
import hmac
from threading import Condition
from time import monotonic
from typing import TYPE_CHECKING

from ppidm.runtime.inbox import WAKE_SECONDS, Inbox, RelayError
from ppidm.runtime.limits import GoneError, RefusedError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ppidm.protocol.relay import RelayedShare
    from ppidm.protocol.relay_messages import OpenRelay
    from ppidm.runtime.limits import Admission

_WINDOW_SHARE, _LARGEST_WINDOW = 32, 128 << 20  # of the server's memory, per dealer; bytes


class Session:
    """One picture of one client, in relay mode.

    Args:
        opened: what the client said.
        window: bytes per dealer.
        seconds: without a sign of the client until it ends.
    """

    def __init__(self, opened: OpenRelay, window: int, seconds: float) -> None:
        self.name, self._digests, self._seconds = opened.session, list(opened.token_digests), seconds
        self.changed = Condition()
        self.inboxes = [Inbox(signer, window, self.changed) for signer in opened.signers]
        self.until = monotonic() + seconds

    def touch(self) -> None:
        """The client is there."""
        self.until = monotonic() + self._seconds

    def knows(self, token: bytes) -> bool:
        """Whether a stream with this token is expected."""
        return self._index(token) is not None

    def accept(self, token: bytes) -> Inbox | None:
        """The inbox of the dealer that has `token`, once."""
        with self.changed:
            index = self._index(token)
            if index is None:
                return None
            self._digests[index] = b""
            return self.inboxes[index]

    def _index(self, token: bytes) -> int | None:
        digest = hashlib.sha256(token).digest()
        found = [index for index, known in enumerate(self._digests) if hmac.compare_digest(digest, known)]
        return found[0] if found else None

    def release(self, tickets: Sequence[int]) -> None:
        """Of every dealer."""
        with self.changed:
            for inbox in self.inboxes:
                inbox.release(tickets)
            self.changed.notify_all()

    def wait(self, ticket: int, until: float, is_wanted: Callable[[], bool]) -> list[RelayedShare]:
        """The shares of all dealers for a ticket.

        Raises:
            RelayError: one did not come.
            GoneError: nobody waits for them any more.
        """
        with self.changed:
            while is_wanted():
                shares = [inbox.get(ticket) for inbox in self.inboxes]
                if None not in shares:
                    return [share for share in shares if share is not None]
                missing = [inbox for inbox, share in zip(self.inboxes, shares, strict=True) if share is None]
                if problems := [inbox.problem for inbox in missing if inbox.problem]:
                    raise RelayError(f"relay: ticket {ticket} is missing: {problems[0]}")
                if (left := until - monotonic()) <= 0:
                    raise RelayError(f"relay: ticket {ticket} did not come in time")
                self.changed.wait(min(left, WAKE_SECONDS))
        raise GoneError

    def close(self) -> None:
        """Drop everything, and end all streams."""
        for inbox in self.inboxes:
            with self.changed:
                inbox.clear()


class Relays:
    """All sessions of an evaluator. Safe to use from several threads at once.

    Args:
        admission: what windows are reserved from: the messages of the client that opens a session.
        largest: bytes of the largest message of a stream.
    """

    def __init__(self, admission: Admission, largest: int) -> None:
        self._admission, self.largest = admission, largest
        memory = admission.limits.memory
        self.window = max(min(memory // _WINDOW_SHARE, _LARGEST_WINDOW), 2 * largest)
        self._sessions: dict[bytes, tuple[Session, str, int]] = {}
        self._changed = Condition()

    def open(self, client: str, opened: OpenRelay) -> int:
        """Open a session; returns the bytes that a client may have under way per dealer.

        Raises:
            RelayError: its name is taken.
            RefusedError: no room.
        """
        amount = self.window * len(opened.signers)
        if not self._admission.messages.try_take(client, amount):
            raise RefusedError(f"relay: no room for {len(opened.signers)} windows of {self.window >> 20} MiB")
        with self._changed:
            if opened.session in self._sessions:
                self._admission.messages.give_back(client, amount)
                raise RelayError("relay: a session of this name is open")
            session = Session(opened, self.window, self._admission.limits.seconds)
            self._sessions[opened.session] = session, client, amount
        return self.window - self.largest

    def session(self, name: bytes) -> Session:
        """The open session of that name.

        Raises:
            RelayError: there is none (any more).
        """
        entry = self._sessions.get(name)
        if entry is None:
            raise RelayError("relay: no such session; it ended, or its client was not heard of for too long")
        return entry[0]

    def knows(self, session: str, token: str) -> bool:
        """Whether a stream with these credentials is expected; both in hexadecimal."""
        try:
            return self.session(bytes.fromhex(session)).knows(bytes.fromhex(token))
        except ValueError:  # of which InputError is one
            return False

    def close(self, name: bytes) -> None:
        """End a session, if it is open."""
        with self._changed:
            entry = self._sessions.pop(name, None)
        if entry is not None:
            session, client, amount = entry
            session.close()
            self._admission.messages.give_back(client, amount)

    def purge(self) -> None:
        """End sessions whose clients have gone."""
        now = monotonic()
        for name in [name for name, (session, _, _) in list(self._sessions.items()) if session.until <= now]:
            self.close(name)

    @property
    def used(self) -> int:
        """Bytes that wait, over all sessions."""
        return sum(inbox.used for session, _, _ in list(self._sessions.values()) for inbox in session.inboxes)
