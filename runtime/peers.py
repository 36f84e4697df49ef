"""Relay mode at a dealer: which evaluators it connects to, and the streams that it sends them."""

from __future__ import annotations

import socket
from dataclasses import dataclass
from ipaddress import ip_address
from time import monotonic
from typing import TYPE_CHECKING

import grpc

from ppidm.protocol.address import loopback_address, parse_address
from ppidm.protocol.certificates import fingerprint, load_identity, name_in, parse_certificates
from ppidm.protocol.errors import InputError, PeerError
from ppidm.protocol.greeting import greet
from ppidm.protocol.tls import require_tls_1_3
from ppidm.runtime.inbox import RelayError
from ppidm.runtime.outbox import Outbox

if TYPE_CHECKING:
    from ppidm.protocol.address import Address
    from ppidm.protocol.relay_messages import ConnectRelay
    from ppidm.runtime.links import LinkSettings

CONNECT_SECONDS = 10.0
MAX_STREAMS, MAX_CLIENT_STREAMS = 32, 8  # at once
_ADVICE = "its operator allows others with --allow-peer HOST:PORT or --allow-peer SHA256 (of the peer's certificate)"
_OPTIONS = [("grpc.max_send_message_length", -1), ("grpc.enable_retries", 0), ("grpc.enable_http_proxy", 0)]
_FINGERPRINT_DIGITS = 64


@dataclass(frozen=True)
class AllowedPeers:
    """Evaluators that a dealer connects to, and dealers that an evaluator takes a stream from. Loopback is always allowed.

    Raises:
        InputError: an entry is neither HOST:PORT nor a SHA-256 in hexadecimal.
    """

    entries: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for entry in self.entries:
            if not _is_fingerprint(entry):
                parse_address(entry)

    def require_outgoing(self, address: Address, pin: str | None) -> None:
        """Check that a dealer may connect to `address`.

        Raises:
            InputError: not allowed, or outside of loopback without a pin.
        """
        if pin is not None and (pin in self.entries or str(address) in self.entries):
            return
        loopback_address(address, f"a pinned peer; {_ADVICE}")

    def allows_incoming(self, host: str, fingerprint: str | None) -> bool:
        """Whether an evaluator takes a stream from this IP address, or from the holder of this certificate."""
        if fingerprint in self.entries or _is_loopback(host):
            return True
        allowed = [parse_address(entry).host for entry in self.entries if not _is_fingerprint(entry)]
        return any(host in _addresses_of(name) for name in allowed)


def _is_fingerprint(entry: str) -> bool:
    return len(entry) == _FINGERPRINT_DIGITS and set(entry) <= set("0123456789abcdef")


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def _addresses_of(name: str) -> set[str]:
    try:
        return {str(sockaddr[0]) for *_, sockaddr in socket.getaddrinfo(name, None)}
    except (OSError, UnicodeError):
        return set()


def host_of(peer: str) -> str:
    """The IP address in what gRPC calls a peer, such as `ipv6:%5B::1%5D:50001`; mapped IPv4 addresses as IPv4."""
    host = peer.partition(":")[2].rpartition(":")[0].replace("%5B", "").replace("%5D", "").strip("[]")
    try:
        address = ip_address(host.partition("%")[0])
    except ValueError:
        return host
    return str(getattr(address, "ipv4_mapped", None) or address)


class Peers:
    """The streams of a dealer, by session.

    Args:
        allowed: where it may connect to.
        links: its own certificate, for evaluators that ask for one.
        seconds: without a message until a stream is closed.
    """

    def __init__(self, allowed: AllowedPeers, links: LinkSettings, seconds: float) -> None:
        self.allowed, self._links, self._seconds = allowed, links, seconds
        self._outboxes: dict[bytes, Outbox] = {}

    def connect(self, client: str, connect: ConnectRelay) -> None:
        """Open a stream that counts for `client`.

        Raises:
            InputError: the address is not allowed.
            RelayError: it cannot be reached, has another certificate, or there are too many streams.
        """
        self.purge()
        address = parse_address(connect.peer)
        self.allowed.require_outgoing(address, connect.pin)
        own = sum(outbox.client == client for outbox in list(self._outboxes.values()))
        if len(self._outboxes) >= MAX_STREAMS or own >= MAX_CLIENT_STREAMS or connect.session in self._outboxes:
            raise RelayError(f"relay: {len(self._outboxes)} streams are open, {own} of them yours; try again later")
        try:
            channel = open_channel(address, connect.pin, self._links)
        except PeerError as error:
            raise RelayError(f"relay: {error}") from None
        self._outboxes[connect.session] = Outbox(channel, connect, client)

    def outbox(self, session: bytes) -> Outbox:
        """The stream of a session.

        Raises:
            RelayError: there is none (any more).
        """
        outbox = self._outboxes.get(session)
        if outbox is None:
            raise RelayError("relay: no stream of this session")
        return outbox

    def purge(self) -> None:
        """Close streams that have ended, or that nobody has used for long."""
        now = monotonic()
        for session, outbox in list(self._outboxes.items()):
            if outbox.has_ended or outbox.used + self._seconds < now:
                self._outboxes.pop(session, outbox).close()

    def close(self) -> None:
        """Close all streams."""
        for session in list(self._outboxes):
            self._outboxes.pop(session).close()


def open_channel(address: Address, pin: str | None, links: LinkSettings) -> grpc.Channel:
    """A way to an evaluator: TLS 1.3 to the pinned certificate, or loopback without TLS.

    Raises:
        InputError: outside of loopback without a pin.
        PeerError: it cannot be reached, or has another certificate.
    """
    if pin is None:
        return grpc.insecure_channel(str(loopback_address(address, "a pin")), _OPTIONS)
    certificate = greet(address, pin, CONNECT_SECONDS, tls_cert=links.tls_cert, tls_key=links.tls_key)
    require_tls_1_3()
    key = own = None
    if links.tls_cert is not None and links.tls_key is not None:
        identity = load_identity(links.tls_cert, links.tls_key)
        key, own = identity.key, identity.certificate
    name = name_in(parse_certificates(certificate, str(address))[0])
    options = [*_OPTIONS, *([] if name is None else [("grpc.ssl_target_name_override", name)])]
    credentials = grpc.ssl_channel_credentials(certificate, key, own)
    return grpc.secure_channel(f"dns:///{address}", credentials, options)


def incoming_fingerprint(context: grpc.ServicerContext) -> str | None:
    """SHA-256 of the certificate that whoever calls has shown, if any."""
    shown = context.auth_context().get("x509_pem_cert")
    if not shown:
        return None
    try:
        [certificate, *_] = parse_certificates(shown[0], "peer")
    except InputError:
        return None
    return fingerprint(certificate)
