"""The messages of relay mode, as named tensors (PROTOCOL.md, section 7).

A *session* is one picture of one client at one evaluator; a *ticket* is one request of it. The client chooses both.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING

import numpy as np

from ppidm.protocol.errors import InputError
from ppidm.protocol.messages import Tensor
from ppidm.protocol.relay import RELAYED, RelayedShare

if TYPE_CHECKING:
    from collections.abc import Sequence

SERVICE = "ppidm.Relay"
OPEN, CONNECT, STREAM, SHOW, CLOSE = "Open", "Connect", "Stream", "Show", "Close"
SESSION_METADATA = "ppidm-session"  # of a stream, in hexadecimal, beside its bearer token
SESSION_BYTES, TOKEN_BYTES, DIGEST_BYTES, KEY_BYTES, SIGNATURE_BYTES = 16, 32, 32, 32, 64
MAX_DEALERS, MAX_RELEASED = 16, 4096
_SESSION, _TICKET, _TICKETS, _WINDOW, _DEALER = "session", "ticket", "tickets", "window", "dealer"
_DIGESTS, _SIGNERS, _PEER, _PIN, _TOKEN, _SIGNATURE = "token_digests", "signers", "peer", "pin", "token", "signature"
_LONGEST_ADDRESS = 300


@dataclass(frozen=True)
class OpenRelay:
    """Client to evaluator: of every dealer the SHA-256 of its one-time token, and its public key."""

    session: bytes
    token_digests: tuple[bytes, ...]
    signers: tuple[bytes, ...]


@dataclass(frozen=True, repr=False)
class ConnectRelay:
    """Client to dealer: where to send, under which one-time token. `pin` is None on loopback without TLS."""

    session: bytes
    peer: str
    pin: str | None
    token: bytes


def open_request(opened: OpenRelay) -> list[Tensor]:
    """Client to evaluator, once per picture."""
    return [
        _bytes(_SESSION, opened.session),
        _bytes(_DIGESTS, b"".join(opened.token_digests)),
        _bytes(_SIGNERS, b"".join(opened.signers)),
    ]


def parse_open(tensors: Sequence[Tensor]) -> OpenRelay:
    """Read `open_request`.

    Raises:
        InputError: malformed.
    """
    named = _named(tensors, {_SESSION, _DIGESTS, _SIGNERS})
    digests, signers = _pieces(named[_DIGESTS], DIGEST_BYTES), _pieces(named[_SIGNERS], KEY_BYTES)
    if len(digests) != len(signers) or not 1 <= len(digests) <= MAX_DEALERS or len(set(digests)) != len(digests):
        raise InputError(
            f"{len(digests)} tokens and {len(signers)} keys; expected one of each for 1 to {MAX_DEALERS} dealers"
        )
    return OpenRelay(_content(named[_SESSION], SESSION_BYTES), digests, signers)


def window_answer(window: int) -> list[Tensor]:
    """Evaluator to client: bytes that may wait for it, per dealer."""
    return [_numbers(_WINDOW, [window])]


def parse_window(tensors: Sequence[Tensor]) -> int:
    """Read `window_answer`.

    Raises:
        InputError: malformed.
    """
    return _integers(_named(tensors, {_WINDOW})[_WINDOW])[0]


def connect_request(connect: ConnectRelay) -> list[Tensor]:
    """Client to dealer, once per picture."""
    tensors = [_bytes(_SESSION, connect.session), _bytes(_PEER, connect.peer.encode()), _bytes(_TOKEN, connect.token)]
    return tensors if connect.pin is None else [*tensors, _bytes(_PIN, bytes.fromhex(connect.pin))]


def parse_connect(tensors: Sequence[Tensor]) -> ConnectRelay:
    """Read `connect_request`.

    Raises:
        InputError: malformed.
    """
    pinned = any(tensor.name == _PIN for tensor in tensors)
    named = _named(tensors, {_SESSION, _PEER, _TOKEN} | ({_PIN} if pinned else set()))
    peer = named[_PEER].array("UINT8").tobytes()
    if not peer.isascii() or len(peer) > _LONGEST_ADDRESS:
        raise InputError(f"a peer of {len(peer)} bytes; expected HOST:PORT")
    pin = _content(named[_PIN], DIGEST_BYTES).hex() if pinned else None
    return ConnectRelay(
        _content(named[_SESSION], SESSION_BYTES), peer.decode(), pin, _content(named[_TOKEN], TOKEN_BYTES)
    )


@dataclass(frozen=True)
class Place:
    """Where a request belongs: to a ticket of a session. `released` are those whose shares nobody will ask for again."""

    session: bytes
    ticket: int
    released: tuple[int, ...] = ()


def place_tensors(place: Place) -> list[Tensor]:
    """What a request carries besides, to evaluator or dealer."""
    return [_bytes(_SESSION, place.session), _numbers(_TICKETS, [place.ticket, *place.released])]


def split_place(tensors: Sequence[Tensor]) -> tuple[Place | None, list[Tensor]]:
    """The place of a request, if it has one, and its other tensors.

    Raises:
        InputError: half of a place, or a malformed one.
    """
    ours = [tensor for tensor in tensors if tensor.name in {_SESSION, _TICKETS}]
    if not ours:
        return None, list(tensors)
    named = _named(ours, {_SESSION, _TICKETS})
    ticket, *released = _integers(named[_TICKETS], 1 + MAX_RELEASED)
    others = [tensor for tensor in tensors if tensor.name not in {_SESSION, _TICKETS}]
    return Place(_content(named[_SESSION], SESSION_BYTES), ticket, tuple(released)), others


def share_tensors(share: RelayedShare) -> list[Tensor]:
    """Dealer to evaluator, and in a dispute evaluator to client; the name of the slice travels beside it."""
    return [_numbers(_TICKET, [share.ticket]), _bytes(_SIGNATURE, share.signature), *share.tensors]


def parse_share(name: str, tensors: Sequence[Tensor]) -> RelayedShare:
    """Read `share_tensors`. Shapes and signature are checked where they are known.

    Raises:
        InputError: malformed.
    """
    layers = tuple(tensor for tensor in tensors if tensor.name.startswith(RELAYED))
    named = _named([tensor for tensor in tensors if tensor not in layers], {_TICKET, _SIGNATURE})
    if [tensor.name for tensor in layers] != [f"{RELAYED}{index}" for index in range(len(layers))] or not layers:
        raise InputError(f"a relayed share of {len(layers)} layers with other names than {RELAYED}0, ...")
    for tensor in layers:
        tensor.array("UINT8")
    return RelayedShare(name, _integers(named[_TICKET])[0], layers, _content(named[_SIGNATURE], SIGNATURE_BYTES))


def show_request(session: bytes, ticket: int, dealer: int) -> list[Tensor]:
    """Client to evaluator, in a dispute: what did dealer number `dealer` send?"""
    return [_bytes(_SESSION, session), _numbers(_TICKET, [ticket]), _numbers(_DEALER, [dealer])]


def parse_show(tensors: Sequence[Tensor]) -> tuple[bytes, int, int]:
    """Read `show_request`: session, ticket, dealer.

    Raises:
        InputError: malformed.
    """
    named = _named(tensors, {_SESSION, _TICKET, _DEALER})
    return _content(named[_SESSION], SESSION_BYTES), _integers(named[_TICKET])[0], _integers(named[_DEALER])[0]


def close_request(session: bytes) -> list[Tensor]:
    """Client to evaluator, at the end."""
    return [_bytes(_SESSION, session)]


def parse_close(tensors: Sequence[Tensor]) -> bytes:
    """Read `close_request`: the session.

    Raises:
        InputError: malformed.
    """
    return _content(_named(tensors, {_SESSION})[_SESSION], SESSION_BYTES)


def _bytes(name: str, content: bytes) -> Tensor:
    return Tensor(name, "UINT8", (len(content),), content)


def _numbers(name: str, values: Sequence[int]) -> Tensor:
    return Tensor(name, "INT64", (len(values),), np.array(values, "<i8").tobytes())


def _named(tensors: Sequence[Tensor], expected: set[str]) -> dict[str, Tensor]:
    named = {tensor.name: tensor for tensor in tensors}
    if len(named) != len(tensors) or set(named) != expected:
        raise InputError(f"tensors {ascii(sorted(named))[:200]}; expected {sorted(expected)}")
    return named


def _content(tensor: Tensor, size: int) -> bytes:
    content = tensor.array("UINT8").tobytes()
    if len(content) != size:
        raise InputError(f"{tensor.name!r} has {len(content)} bytes; expected {size}")
    return content


def _pieces(tensor: Tensor, size: int) -> tuple[bytes, ...]:
    content = tensor.array("UINT8").tobytes()
    if len(content) % size or len(content) > size * MAX_DEALERS:
        raise InputError(f"{tensor.name!r} has {len(content)} bytes; expected up to {MAX_DEALERS} times {size}")
    return tuple(content[start : start + size] for start in range(0, len(content), size))


def _integers(tensor: Tensor, most: int = 1) -> list[int]:
    if (count := prod(tensor.shape)) > most:  # before a hostile message becomes millions of objects
        raise InputError(f"{tensor.name!r} has {count} numbers; expected at most {most}")
    return [int(value) for value in tensor.array("INT64").reshape(-1)]
