"""HOST:PORT, and which addresses may be used without TLS."""

from __future__ import annotations

import ipaddress
import re
import socket
from dataclasses import dataclass

from ppidm.protocol.errors import InputError

_PATTERN = re.compile(r"(?:\[(?P<bracketed>[^\[\]]+)\]|(?P<plain>[^\[\]:\s]+)):(?P<port>[0-9]{1,5})", re.ASCII)
_MAX_PORT = 65535
_FORMS = "HOST:PORT, for example 127.0.0.1:8001, or [::1]:8001 for IPv6; port 0 picks a free one"


@dataclass(frozen=True)
class Address:
    """Host (a name, or an IP address without brackets) and port."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_address(text: str) -> Address:
    """Read HOST:PORT.

    Raises:
        InputError: not of this form.
    """
    match = _PATTERN.fullmatch(text)
    if match is None:
        raise InputError(f"address {text!r}; expected {_FORMS}")
    if int(match["port"]) > _MAX_PORT:
        raise InputError(f"address {text!r}: port {match['port']}; expected 0 to {_MAX_PORT}")
    return Address(match["bracketed"] or match["plain"], int(match["port"]))


def loopback_address(address: Address, advice: str) -> Address:
    """The numeric form of a loopback address, IPv4 first where a name has both.

    Args:
        address: any.
        advice: what makes other addresses possible.

    Raises:
        InputError: it does not resolve, or is not on this machine's loopback interface only.

    Security:
        Who sees the masked traffic of the evaluator *and* of all dealers can read the activations.
    """
    hosts = _resolve(address)
    if outside := _outside(hosts):
        raise InputError(
            f"address {address} is {', '.join(outside)}; expected a loopback address, or protection, since who watches "
            f"the links of all servers learns what colluding servers would: {advice}"
        )
    return Address(min(hosts, key=lambda host: ":" in host), address.port)


def _outside(hosts: list[str]) -> list[str]:
    return [host for host in hosts if not ipaddress.ip_address(host).is_loopback]


def _resolve(address: Address) -> list[str]:
    try:
        found = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise InputError(f"address {address}: the host is unknown ({error}); expected {_FORMS}") from error
    return [str(sockaddr[0]) for *_, sockaddr in found]
