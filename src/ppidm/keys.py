"""Keys, certificates and tokens, for operators and clients. No file is ever overwritten; secret ones are 0600."""

from __future__ import annotations

import ipaddress
import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ppidm.protocol.certificates import fingerprint, make_identity, parse_certificates
from ppidm.protocol.errors import InputError
from ppidm.protocol.tokens import make_token, token_digest

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime
    from pathlib import Path

DEFAULT_DAYS = 365
_MOST_DAYS = 3650  # ten years
_SECRET, _PUBLIC = 0o600, 0o644
_LABEL = "[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_HOST = re.compile(rf"(?=.{{1,253}}$){_LABEL}(\.{_LABEL})*")
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,62}", re.ASCII)
_DIGESTS = "tokens.sha256"


@dataclass(frozen=True)
class KeyFiles:
    """What was written: `certificate` is public, `key` is not."""

    certificate: Path
    key: Path
    fingerprint: str
    expires: datetime


@dataclass(frozen=True)
class TokenFiles:
    """What was written: `token` is for the client, `digests` for the operator."""

    token: Path
    digests: Path


def make_server_keys(directory: Path, hosts: Sequence[str], days: int = DEFAULT_DAYS) -> KeyFiles:
    """Write `server.pem` and `server.key`.

    Args:
        directory: of the operator; made if it is missing.
        hosts: names and IP addresses by which clients reach the server.
        days: until the certificate expires.

    Raises:
        InputError: no hosts, a malformed one, too many days, or a file that exists.
    """
    if not hosts:
        raise InputError("no host; expected the names and IP addresses by which clients reach the server (--host)")
    for host in hosts:
        _require_host(host)
    return _make_pair(directory, "server", hosts[0], hosts, days)


def make_client_keys(directory: Path, name: str, days: int = DEFAULT_DAYS) -> KeyFiles:
    """Write `NAME.pem` and `NAME.key`.

    Args:
        directory: of the client; made if it is missing.
        name: of the client; operators see it.
        days: until the certificate expires.

    Raises:
        InputError: a malformed name, too many days, or a file that exists.
    """
    _require_name(name)
    return _make_pair(directory, name, name, (), days)


def make_token_files(directory: Path, name: str) -> TokenFiles:
    """Write `NAME.token`, and add its SHA-256 to `tokens.sha256`.

    Args:
        directory: of the operator; made if it is missing.
        name: of the client.

    Raises:
        InputError: a malformed name, or a client that has a token.
    """
    _require_name(name)
    directory.mkdir(parents=True, exist_ok=True)
    files = TokenFiles(directory / f"{name}.token", directory / _DIGESTS)
    if files.digests.exists() and name in (line.split()[-1] for line in _lines(files.digests)):
        raise InputError(
            f"{files.digests}: {name} has a token; take its line out first, which revokes it, or use another name"
        )
    token = make_token()
    _write_new(files.token, f"{token}\n".encode(), _SECRET)
    with os.fdopen(os.open(files.digests, os.O_WRONLY | os.O_APPEND | os.O_CREAT, _SECRET), "a") as stream:
        stream.write(f"{token_digest(token)}  {name}\n")
    return files


def _make_pair(directory: Path, stem: str, name: str, hosts: Sequence[str], days: int) -> KeyFiles:
    if not 1 <= days <= _MOST_DAYS:
        raise InputError(f"--days is {days}; expected 1 to {_MOST_DAYS}")
    directory.mkdir(parents=True, exist_ok=True)
    identity = make_identity(name, hosts, days)
    certificate, key = directory / f"{stem}.pem", directory / f"{stem}.key"
    _require_missing(certificate)
    _write_new(key, identity.key, _SECRET)
    _write_new(certificate, identity.certificate, _PUBLIC)
    [parsed] = parse_certificates(identity.certificate, str(certificate))
    return KeyFiles(certificate, key, fingerprint(parsed), parsed.not_valid_after_utc)


def _write_new(path: Path, content: bytes, mode: int) -> None:
    _require_missing(path)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as stream:
        stream.write(content)


def _require_missing(path: Path) -> None:
    if os.path.lexists(path):
        raise InputError(f"{path} exists; nothing is overwritten. Move it away, or choose another folder or name")


def _lines(path: Path) -> list[str]:
    return [line for line in path.read_text("ascii", "replace").splitlines() if line.strip()]


def _require_host(host: str) -> None:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        if not _HOST.fullmatch(host):
            raise InputError(f"--host is {host!r}; expected a DNS name or an IP address, without port") from None


def _require_name(name: str) -> None:
    if not _NAME.fullmatch(name):
        raise InputError(f"--name is {name!r}; expected letters, digits, dots, hyphens and underscores, at most 63")
