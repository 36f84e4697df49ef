"""Certificates, pins and tokens: how the parties of a network know each other (SECURITY.md, "Links").

A server has a self-signed certificate of an elliptic-curve key, and the client pins it. Servers know clients by certificate or
by bearer token; of a token a server stores the SHA-256 only.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import re
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from ppidm.protocol.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

TOKEN_BYTES = 32
_DIGEST = re.compile(r"[0-9a-f]{64}", re.ASCII)
_CLOCK_SKEW = timedelta(hours=1)


@dataclass(frozen=True, repr=False)
class Identity:
    """A certificate and its private key, both PEM.

    Security:
        `repr` shows no content.
    """

    certificate: bytes
    key: bytes

    def __repr__(self) -> str:
        return "Identity(<secret>)"


def make_identity(name: str, hosts: Sequence[str], days: int) -> Identity:
    """A new P-256 key with a self-signed certificate, for a server that is reached as one of `hosts`, or for a client.

    Args:
        name: common name.
        hosts: DNS names and IP addresses.
        days: until it expires.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name[:64])])
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _CLOCK_SKEW)
        .not_valid_after(now + timedelta(days=days))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(
            x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False
        )
    )
    if hosts:
        builder = builder.add_extension(x509.SubjectAlternativeName([_general_name(host) for host in hosts]), critical=False)
    certificate = builder.sign(key, SHA256())
    return Identity(
        certificate.public_bytes(Encoding.PEM), key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    )


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def load_identity(certificate: Path, key: Path) -> Identity:
    """Read a certificate and its key.

    Raises:
        InputError: unreadable, expired, of another key, or not of an elliptic-curve key.
    """
    identity = Identity(_read(certificate), _read(key))
    parsed = parse_certificate(identity.certificate, str(certificate))
    require_current(parsed, str(certificate))
    try:
        private = load_pem_private_key(identity.key, password=None)
    except (ValueError, TypeError) as error:
        raise InputError(f"{key}: not an unencrypted PEM private key; `ppidm keys` makes one") from error
    if not isinstance(private, ec.EllipticCurvePrivateKey):
        raise InputError(f"{key}: not an elliptic-curve key; with others TLS 1.2 could not be ruled out. Make one with `ppidm keys`")
    if private.public_key() != parsed.public_key():
        raise InputError(f"{key}: not the key of {certificate}; give the pair that `ppidm keys` made together")
    return identity


def parse_certificate(pem: bytes, name: str) -> x509.Certificate:
    """Read the first PEM certificate.

    Raises:
        InputError: there is none.
    """
    try:
        return x509.load_pem_x509_certificate(pem)
    except ValueError as error:
        raise InputError(f"{name}: not a PEM certificate; `ppidm keys` makes one") from error


def require_current(certificate: x509.Certificate, name: str) -> None:
    """Check the dates.

    Raises:
        InputError: expired, or not valid yet.
    """
    now = datetime.now(UTC)
    if not certificate.not_valid_before_utc <= now <= certificate.not_valid_after_utc:
        dates = f"{certificate.not_valid_before_utc:%Y-%m-%d} to {certificate.not_valid_after_utc:%Y-%m-%d}"
        raise InputError(f"{name}: the certificate is valid from {dates}, and today is {now:%Y-%m-%d}; make a new one, or set the clock")


def fingerprint(certificate: x509.Certificate) -> str:
    """SHA-256 of the certificate, in hexadecimal: what a pin holds."""
    return certificate.fingerprint(SHA256()).hex()


def parse_pin(text: str) -> tuple[str, str]:
    """Read HOST:PORT=SHA256.

    Raises:
        InputError: not of this form.
    """
    address, _, digest = text.rpartition("=")
    digest = digest.lower().removeprefix("sha256:").replace(":", "")
    if not address or not _DIGEST.fullmatch(digest):
        raise InputError(f"pin {text!r}; expected HOST:PORT=SHA256, the fingerprint that `ppidm keys server` printed")
    return address, digest


def make_token() -> str:
    """A new bearer token."""
    return secrets.token_urlsafe(TOKEN_BYTES)


def token_digest(token: str) -> str:
    """What a server stores of a token."""
    return hashlib.sha256(token.encode()).hexdigest()


def load_token_digests(path: Path) -> frozenset[str]:
    """Read a server's token file: one SHA-256 per line; what follows it on the line is a note.

    Raises:
        InputError: unreadable, empty, or a line that is no digest.
    """
    lines = [line.split()[0] for line in _read(path).decode("ascii", "replace").splitlines() if line.strip()]
    for number, digest in enumerate(lines, 1):
        if not _DIGEST.fullmatch(digest):
            raise InputError(f"{path}: entry {number} is no SHA-256 in hexadecimal; `ppidm keys token` writes this file")
    if not lines:
        raise InputError(f"{path}: no token; `ppidm keys token` writes this file")
    return frozenset(lines)


def token_is_known(token: str, digests: frozenset[str]) -> bool:
    """Whether a client's token is one of those; in constant time for each."""
    digest = token_digest(token)
    return any([hmac.compare_digest(digest, known) for known in digests])  # noqa: C419  (all of them, whichever matches)


def load_token(path: Path) -> str:
    """Read a client's token file: one line.

    Raises:
        InputError: unreadable, or not one token.
    """
    words = _read(path).decode("ascii", "replace").split()
    if len(words) != 1 or not words[0].isascii():
        raise InputError(f"{path}: {len(words)} words; expected one token, as `ppidm keys token` writes it")
    return words[0]


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}; expected a file that `ppidm keys` makes") from error
