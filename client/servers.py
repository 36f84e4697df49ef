"""The servers of a session: one evaluator and its dealers, known to be different processes with the client's package."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ppidm.client.transport import Server
from ppidm.protocol.errors import InputError, PeerError

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True)
class Servers:
    """Who takes part. `all` lists the evaluator first."""

    evaluator: Server
    dealers: tuple[Server, ...]

    @property
    def all(self) -> tuple[Server, ...]:
        """Evaluator, then dealers."""
        return (self.evaluator, *self.dealers)

    def __str__(self) -> str:
        return ", ".join(str(server) for server in self.all)

    def close(self) -> None:
        """Close all connections."""
        for server in self.all:
            server.close()


def connect(evaluator: str, dealers: Sequence[str], package: str, timeout: float) -> Servers:
    """Connect to all servers and find out who they are, before anything is sent.

    Args:
        evaluator: HOST:PORT.
        dealers: HOST:PORT of each, at least one.
        package: digest that every server must have.
        timeout: seconds that one request may take.

    Raises:
        InputError: no dealer, or one server in two roles.
        PeerError: a server cannot be reached, or holds another package.
    """
    if not dealers:
        raise InputError(
            "no dealer; expected at least one (--dealer HOST:PORT), run by another operator than the evaluator"
        )
    servers = Servers(
        Server("evaluator", evaluator, timeout), tuple(Server("dealer", address, timeout) for address in dealers)
    )
    try:
        _require_distinct(servers, [str(server.address) for server in servers.all])
        handshakes = [server.handshake() for server in servers.all]
        for server, handshake in zip(servers.all, handshakes, strict=True):
            _require_package(server, handshake.package, package)
        _require_distinct(servers, [handshake.instance for handshake in handshakes])
    except BaseException:
        servers.close()
        raise
    return servers


def _require_package(server: Server, got: str, expected: str) -> None:
    if got != expected:
        raise PeerError(
            f"{server} serves package {got[:16]!a}..., the client has {expected[:16]}...; start it with a server directory of "
            "the same export"
        )


def _require_distinct(servers: Servers, identities: Sequence[str]) -> None:
    seen: dict[str, Server] = {}
    for server, identity in zip(servers.all, identities, strict=True):
        if identity in seen:
            raise InputError(
                f"{server} is the same server as {seen[identity]}; expected different servers, run by different operators: "
                "one that is both evaluator and dealer could read everything"
            )
        seen[identity] = server
