"""The stream of a dealer to an evaluator, for one session of relay mode."""

from __future__ import annotations

from queue import SimpleQueue
from threading import Condition, Thread
from time import monotonic
from typing import TYPE_CHECKING, Any

import grpc

from ppidm.protocol.relay_messages import SERVICE, SESSION_METADATA, STREAM
from ppidm.runtime.inbox import WAKE_SECONDS, RelayError
from ppidm.runtime.limits import GoneError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ppidm.protocol.relay_messages import ConnectRelay


class _Item:
    """A message on its way. `state` is "waiting", "taken" or "abandoned"."""

    def __init__(self, content: bytes) -> None:
        self.content, self.state = content, "waiting"


class Outbox:
    """A stream to one evaluator, for one session: one message at a time, as fast as the evaluator takes them."""

    def __init__(self, channel: grpc.Channel, connect: ConnectRelay, client: str) -> None:
        self._channel, self._changed, self.client = channel, Condition(), client
        self._queue: SimpleQueue[_Item | None] = SimpleQueue()
        self._problem = ""
        self.used = monotonic()
        metadata = (("authorization", f"Bearer {connect.token.hex()}"), (SESSION_METADATA, connect.session.hex()))
        stream = channel.stream_unary(f"/{SERVICE}/{STREAM}")
        self._call = stream.future(self._messages(), metadata=metadata)
        self._call.add_done_callback(self._ended)

    @property
    def has_ended(self) -> bool:
        """Whether the evaluator has ended it, or is gone."""
        return bool(self._problem)

    def send(self, content: bytes, until: float, is_wanted: Callable[[], bool]) -> None:
        """Send one message; returns when the evaluator has taken it, or the transport has.

        Raises:
            RelayError: the stream has ended, or the time is over.
            GoneError: nobody waits any more.
        """
        self.used = monotonic()
        item = _Item(content)
        self._queue.put(item)
        with self._changed:
            while item.state == "waiting":
                problem = self._problem or ("the evaluator takes nothing" if monotonic() > until else "")
                if problem or not is_wanted():
                    item.state = "abandoned"
                    if problem:
                        raise RelayError(f"relay: {problem}")
                    raise GoneError
                self._changed.wait(WAKE_SECONDS)

    def _messages(self) -> Iterator[bytes]:
        """What gRPC reads: it asks for the next message when it has got rid of the last."""
        while (item := self._queue.get()) is not None:
            if item.state == "waiting":
                yield item.content
                with self._changed:
                    item.state, item.content = "taken", b""
                    self._changed.notify_all()

    def _ended(self, call: Any) -> None:  # noqa: ANN401
        with self._changed:
            self._problem = "the stream to the evaluator has ended"
            if call.code() is not grpc.StatusCode.OK:
                self._problem += f" ({call.code().name}, {ascii(call.details() or '')[:200]})"
            self._changed.notify_all()
        self._queue.put(None)
        Thread(
            target=self._channel.close, daemon=True
        ).start()  # gRPC's own thread, which calls this, must not wait for it

    def close(self) -> None:
        """End it."""
        self._call.cancel()
        self._queue.put(None)
        self._channel.close()
