"""Relay mode at a dealer: which evaluators it connects to, and the streams that it sends them."""

from __future__ import annotations

from dataclasses import dataclass
from queue import SimpleQueue
from threading import Condition
from time import monotonic
from typing import TYPE_CHECKING, Any

import grpc

from ppidm.protocol.address import loopback_address, parse_address
from ppidm.protocol.certificates import fingerprint, load_identity, name_in, parse_certificates
from ppidm.protocol.errors import InputError, PeerError
from ppidm.protocol.greeting import greet
from ppidm.protocol.relay_messages import SERVICE, SESSION_METADATA, STREAM
from ppidm.protocol.tls import require_tls_1_3
from ppidm.runtime.limits import GoneError
from ppidm.runtime.relays import RelayError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ppidm.protocol.address import Address
    from ppidm.protocol.relay_messages import ConnectRelay
    from ppidm.runtime.links import LinkSettings

CONNECT_SECONDS = 10.0
MAX_STREAMS = 32  # to all evaluators together
_ADVICE = "its operator allows others with --allow-peer HOST:PORT or --allow-peer SHA256 (of the peer's certificate)"
_OPTIONS = [("grpc.max_send_message_length", -1), ("grpc.enable_retries", 0), ("grpc.enable_http_proxy", 0)]
_WAKE_SECONDS = 0.25
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
        if fingerprint in self.entries or host == "::1" or host.startswith("127."):
            return True
        return host in {parse_address(entry).host for entry in self.entries if not _is_fingerprint(entry)}


def _is_fingerprint(entry: str) -> bool:
    return len(entry) == _FINGERPRINT_DIGITS and set(entry) <= set("0123456789abcdef")


class _Item:
    """A message on its way. `state` is "waiting", "taken" or "abandoned"."""

    def __init__(self, content: bytes) -> None:
        self.content, self.state = content, "waiting"


class Outbox:
    """A stream to one evaluator, for one session: one message at a time, as fast as the evaluator takes them."""

    def __init__(self, channel: grpc.Channel, connect: ConnectRelay) -> None:
        self._channel, self._changed = channel, Condition()
        self._queue: SimpleQueue[_Item | None] = SimpleQueue()
        self._problem = ""
        self.used = monotonic()
        metadata = (("authorization", f"Bearer {connect.token.hex()}"), (SESSION_METADATA, connect.session.hex()))
        stream = channel.stream_unary(f"/{SERVICE}/{STREAM}")
        self._call = stream.future(self._messages(), metadata=metadata)
        self._call.add_done_callback(self._ended)

    @property
    def has_ended(self) -> bool:
        """Whether the evaluator has ended it, or is gone."""
        return bool(self._problem)

    def send(self, content: bytes, until: float, is_wanted: Callable[[], bool]) -> None:
        """Send one message; returns when the evaluator has taken it, or the transport has.

        Raises:
            RelayError: the stream has ended, or the time is over.
            GoneError: nobody waits any more.
        """
        self.used = monotonic()
        item = _Item(content)
        self._queue.put(item)
        with self._changed:
            while item.state == "waiting":
                problem = self._problem or ("the evaluator takes nothing" if monotonic() > until else "")
                if problem or not is_wanted():
                    item.state = "abandoned"
                    if problem:
                        raise RelayError(f"relay: {problem}")
                    raise GoneError
                self._changed.wait(_WAKE_SECONDS)

    def _messages(self) -> Iterator[bytes]:
        """What gRPC reads: it asks for the next message when it has got rid of the last."""
        while (item := self._queue.get()) is not None:
            if item.state == "waiting":
                yield item.content
                with self._changed:
                    item.state, item.content = "taken", b""
                    self._changed.notify_all()

    def _ended(self, call: Any) -> None:  # noqa: ANN401
        with self._changed:
            self._problem = "the stream to the evaluator has ended"
            if call.code() is not grpc.StatusCode.OK:
                self._problem += f" ({call.code().name}, {ascii(call.details() or '')[:200]})"
            self._changed.notify_all()
        self._queue.put(None)

    def close(self) -> None:
        """End it."""
        self._call.cancel()
        self._queue.put(None)
        self._channel.close()


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

    def connect(self, connect: ConnectRelay) -> None:
        """Open a stream.

        Raises:
            InputError: the address is not allowed.
            RelayError: it cannot be reached, has another certificate, or there are too many streams.
        """
        self.purge()
        address = parse_address(connect.peer)
        self.allowed.require_outgoing(address, connect.pin)
        if len(self._outboxes) >= MAX_STREAMS or connect.session in self._outboxes:
            raise RelayError(f"relay: {len(self._outboxes)} streams are open; try again later")
        try:
            channel = open_channel(address, connect.pin, self._links)
        except PeerError as error:
            raise RelayError(f"relay: {error}") from None
        self._outboxes[connect.session] = Outbox(channel, connect)

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
