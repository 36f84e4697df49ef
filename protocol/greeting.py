"""A first TLS handshake with a server, for its certificate, before gRPC connects.

gRPC tells little of a failed handshake. This one compares the server's certificate with the pin before anything of the
client's is sent, and gives errors that a person can act on.
"""

from __future__ import annotations

import socket
import ssl
import time
from typing import TYPE_CHECKING

from ppidm.protocol.certificates import fingerprint, parse_certificates, require_current, require_elliptic_curve
from ppidm.protocol.errors import InputError, PeerError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from ppidm.protocol.address import Address

_CHUNK = 1 << 14


def greet(
    address: Address,
    pin: str,
    timeout: float,
    *,
    ca: Path | None = None,
    tls_cert: Path | None = None,
    tls_key: Path | None = None,
) -> bytes:
    """The certificate of the server at `address`, PEM.

    Args:
        address: of the server.
        pin: SHA-256 of the certificate that it must have.
        timeout: seconds that all of it may take.
        ca: certificates that must vouch for the server's, and for its host name.
        tls_cert: certificate of this client.
        tls_key: its key.

    Raises:
        InputError: bad files.
        PeerError: no server, no TLS 1.3, another certificate, an unfit one, or the server refuses this client.

    Security:
        Before the certificate is known to be the pinned one, only a ClientHello was sent.
    """
    context = _context(ca, tls_cert, tls_key)
    deadline = time.monotonic() + timeout
    try:
        with socket.create_connection((address.host, address.port), timeout) as link:
            handshake = _Handshake(link, context, address.host, deadline)
            certificate = handshake.receive_certificate()
            _require_pinned(certificate, pin, address)
            _require_welcome(handshake, address)
    except ssl.SSLError as error:
        raise PeerError(_explanation(error, address, ca)) from error
    except (OSError, UnicodeError) as error:
        raise PeerError(f"cannot reach the server at {address} ({error}); is `ppidm serve` running there?") from error
    return certificate


def _context(ca: Path | None, tls_cert: Path | None, tls_key: Path | None) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.set_alpn_protocols(["h2"])
    if ca is None:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE  # the pin decides
    else:
        try:
            context.load_verify_locations(ca)
        except OSError as error:  # of which ssl.SSLError is one
            raise InputError(f"--ca {ca}: {error.strerror}; expected certificates, PEM") from error
    if tls_cert is not None:
        context.load_cert_chain(tls_cert, tls_key)
    return context


class _Handshake:
    """TLS in memory: what is to be sent waits until `finish`.

    In TLS 1.3 a client has the server's certificate, and its proof of the key, before it sends its own.
    """

    def __init__(self, link: socket.socket, context: ssl.SSLContext, host: str, deadline: float) -> None:
        self._link, self._deadline = link, deadline
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=host)

    def receive_certificate(self) -> bytes:
        """PEM."""
        self._repeat(self._tls.do_handshake)
        der = self._tls.getpeercert(binary_form=True)
        assert der is not None
        return ssl.DER_cert_to_PEM_cert(der).encode()

    def finish(self) -> None:
        """Show who this client is, and wait for the first byte of the server: it speaks first, or refuses."""
        self._repeat(lambda: self._tls.read(1))

    def _repeat(self, step: Callable[[], object]) -> None:
        while True:
            try:
                step()
            except ssl.SSLWantReadError:
                self._exchange()
            else:
                return

    def _exchange(self) -> None:
        self._link.settimeout(max(self._deadline - time.monotonic(), 1e-3))
        self._link.sendall(self._outgoing.read())
        if content := self._link.recv(_CHUNK):
            self._incoming.write(content)
        else:
            self._incoming.write_eof()


def _require_pinned(pem: bytes, pin: str, address: Address) -> None:
    try:
        [certificate] = parse_certificates(pem, f"server {address}")
        got = fingerprint(certificate)
        if got != pin:
            raise PeerError(
                f"the server at {address} has the certificate {got}, and {pin} is pinned. Either its operator made a "
                "new one (ask, over another channel), or this is not the server that you mean"
            )
        require_current(certificate, f"server {address}")
        require_elliptic_curve(certificate, f"server {address}")
    except InputError as error:
        raise PeerError(str(error)) from None


def _require_welcome(handshake: _Handshake, address: Address) -> None:
    """A server of gRPC hangs up, without an alert, where it does not like the client's certificate."""
    try:
        handshake.finish()
    except (ssl.SSLError, ConnectionError) as error:
        raise PeerError(
            f"the server at {address} refused this client ({getattr(error, 'reason', error)}); give --tls-cert and "
            "--tls-key of a current certificate that its operator knows (`ppidm keys client` makes one)"
        ) from error


def _explanation(error: ssl.SSLError, address: Address, ca: Path | None) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return (
            f"the certificates in {ca} (--ca) do not vouch for the server at {address}: {error.verify_message}. Give "
            "those of who signed its certificate, and the host name that it is for; or leave --ca out: the pin alone "
            "will do"
        )
    return (
        f"no TLS 1.3 with the server at {address} ({error.reason}); does it run `ppidm serve --tls-cert F --tls-key F`?"
    )
