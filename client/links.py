"""How the client reaches servers: pinned TLS 1.3, or loopback without TLS."""

from __future__ import annotations

import socket
import ssl
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

import grpc

from ppidm.protocol.address import Address, is_loopback, loopback_address, parse_address
from ppidm.protocol.certificates import (
    Identity,
    fingerprint,
    load_identity,
    load_token,
    parse_certificate,
    parse_pin,
    require_current,
)
from ppidm.protocol.errors import InputError, PeerError
from ppidm.protocol.tls import require_tls_1_3

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_OPTIONS = [
    ("grpc.max_receive_message_length", -1),  # an answer's size is known from its request, and checked
    ("grpc.max_send_message_length", -1),
    ("grpc.enable_retries", 0),  # a retry needs a fresh mask, or the identical bytes to the same server
]
_PIN_ADVICE = "give --pin HOST:PORT=SHA256 with the fingerprint that its operator got from `ppidm keys server`"


@dataclass(frozen=True)
class LinkSettings:
    """How to reach servers.

    Args:
        pins: "HOST:PORT=SHA256" of every server's certificate; a server with a pin is reached over TLS.
        ca: certificates that must vouch for the servers too, PEM.
        tls_cert: this client's certificate, PEM, for servers that ask for one.
        tls_key: its key, PEM.
        token_file: this client's bearer token, for servers that ask for one.

    Raises:
        InputError: a malformed pin, or half of a pair.
    """

    pins: tuple[str, ...] = ()
    ca: Path | None = None
    tls_cert: Path | None = None
    tls_key: Path | None = None
    token_file: Path | None = None

    def __post_init__(self) -> None:
        if (self.tls_cert is None) != (self.tls_key is None):
            raise InputError("--tls-cert and --tls-key go together; one of them is missing")
        _ = self.pin_of

    @cached_property
    def pin_of(self) -> Mapping[Address, str]:
        """Fingerprint by address."""
        return {parse_address(address): digest for address, digest in map(parse_pin, self.pins)}


LOOPBACK = LinkSettings()


@dataclass(frozen=True)
class Link:
    """An open way to one server.

    Attributes:
        channel: of gRPC.
        metadata: to send with every call.
        certificate: fingerprint of the server's certificate, or None on loopback without TLS.
    """

    channel: grpc.Channel
    certificate: str | None = None
    metadata: tuple[tuple[str, str], ...] = field(default=(), repr=False)


def open_link(address: Address, settings: LinkSettings, timeout: float) -> Link:
    """Open a way to the server at `address`.

    Raises:
        InputError: an address outside of loopback without a pin, or bad files.
        PeerError: the server cannot be reached, or has not the pinned certificate.
    """
    token = () if settings.token_file is None else (("authorization", f"Bearer {load_token(settings.token_file)}"),)
    pin = settings.pin_of.get(address)
    if pin is None and settings.ca is None and is_loopback(address):
        numeric = loopback_address(address, _PIN_ADVICE)
        return Link(grpc.insecure_channel(str(numeric), _OPTIONS), metadata=token)
    if pin is None:
        raise InputError(f"no pin for {address}; {_PIN_ADVICE}")
    identity = _identity(settings)
    certificate = _pinned_certificate(address, pin, settings, timeout)
    require_tls_1_3()
    credentials = grpc.ssl_channel_credentials(
        certificate, identity.key if identity else None, identity.certificate if identity else None
    )
    return Link(grpc.secure_channel(str(address), credentials, _OPTIONS), pin, token)


def _identity(settings: LinkSettings) -> Identity | None:
    if settings.tls_cert is None or settings.tls_key is None:
        return None
    return load_identity(settings.tls_cert, settings.tls_key)


def _pinned_certificate(address: Address, pin: str, settings: LinkSettings, timeout: float) -> bytes:
    """The server's certificate, PEM, once it is known to be the pinned one.

    gRPC is then given this very certificate as the only one to trust, so that only the holder of its key can answer. Asking
    for it first costs a handshake, and gives errors that a person can act on.
    """
    pem = ssl.DER_cert_to_PEM_cert(_served_certificate(address, settings, timeout)).encode()
    certificate = parse_certificate(pem, str(address))
    got = fingerprint(certificate)
    if got != pin:
        raise PeerError(
            f"the server at {address} has the certificate {got}, and {pin} is pinned. Either its operator made a new one (ask, "
            "over another channel), or this is not the server that you mean"
        )
    try:
        require_current(certificate, f"server {address}")
    except InputError as error:
        raise PeerError(str(error)) from None
    return pem


def _served_certificate(address: Address, settings: LinkSettings, timeout: float) -> bytes:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.set_alpn_protocols(["h2"])
    if settings.ca is None:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE  # the pin decides
    try:
        if settings.ca is not None:
            context.load_verify_locations(settings.ca)
        if settings.tls_cert is not None:
            context.load_cert_chain(settings.tls_cert, settings.tls_key)
        with (
            socket.create_connection((address.host, address.port), timeout) as plain,
            context.wrap_socket(plain, server_hostname=address.host) as link,
        ):
            served = link.getpeercert(binary_form=True)
    except ssl.SSLError as error:
        raise PeerError(f"no TLS 1.3 with the server at {address} ({error.reason or error}); {_advice(error)}") from error
    except OSError as error:
        raise PeerError(f"cannot reach the server at {address} ({error}); is `ppidm serve` running there?") from error
    assert served is not None
    return served


def _advice(error: ssl.SSLError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"{error.verify_message}: --ca does not vouch for it"
    return "does it run `ppidm serve --tls-cert ... --tls-key ...`?"
