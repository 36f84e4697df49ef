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
_LONGEST_QUOTE = 200  # characters of a server's text that an error message repeats


@dataclass(frozen=True)
class Handshake:
    """`package`: digest of all slices. `instance`: random name of the server process."""

    package: str
    instance: str


def extensions(package: str, instance: str) -> list[str]:
    """The extensions of a server."""
    return [PACKAGE_EXTENSION + package, INSTANCE_EXTENSION + instance]


def parse_extensions(texts: Sequence[str]) -> Handshake:
    """Read the extensions of a server; those of others are skipped.

    Raises:
        InputError: not a server of ppidm, or it contradicts itself.
    """
    return Handshake(_only(texts, PACKAGE_EXTENSION), _only(texts, INSTANCE_EXTENSION))


def _only(texts: Sequence[str], prefix: str) -> str:
    found = {text.removeprefix(prefix) for text in texts if text.startswith(prefix)} - {""}
    if len(found) != 1:
        got = ascii(list(texts))[:_LONGEST_QUOTE]
        raise InputError(f"a server with extensions {got}; expected exactly one {prefix!r}...: is it `ppidm serve`?")
    return found.pop()
