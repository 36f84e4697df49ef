"""How the client reaches servers: pinned TLS 1.3, or loopback without TLS."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

import grpc

from ppidm.protocol.address import loopback_address, parse_address
from ppidm.protocol.certificates import Identity, load_identity, name_in, parse_certificates, parse_pin
from ppidm.protocol.errors import InputError
from ppidm.protocol.greeting import greet
from ppidm.protocol.tls import require_tls_1_3
from ppidm.protocol.tokens import load_tokens

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from ppidm.protocol.address import Address

_OPTIONS = [
    ("grpc.max_receive_message_length", -1),  # an answer's size is known from its request, and checked
    ("grpc.max_send_message_length", -1),
    ("grpc.enable_retries", 0),  # a retry needs a fresh mask, or the identical bytes to the same server
    ("grpc.enable_http_proxy", 0),  # whoever runs a proxy (http_proxy) between client and servers would see all of it
]
_PIN_ADVICE = "give --pin HOST:PORT=SHA256, the fingerprint that the server's operator got from `ppidm keys server`"


@dataclass(frozen=True)
class LinkSettings:
    """How to reach servers.

    Args:
        pins: "HOST:PORT=SHA256" of every server's certificate. With any, all servers are reached over TLS 1.3; without,
            all must be on loopback.
        ca: certificates that must vouch for the servers too, and for their host names, PEM.
        tls_cert: this client's certificate, PEM, for servers that ask for one.
        tls_key: its key, PEM.
        token_file: this client's bearer tokens, for servers that ask for one: one for all, or lines "HOST:PORT TOKEN".

    Raises:
        InputError: a malformed pin, two for one server, one for two servers, or half of a pair.
    """

    pins: tuple[str, ...] = ()
    ca: Path | None = None
    tls_cert: Path | None = None
    tls_key: Path | None = None
    token_file: Path | None = None

    def __post_init__(self) -> None:
        if (self.tls_cert is None) != (self.tls_key is None):
            raise InputError("--tls-cert and --tls-key go together; one of them is missing")
        if not self.pins and (self.ca or self.tls_cert):
            raise InputError(f"--ca or --tls-cert without a pin; they are for TLS: {_PIN_ADVICE}")
        _ = self.pin_of

    @cached_property
    def pin_of(self) -> Mapping[Address, str]:
        """Fingerprint by address."""
        pins: dict[Address, str] = {}
        for text, digest in map(parse_pin, self.pins):
            address = parse_address(text)
            if pins.get(address, digest) != digest:
                raise InputError(f"two pins for {address}; expected one per server")
            for other, known in pins.items():
                if known == digest and other != address:
                    raise InputError(
                        f"{address} and {other} have one pin; expected a certificate of its own for every server: who "
                        "holds one key is one operator"
                    )
            pins[address] = digest
        return pins

    def require_protection(self, addresses: Sequence[Address]) -> None:
        """Check, before anything is sent, that every server is pinned, or, if there are no pins, on loopback.

        Raises:
            InputError: one is neither.
        """
        for address in addresses:
            if not self.pins:
                loopback_address(address, _PIN_ADVICE)
            elif address not in self.pin_of:
                raise InputError(f"no pin for {address}, but for others; expected one for every server: {_PIN_ADVICE}")


LOOPBACK = LinkSettings()


@dataclass(frozen=True)
class Link:
    """An open way to one server.

    Attributes:
        address: of the server; numeric on loopback.
        channel: of gRPC.
        certificate: fingerprint of the server's certificate, or None on loopback without TLS.
        metadata: to send with every call.

    Security:
        `repr` does not show the token in `metadata`.
    """

    address: Address
    channel: grpc.Channel
    certificate: str | None = None
    metadata: tuple[tuple[str, str], ...] = field(default=(), repr=False)


def open_link(address: Address, settings: LinkSettings, timeout: float) -> Link:
    """Open a way to the server at `address`.

    gRPC is given the pinned certificate as the only one to trust, so that only the holder of its key can answer.

    Raises:
        InputError: neither pinned nor on loopback, or bad files.
        PeerError: the server cannot be reached, or has not the pinned certificate.

    Security:
        Nothing of the client's is sent before the server has shown the pinned certificate: no name, no token.
    """
    settings.require_protection([address])
    metadata = _metadata(address, settings)
    if not settings.pins:
        numeric = loopback_address(address, _PIN_ADVICE)
        return Link(numeric, grpc.insecure_channel(str(numeric), _OPTIONS), metadata=metadata)
    pin, identity = settings.pin_of[address], _identity(settings)
    certificate = greet(address, pin, timeout, ca=settings.ca, tls_cert=settings.tls_cert, tls_key=settings.tls_key)
    require_tls_1_3()
    credentials = grpc.ssl_channel_credentials(
        certificate, identity.key if identity else None, identity.certificate if identity else None
    )
    options = [*_OPTIONS, *_name_option(certificate, address)]
    return Link(address, grpc.secure_channel(f"dns:///{address}", credentials, options), pin, metadata)


def _metadata(address: Address, settings: LinkSettings) -> tuple[tuple[str, str], ...]:
    token = None if settings.token_file is None else load_tokens(settings.token_file).of(address)
    return () if token is None else (("authorization", f"Bearer {token}"),)


def _identity(settings: LinkSettings) -> Identity | None:
    if settings.tls_cert is None or settings.tls_key is None:
        return None
    return load_identity(settings.tls_cert, settings.tls_key)


def _name_option(certificate: bytes, address: Address) -> list[tuple[str, str]]:
    """The name to expect in the certificate is one that is in it: the pin says whose it is, wherever it is reached."""
    name = name_in(parse_certificates(certificate, str(address))[0])
    return [] if name is None else [("grpc.ssl_target_name_override", name)]
