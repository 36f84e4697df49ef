"""Servers in this process: quicker than processes of their own, where a test is about something else."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from ppidm.protocol.address import Address
from ppidm.runtime.grpc_server import running
from ppidm.runtime.limits import Limits
from ppidm.runtime.links import LOOPBACK
from ppidm.runtime.loading import load_service
from ppidm.runtime.log import make_logger

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@contextmanager
def serving_here(package: Path, count: int = 2) -> Iterator[list[str]]:
    """Addresses of servers of `package`: the evaluator's and the dealers'."""
    log = make_logger("error")
    with ExitStack() as stack:
        addresses = []
        for index in range(count):
            service = load_service(package / f"server-{index % 2}", 1, log, Limits(), None)
            bound = stack.enter_context(running(service, Address("127.0.0.1", 0), 2, log, LOOPBACK, Limits()))
            addresses.append(str(bound))
        yield addresses
