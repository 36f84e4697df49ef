"""A call under `limits`: nothing is read, computed or kept before it has reserved its memory."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from math import inf
from threading import Event, Thread
from time import monotonic
from typing import TYPE_CHECKING, Self

from ppidm.runtime.limits import COPIES, Admission, Pool, RefusedError, client_of
from ppidm.runtime.memory import give_memory_back

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import grpc

_LOOK_SECONDS = 0.25  # how often calls that take too long are looked for
_IDLE_SECONDS = 1.0  # without a call until free memory is given back: what is given back must be mapped again


class Call:
    """One call. It ends when its handler has returned and its answer was taken, or nobody waits for it any more.

    Args:
        admission: what it reserves from.
        context: of gRPC.

    Attributes:
        client: whom it counts for.
        until: when it is ended, on the monotonic clock.
    """

    def __init__(self, admission: Admission, context: grpc.ServicerContext) -> None:
        self._admission, self._context = admission, context
        self.client = client_of(context.peer())
        self.until = monotonic() + min(admission.limits.seconds, context.time_remaining())
        self._handler, self._answer = ExitStack(), ExitStack()  # what is given back when
        self._holders = 2

    def start(self) -> None:
        """Count the call.

        Raises:
            RefusedError: there are too many.
        """
        calls = self._admission.calls
        if not calls.try_take(self.client, 1):
            raise RefusedError(f"too many requests at once; one client may have {calls.share}")
        self._answer.callback(calls.give_back, self.client, 1)
        if not self._context.add_callback(self._terminated):
            self._terminated()

    def cancel(self) -> None:
        """End it; a handler that waits or reads stops."""
        self._context.cancel()

    def is_wanted(self) -> bool:
        """Whether anybody waits for the answer."""
        return bool(self._context.is_active())

    def read(self, requests: Iterator[bytes], largest: int) -> bytes | None:
        """Read the next message, of at most `largest` bytes; None if there is no more.

        Raises:
            RefusedError: no room came free.
            GoneError: nobody waits any more.
        """
        pool, reserved, kept = self._admission.messages, COPIES * largest, 0
        pool.take(self.client, reserved, self.until, self.is_wanted)
        try:
            message = next(requests, None)
            if message is not None:
                kept = COPIES * len(message)
                self._handler.callback(pool.give_back, self.client, kept)
        finally:
            pool.give_back(self.client, reserved - kept)
        return message

    @contextmanager
    def computing(self, amount: int) -> Iterator[Callable[[int], None]]:
        """Within the block, the call is one of those that compute, and has `amount` bytes.

        Yields:
            A function that takes the size of the answer: what stays reserved until the answer was taken.

        Raises:
            RefusedError: no room came free.
            GoneError: nobody waits any more.
        """
        with ExitStack() as held:
            self._take(held, self._admission.working, amount)
            self._take(held, self._admission.workers, 1)
            yield self._keep

    def _take(self, held: ExitStack, pool: Pool, amount: int) -> None:
        pool.take(self.client, amount, self.until, self.is_wanted)
        held.callback(pool.give_back, self.client, amount)

    def _keep(self, amount: int) -> None:
        pool = self._admission.working
        pool.add(self.client, amount)
        self._answer.callback(pool.give_back, self.client, amount)

    def handled(self) -> None:
        """The handler has returned."""
        self._handler.close()
        self._release()

    def _terminated(self) -> None:
        self._release()
        self._admission.wake()  # it may wait for room itself

    def _release(self) -> None:
        with self._admission.changed:
            self._holders -= 1
            if not self._holders:
                self._answer.close()


class Calls:
    """All calls. While the block lasts, a thread ends those that take too long, and gives free memory back.

    Args:
        admission: what they reserve from.
        tick: called by that thread, a few times per second.
    """

    def __init__(self, admission: Admission, tick: Callable[[], None] = lambda: None) -> None:
        self._admission, self._tick = admission, tick
        self._live: set[Call] = set()
        self._stopped, self._trim_at = Event(), inf
        self._thread = Thread(target=self._watch, name="calls", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._thread.join()

    @contextmanager
    def enter(self, context: grpc.ServicerContext) -> Iterator[Call]:
        """A call for the time that its handler runs.

        Raises:
            RefusedError: there are too many.
        """
        call = Call(self._admission, context)
        call.start()
        self._live.add(call)
        if not context.add_callback(lambda: self._live.discard(call)):
            self._live.discard(call)
        try:
            yield call
        finally:
            call.handled()
            self._trim_at = monotonic() + _IDLE_SECONDS

    def _watch(self) -> None:
        while not self._stopped.wait(_LOOK_SECONDS):
            self._tick()
            now = monotonic()
            for call in [call for call in self._live.copy() if call.until <= now]:
                call.cancel()
            if self._trim_at <= now and not self._admission.workers.used:
                self._trim_at = inf
                give_memory_back()
