"""Who made a package: an Ed25519 signature of its manifest, which holds the digest of every file (PROTOCOL.md, section 10).

`manifest.json.sig` holds the 64 bytes in hexadecimal. They sign a label and the bytes of `manifest.json` as they are.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from ppidm.protocol.errors import InputError, PackageError

if TYPE_CHECKING:
    from pathlib import Path

SUFFIX: Final = ".sig"
PRIVATE_KEY, PUBLIC_KEY = "signer.key", "signer.pem"
_LABEL = b"ppidm package manifest, version 1\n"
_MAX_KEY_BYTES = 1 << 16
_SIGNATURE_BYTES = 64
_OWNER_ONLY = 0o600


def make_signing_keys(directory: Path) -> tuple[Path, Path]:
    """Write a fresh pair: `signer.key`, for its owner only, and `signer.pem`, for everybody.

    Returns:
        The two files.

    Raises:
        InputError: one of them exists: whoever pinned it would refuse the packages of another.
    """
    private, public = directory / PRIVATE_KEY, directory / PUBLIC_KEY
    for path in (private, public):
        if path.exists():
            raise InputError(f"{path} exists; give another folder")
    directory.mkdir(parents=True, exist_ok=True)
    key = Ed25519PrivateKey.generate()
    with os.fdopen(os.open(private, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _OWNER_ONLY), "wb") as file:
        file.write(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    public.write_bytes(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    return private, public


def load_private_key(path: Path) -> Ed25519PrivateKey:
    """Read the key of who signs.

    Raises:
        InputError: not an Ed25519 private key without a password.
    """
    content = _read(path)
    try:
        key = load_pem_private_key(content, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise _no_key(path, "private") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise _no_key(path, "private")
    return key


def load_public_key(path: Path) -> Ed25519PublicKey:
    """Read the key of who must have signed.

    Raises:
        InputError: not an Ed25519 public key.
    """
    content = _read(path)
    try:
        key = load_pem_public_key(content)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise _no_key(path, "public") from error
    if not isinstance(key, Ed25519PublicKey):
        raise _no_key(path, "public")
    return key


def sign_file(path: Path, key: Ed25519PrivateKey) -> None:
    """Write the signature of `path` beside it."""
    signature = key.sign(_LABEL + path.read_bytes())
    path.with_name(path.name + SUFFIX).write_text(signature.hex() + "\n", encoding="ascii")


def require_signed(path: Path, content: bytes, key: Ed25519PublicKey) -> None:
    """Check the signature beside `path`.

    Args:
        path: the signed file.
        content: what was read of it, so that nobody changes it in between.
        key: of who must have signed.

    Raises:
        PackageError: no signature, of another key, or of other content.
    """
    signature = path.with_name(path.name + SUFFIX)
    advice = "do not use this package; get it, or the key of who made it, again"
    if not signature.is_file():
        raise PackageError(f"{path}: not signed, and a signer is required ({signature.name} is missing); {advice}")
    try:
        with signature.open("rb") as file:
            text = file.read(2 * _SIGNATURE_BYTES + 2).decode("ascii")
        key.verify(bytes.fromhex(text), _LABEL + content)
    except (InvalidSignature, ValueError) as error:
        raise PackageError(
            f"{path}: changed after it was signed, or signed with another key than the required one; {advice}"
        ) from error


def _read(path: Path) -> bytes:
    try:
        if not path.is_file():
            raise InputError(f"{path}: no such file; `ppidm keys sign DIR` makes a pair of keys")
        with path.open("rb") as file:
            return file.read(_MAX_KEY_BYTES)
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from error


def _no_key(path: Path, kind: str) -> InputError:
    return InputError(f"{path}: expected an Ed25519 {kind} key in PEM, without a password; see `ppidm keys sign`")
