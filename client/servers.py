"""The servers of a session: an evaluator and its dealers, known to be different processes with the client's package."""

from __future__ import annotations

from contextlib import ExitStack, closing
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ppidm.client.links import LOOPBACK, LinkSettings
from ppidm.client.transport import Server
from ppidm.protocol.address import parse_address
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


def connect(
    evaluator: str, dealers: Sequence[str], package: str, timeout: float, links: LinkSettings = LOOPBACK
) -> Servers:
    """Connect to all servers and find out who they are, before anything is sent.

    Args:
        evaluator: HOST:PORT.
        dealers: HOST:PORT of each, at least one.
        package: digest that every server must have.
        timeout: seconds that one request may take.
        links: pins, certificates, token; by default loopback only.

    Raises:
        InputError: no dealer, one server in two roles, or one that is neither pinned nor on loopback.
        PeerError: a server cannot be reached, has another certificate than the pinned one, or another package.
    """
    if not dealers:
        raise InputError(
            "no dealer; expected at least one (--dealer HOST:PORT), run by another operator than the evaluator"
        )
    links.require_protection([parse_address(address) for address in (evaluator, *dealers)])
    with ExitStack() as opened:
        servers = _open(evaluator, dealers, timeout, links, opened)
        _require_distinct(servers, [str(server.address) for server in servers.all])
        handshakes = [server.handshake() for server in servers.all]
        for server, handshake in zip(servers.all, handshakes, strict=True):
            _require_package(server, handshake.package, package)
        _require_distinct(servers, [handshake.instance for handshake in handshakes])
        opened.pop_all()
    return servers


def _open(evaluator: str, dealers: Sequence[str], timeout: float, links: LinkSettings, opened: ExitStack) -> Servers:
    roles = [("evaluator", evaluator), *(("dealer", address) for address in dealers)]
    servers = [opened.enter_context(closing(Server(role, address, timeout, links))) for role, address in roles]
    return Servers(servers[0], tuple(servers[1:]))


def _require_package(server: Server, got: str, expected: str) -> None:
    if got != expected:
        raise PeerError(
            f"{server} serves package {got[:16]!a}..., the client has {expected[:16]}...; start it with a server directory of "
            "the same export"
        )


def _require_distinct(servers: Servers, identities: Sequence[str]) -> None:
    """By address, or name of the process; `LinkSettings` compares certificates."""
    seen: dict[str, Server] = {}
    for server, identity in zip(servers.all, identities, strict=True):
        if identity in seen:
            raise InputError(
                f"{server} is the same server as {seen[identity]}; expected different servers, run by different "
                "operators: one that is both evaluator and dealer could read everything"
            )
        seen[identity] = server
