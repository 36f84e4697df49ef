"""What a server says of itself in `ServerMetadata.extensions`: which package it serves, and which process it is.

A client refuses a server of another package, and a dealer that is the same process as the evaluator.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ppidm.protocol.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

PACKAGE_EXTENSION = "ppidm.package:"
INSTANCE_EXTENSION = "ppidm.instance:"
SIGNER_EXTENSION = "ppidm.signer:"
_LONGEST_QUOTE = 200  # characters of a server's text that an error message repeats


@dataclass(frozen=True)
class Handshake:
    """`package`: digest of all slices. `instance`: random name of the server process. `signer`: its Ed25519 key, or ""."""

    package: str
    instance: str
    signer: str = ""


def extensions(package: str, instance: str, signer: str = "") -> list[str]:
    """The extensions of a server."""
    signers = [SIGNER_EXTENSION + signer] if signer else []
    return [PACKAGE_EXTENSION + package, INSTANCE_EXTENSION + instance, *signers]


def parse_extensions(texts: Sequence[str]) -> Handshake:
    """Read the extensions of a server; those of others are skipped.

    Raises:
        InputError: not a server of ppidm, or it contradicts itself.
    """
    is_signing = any(text.startswith(SIGNER_EXTENSION) for text in texts)
    signer = _only(texts, SIGNER_EXTENSION) if is_signing else ""
    return Handshake(_only(texts, PACKAGE_EXTENSION), _only(texts, INSTANCE_EXTENSION), signer)


def _only(texts: Sequence[str], prefix: str) -> str:
    found = {text.removeprefix(prefix) for text in texts if text.startswith(prefix)} - {""}
    if len(found) != 1:
        got = ascii(list(texts))[:_LONGEST_QUOTE]
        raise InputError(f"a server with extensions {got}; expected exactly one {prefix!r}...: is it `ppidm serve`?")
    return found.pop()
