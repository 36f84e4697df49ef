"""`serve()`: what `ppidm serve OUT/server-0 --listen HOST:PORT` runs."""

from __future__ import annotations

import signal
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Event
from typing import TYPE_CHECKING, Any

from ppidm.protocol.address import Address, loopback_address
from ppidm.protocol.errors import InputError
from ppidm.runtime.grpc_server import running
from ppidm.runtime.loading import load_service
from ppidm.runtime.log import LogLevel, make_logger
from ppidm.runtime.port import ensure_free

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

DEFAULT_ADDRESS = Address("127.0.0.1", 8001)


@dataclass(frozen=True)
class ServeSettings:
    """What a server needs to know.

    Args:
        directory: `OUT/server-<i>` of `ppidm export`.
        listen: a loopback address; port 0 picks a free one. `parse_address` reads HOST:PORT.
        threads: threads that compute one request; 0 means one per core.
        workers: requests that are computed at once.
        log_level: least level of what is logged; "debug" logs every request (never its content).

    Raises:
        InputError: a number is out of range.
    """

    directory: Path
    listen: Address = DEFAULT_ADDRESS
    threads: int = 0
    workers: int = 4
    log_level: LogLevel = "info"

    def __post_init__(self) -> None:
        if self.threads < 0 or self.workers < 1:
            raise InputError(
                f"threads {self.threads}, workers {self.workers}; expected at least 0 threads and 1 worker"
            )


def serve(settings: ServeSettings) -> None:
    """Load, print `listening on HOST:PORT`, and serve until SIGINT or SIGTERM. Call it from the main thread.

    Raises:
        InputError: not a loopback address, or the port is in use.
        PackageError: see `load_service`.
    """
    log = make_logger(settings.log_level)
    address = loopback_address(settings.listen)
    ensure_free(address)
    service = load_service(settings.directory, settings.threads, log)
    with _stop_signals() as stopped, running(service, address, settings.workers, log) as bound:
        print(f"listening on {bound}", flush=True)  # noqa: T201  (what scripts and tests wait for)
        log.info("listening", address=str(bound), instance=service.instance)
        stopped.wait()
        log.info("stopping")
    log.info("stopped")


@contextmanager
def _stop_signals() -> Iterator[Event]:
    """An event that SIGINT and SIGTERM set, instead of ending the process."""
    stopped = Event()

    def stop(*_: Any) -> None:  # noqa: ANN401
        stopped.set()

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stopped
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
