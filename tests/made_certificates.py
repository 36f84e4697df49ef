"""Certificates of every kind, good ones and bad ones; and TLS servers of them that are none of ppidm's."""

from __future__ import annotations

import ipaddress
import socket
import ssl
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from threading import Thread
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

YEAR = timedelta(days=365)
NOW, EXPIRED, LATER = (-YEAR, YEAR), (-YEAR, -timedelta(days=1)), (timedelta(days=1), YEAR)


@dataclass(frozen=True)
class Made:
    """A certificate and its key, as files and as objects."""

    certificate: Path
    key: Path
    parsed: x509.Certificate
    private: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey

    @property
    def fingerprint(self) -> str:
        return self.parsed.fingerprint(SHA256()).hex()

    def pin(self, address: str) -> str:
        return f"{address}={self.fingerprint}"


def certificate(folder, stem, *, hosts=("127.0.0.1",), valid=NOW, issuer=None, kind="ec", authority=False):
    """Write STEM.pem (with its issuer's, if it has one) and STEM.key."""
    private = ec.generate_private_key(ec.SECP256R1()) if kind == "ec" else rsa.generate_private_key(65537, 2048)
    name, now = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, stem)]), datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(issuer.parsed.subject if issuer else name)
        .public_key(private.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + valid[0])
        .not_valid_after(now + valid[1])
        .add_extension(x509.BasicConstraints(ca=authority or issuer is None, path_length=None), critical=True)
    )
    if hosts:
        builder = builder.add_extension(x509.SubjectAlternativeName([general_name(h) for h in hosts]), critical=False)
    parsed = builder.sign(issuer.private if issuer else private, SHA256())
    made = Made(folder / f"{stem}.pem", folder / f"{stem}.key", parsed, private)
    chain = [parsed, issuer.parsed] if issuer else [parsed]
    made.certificate.write_bytes(b"".join(each.public_bytes(Encoding.PEM) for each in chain))
    made.key.write_bytes(private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return made


def general_name(host: str) -> x509.GeneralName:
    with suppress(ValueError):
        return x509.IPAddress(ipaddress.ip_address(host))
    return x509.DNSName(host)


@dataclass
class Endpoint:
    """A TLS server. `heard` is what clients said to it, `versions` of TLS, and `failures` of handshakes."""

    address: str
    heard: list[bytes] = field(default_factory=list)
    versions: list[str | None] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    def serve(self, listener: socket.socket, contexts: Sequence[ssl.SSLContext]) -> None:
        """One connection after the other; the n-th with the n-th context, or the last one."""
        with suppress(OSError):
            for number in range(1_000_000):
                plain, _ = listener.accept()
                self._talk(plain, contexts[min(number, len(contexts) - 1)])

    def _talk(self, plain: socket.socket, context: ssl.SSLContext) -> None:
        plain.settimeout(10)
        with plain:
            try:
                with context.wrap_socket(plain, server_side=True) as link:
                    self.versions.append(link.version())
                    link.sendall(b"\0")
                    self.heard.append(link.recv(1 << 16))
            except OSError as error:
                self.failures.append(str(error))


def context_of(made: Made, newest: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(made.certificate, made.key)
    context.maximum_version = newest
    context.set_alpn_protocols(["h2"])
    return context


@contextmanager
def tls_server(*contexts: ssl.SSLContext) -> Iterator[Endpoint]:
    """Serve until the block ends."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        endpoint = Endpoint(f"127.0.0.1:{listener.getsockname()[1]}")
        thread = Thread(target=endpoint.serve, args=(listener, contexts))
        thread.start()
        try:
            yield endpoint
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()
