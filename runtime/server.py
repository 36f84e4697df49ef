"""`serve()`: what `ppidm serve OUT/server-0 --listen HOST:PORT` runs."""

from __future__ import annotations

import signal
import socket
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from ppidm.engines.choice import EngineChoice
from ppidm.protocol.address import Address
from ppidm.protocol.errors import InputError
from ppidm.runtime.grpc_server import running
from ppidm.runtime.limits import Limits
from ppidm.runtime.links import LOOPBACK, LinkSettings, listen_address, require_usable
from ppidm.runtime.loading import load_service
from ppidm.runtime.log import LogLevel, make_logger
from ppidm.runtime.memory import keep_little_memory
from ppidm.runtime.peers import AllowedPeers
from ppidm.runtime.port import ensure_free

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

DEFAULT_ADDRESS = Address("127.0.0.1", 8001)
_STOP = (signal.SIGINT, signal.SIGTERM)


@dataclass(frozen=True)
class ServeSettings:
    """What a server needs to know.

    Args:
        directory: `OUT/server-<i>` of `ppidm export`.
        listen: where; port 0 picks a free one. `parse_address` reads HOST:PORT.
        threads: threads that compute one request; 0 means one per core.
        workers: requests that are computed at once.
        links: certificates and tokens; without them the address must be loopback.
        limits: what clients may ask for.
        signer: PEM file with the public key of who must have signed the package; None takes any.
        engine: what computes; nothing stands in for it.
        log_level: least level of what is logged; "debug" logs every request (never its content).

    Raises:
        InputError: a number is out of range.
    """

    directory: Path
    listen: Address = DEFAULT_ADDRESS
    threads: int = 0
    workers: int = 4
    log_level: LogLevel = "info"
    links: LinkSettings = LOOPBACK
    limits: Limits = Limits()  # noqa: RUF009  (immutable)
    signer: Path | None = None
    engine: EngineChoice = EngineChoice()  # noqa: RUF009  (immutable)
    allowed: AllowedPeers = AllowedPeers()  # noqa: RUF009  (immutable)

    def __post_init__(self) -> None:
        if self.threads < 0 or self.workers < 1:
            raise InputError(
                f"threads {self.threads}, workers {self.workers}; expected at least 0 threads and 1 worker"
            )


def serve(settings: ServeSettings) -> None:
    """Load, print `listening on HOST:PORT`, and serve until SIGINT or SIGTERM. Call it from the main thread.

    Raises:
        InputError: an address outside of loopback without protection, bad certificates, or the port is in use.
        PackageError: see `load_service`.
    """
    keep_little_memory()
    log = make_logger(settings.log_level)
    address = listen_address(settings.listen, settings.links)
    require_usable(settings.links)
    ensure_free(address)
    service = load_service(settings.directory, settings.threads, log, settings.limits, settings.signer, settings.engine)
    transport = running(service, address, settings.workers, log, settings.links, settings.limits, settings.allowed)
    with _stop_signals() as wait_for_stop, transport as bound:
        print(f"listening on {bound}", flush=True)  # noqa: T201  (what scripts and tests wait for)
        log.info("listening", address=str(bound), instance=service.instance)
        wait_for_stop()
        log.info("stopping")
    log.info("stopped")


@contextmanager
def _stop_signals() -> Iterator[Callable[[], None]]:
    """A function that waits for SIGINT or SIGTERM; within the block they do not end the process.

    The interpreter writes the number of every signal to a socket, whichever thread gets it and whatever it does just
    then. A `threading.Event` that a handler sets is not safe: the signal may come between the interpreter's last look
    and the wait, and is missed (measured: within 10,000 signals, each time; none of 208,000 here).
    """
    receiver, sender = socket.socketpair()
    sender.setblocking(False)  # noqa: FBT003  (its only form)
    with receiver, sender:
        wakeup_before = signal.set_wakeup_fd(sender.fileno(), warn_on_full_buffer=False)
        handlers_before = {number: signal.signal(number, lambda *_: None) for number in _STOP}
        try:
            yield partial(_wait_for_stop, receiver)
        finally:
            for number, handler in handlers_before.items():
                signal.signal(number, handler)
            signal.set_wakeup_fd(wakeup_before)


def _wait_for_stop(receiver: socket.socket) -> None:
    while receiver.recv(1)[0] not in _STOP:
        pass
