"""Certificates and pins: how the parties of a network know each other (SECURITY.md, "Links").

A server has a certificate of an elliptic-curve key, self-signed or not, and the client pins it. Servers know clients by
certificate, or by a bearer token (`ppidm.protocol.tokens`).
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from ppidm.protocol.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

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
        names = x509.SubjectAlternativeName([_general_name(host) for host in hosts])
        builder = builder.add_extension(names, critical=False)
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
    identity = Identity(read_key_file(certificate), read_key_file(key))
    [parsed, *_] = parse_certificates(identity.certificate, str(certificate))
    require_current(parsed, str(certificate))
    require_elliptic_curve(parsed, str(certificate))
    try:
        private = load_pem_private_key(identity.key, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        # `from None`: what the parser says of a key is nobody's business
        raise InputError(f"{key}: not an unencrypted PEM private key; `ppidm keys` makes one") from None
    if private.public_key() != parsed.public_key():
        raise InputError(f"{key}: not the key of {certificate}; give the pair that `ppidm keys` made together")
    return identity


def parse_certificates(pem: bytes, name: str) -> list[x509.Certificate]:
    """Read all PEM certificates.

    Raises:
        InputError: there is none, or one is corrupt.
    """
    try:
        return x509.load_pem_x509_certificates(pem)
    except (ValueError, x509.InvalidVersion) as error:  # found by fuzzing: the latter is no ValueError
        raise InputError(f"{name}: no PEM certificate, or a corrupt one; `ppidm keys` makes them") from error


def require_elliptic_curve(certificate: x509.Certificate, name: str) -> None:
    """Check the kind of key.

    Raises:
        InputError: RSA or another one.

    Security:
        This is how TLS 1.2 is ruled out; see `ppidm.protocol.tls`.
    """
    try:
        key = certificate.public_key()
    except (ValueError, UnsupportedAlgorithm):  # found by fuzzing: the certificate parses, its key does not
        key = None
    if not isinstance(key, ec.EllipticCurvePublicKey):
        kind = "unknown" if key is None else type(key).__name__.strip("_").removesuffix("PublicKey")
        raise InputError(
            f"{name}: a key of kind {kind}; expected an elliptic-curve key, since with others TLS 1.2 could not be "
            "ruled out. `ppidm keys` makes one"
        )


# found by fuzzing: names and extensions are parsed when somebody asks for them
_UNREADABLE = ValueError, x509.DuplicateExtension, x509.UnsupportedGeneralNameType


def name_in(certificate: x509.Certificate) -> str | None:
    """A host name or address that the certificate is for, or its common name, or None."""
    try:
        return _name_in(certificate)
    except _UNREADABLE:
        return None


def _name_in(certificate: x509.Certificate) -> str | None:
    try:
        alternatives = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        common = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        return str(common[0].value) if common else None
    kinds = x509.IPAddress, x509.DNSName
    hosts = [str(host) for kind in kinds for host in alternatives.get_values_for_type(kind)]
    return next((host for host in hosts if "*" not in host), None)


def require_current(certificate: x509.Certificate, name: str) -> None:
    """Check the dates.

    Raises:
        InputError: expired, or not valid yet.
    """
    now = datetime.now(UTC)
    if not certificate.not_valid_before_utc <= now <= certificate.not_valid_after_utc:
        dates = f"{certificate.not_valid_before_utc:%Y-%m-%d} to {certificate.not_valid_after_utc:%Y-%m-%d}"
        raise InputError(
            f"{name}: the certificate is valid from {dates}, and today is {now:%Y-%m-%d}; make a new one, or set the "
            "clock"
        )


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


def read_key_file(path: Path) -> bytes:
    """Read a certificate, a key or a file of tokens.

    Raises:
        InputError: it cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}; expected a file that `ppidm keys` makes") from error
