"""Bearer tokens: 32 random bytes that a client shows with every call; a server stores their SHA-256 only."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ppidm.protocol.address import Address, parse_address
from ppidm.protocol.certificates import read_key_file
from ppidm.protocol.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

TOKEN_BYTES = 32
_DIGEST = re.compile(r"[0-9a-f]{64}", re.ASCII)
_TOKEN = re.compile(r"[A-Za-z0-9._~+/-]+=*", re.ASCII)  # RFC 6750
_FORMS = "expected one token for all servers, as `ppidm keys token` writes it, or a line HOST:PORT TOKEN for each"


def make_token() -> str:
    """A new bearer token."""
    return secrets.token_urlsafe(TOKEN_BYTES)


def token_digest(token: str) -> str:
    """What a server stores of a token."""
    return hashlib.sha256(token.encode()).hexdigest()


def token_is_known(token: str, digests: frozenset[str]) -> bool:
    """Whether a client's token is one of those; in constant time for each."""
    digest = token_digest(token)
    return any([hmac.compare_digest(digest, known) for known in digests])  # noqa: C419  (all of them, whichever matches)


def load_token_digests(path: Path) -> frozenset[str]:
    """Read a server's token file: one SHA-256 per line; what follows it on the line is a note.

    Raises:
        InputError: unreadable, empty, or a line that is no digest.
    """
    lines = dict(_lines(path))
    for number, words in lines.items():
        if not _DIGEST.fullmatch(words[0]):
            raise InputError(f"{path}, line {number}: no SHA-256 in hexadecimal; `ppidm keys token` writes this file")
    if not lines:
        raise InputError(f"{path}: no token; `ppidm keys token` writes this file")
    return frozenset(words[0] for words in lines.values())


@dataclass(frozen=True, repr=False)
class Tokens:
    """A client's tokens.

    Security:
        `repr` shows no content.
    """

    common: str | None
    by_address: Mapping[Address, str]

    def __repr__(self) -> str:
        return "Tokens(<secret>)"

    def of(self, address: Address) -> str | None:
        """What to show to the server at `address`."""
        return self.by_address.get(address, self.common)


def load_tokens(path: Path) -> Tokens:
    """Read a client's token file: one token for all servers, or lines HOST:PORT TOKEN. Lines with # are notes.

    Raises:
        InputError: unreadable, or of another form. The message quotes nothing of the file.
    """
    lines = {number: words for number, words in _lines(path) if not words[0].startswith("#")}
    if [len(words) for words in lines.values()] == [1]:
        [[token]] = lines.values()
        return Tokens(_require_token(token, str(path)), {})
    by_address: dict[Address, str] = {}
    for number, words in lines.items():
        place = f"{path}, line {number}"
        if len(words) != 2:  # noqa: PLR2004
            raise InputError(f"{place}: {len(words)} words; {_FORMS}")
        address = _parse_address(words[0], place)
        by_address[address] = _require_token(words[1], place)
    if len(by_address) != len(lines) or not lines:
        raise InputError(f"{path}: {'the same server twice' if lines else 'no token'}; {_FORMS}")
    return Tokens(None, by_address)


def _lines(path: Path) -> Iterator[tuple[int, list[str]]]:
    for number, line in enumerate(read_key_file(path).decode("ascii", "replace").splitlines(), 1):
        if words := line.split():
            yield number, words


def _parse_address(word: str, place: str) -> Address:
    try:
        return parse_address(word)
    except InputError:  # its message quotes the word, which may be a token at the wrong place
        raise InputError(f"{place}: the first word is no HOST:PORT; {_FORMS}") from None


def _require_token(word: str, place: str) -> str:
    if not _TOKEN.fullmatch(word):
        raise InputError(f"{place}: a character that no token has; {_FORMS}")
    return word
