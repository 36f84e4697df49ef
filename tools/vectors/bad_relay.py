"""Messages of relay mode that must be refused: malformed ones, shares of nobody, answers that are wrong."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from vectors.cases import PRODUCT, make_case
from vectors.described import inputs, whole
from vectors.relayed import RELEASED, TICKET, Relay

from ppidm.protocol.messages import Tensor
from ppidm.protocol.relay_messages import (
    MAX_DEALERS,
    MAX_RELEASED,
    Place,
    close_request,
    place_tensors,
    share_tensors,
    show_request,
    window_answer,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vectors.described import Vector

    from ppidm.protocol.relay import RelayedShare

    Tensors = list[Tensor]


def example() -> Relay:
    """What is damaged: two dealers, a pin."""
    return Relay("bad_relay", make_case("bad relay", 32, [PRODUCT], (4, 5), 2), pinned=True)


def numbers(name: str, *values: int) -> Tensor:
    """A tensor of integers."""
    return Tensor(name, "INT64", (len(values),), np.array(values, "<i8").tobytes())


def edited(tensors: Tensors, name: str, /, **fields: Any) -> Tensors:  # noqa: ANN401
    """One tensor with other fields."""
    return [replace(tensor, **fields) if tensor.name == name else tensor for tensor in tensors]


def cut(tensors: Tensors, name: str, size: int) -> Tensors:
    """One tensor of `size` bytes, what is missing being zeros."""
    [content] = [tensor.content for tensor in tensors if tensor.name == name]
    return edited(tensors, name, shape=(size,), content=content[:size].ljust(size, b"\0"))


def without(tensors: Tensors, name: str) -> Tensors:
    """One tensor less."""
    return [tensor for tensor in tensors if tensor.name != name]


def bad_relay_messages() -> Iterator[tuple[str, Vector]]:
    """Malformed."""
    for kind, name, message, tensors in [*bad_openings(), *bad_connects(), *bad_places(), *bad_others()]:
        vector = {"step": "relay", "error": "InputError", "message": message, "ring_bits": 32, "kind": kind}
        yield f"bad_relay_{kind}_{name}", vector | {"tensors": [whole(tensor) for tensor in tensors]}


def bad_openings() -> Iterator[tuple[str, str, str, Tensors]]:
    """Of sessions."""
    opening = example().opening()
    many = cut(cut(opening, "token_digests", 32 * (MAX_DEALERS + 1)), "signers", 32 * (MAX_DEALERS + 1))
    for name, message, tensors in [
        ("session_short", "'session' has 15 bytes; expected 16", cut(opening, "session", 15)),
        ("no_signers", "expected ['session', 'signers', 'token_digests']", without(opening, "signers")),
        ("fewer_signers", "2 tokens and 1 keys", cut(opening, "signers", 32)),
        ("equal_tokens", "expected one of each", edited(opening, "token_digests", content=bytes(64))),
        ("half_a_token", "'token_digests' has 48 bytes", cut(opening, "token_digests", 48)),
        ("too_many_dealers", f"up to {MAX_DEALERS} times 32", many),
        ("datatype", "'signers' is 'BYTES'; expected UINT8", edited(opening, "signers", datatype="BYTES")),
    ]:
        yield "open", name, message, tensors


def bad_connects() -> Iterator[tuple[str, str, str, Tensors]]:
    """Of dealers to an evaluator."""
    connect = example().connects()[0]
    for name, message, tensors in [
        ("token_short", "'token' has 31 bytes; expected 32", cut(connect, "token", 31)),
        ("pin_short", "'pin' has 31 bytes; expected 32", cut(connect, "pin", 31)),
        ("no_peer", "expected ['peer', 'pin', 'session', 'token']", without(connect, "peer")),
        ("peer_long", "a peer of 301 bytes", cut(connect, "peer", 301)),
        ("peer_not_ascii", "expected HOST:PORT", edited(connect, "peer", shape=(2,), content=b"\xc3\xa4")),
        ("pin_twice", "expected ['peer', 'pin', 'session', 'token']", [*connect, connect[-1]]),
    ]:
        yield "connect", name, message, tensors


def bad_places() -> Iterator[tuple[str, str, str, Tensors]]:
    """Of requests."""
    session, place = example().session, place_tensors(Place(example().session, TICKET, RELEASED))
    too_many = Tensor("tickets", "INT64", (MAX_RELEASED + 2,), b"")  # refused for its shape
    for name, message, tensors in [
        ("no_tickets", "expected ['session', 'tickets']", place[:1]),
        ("no_session", "expected ['session', 'tickets']", place[1:]),
        ("session_long", "'session' has 17 bytes", cut(place, "session", 17)),
        ("too_many_released", f"expected at most {MAX_RELEASED + 1}", [*close_request(session), too_many]),
        ("tickets_empty", "expected 1 to", edited(place, "tickets", shape=(0,), content=b"")),
        ("tickets_short", "has 23 bytes", edited(place, "tickets", content=bytes(23))),
    ]:
        yield "place", name, message, tensors


def bad_others() -> Iterator[tuple[str, str, str, Tensors]]:
    """Of windows, shares, disputes and ends."""
    session, share = example().session, share_tensors(example().shares()[0])
    show = show_request(session, TICKET, 1)
    yield "window", "two", "'window' has 2 numbers", [numbers("window", 1, 2)]
    yield "window", "datatype", "'window' is 'UINT8'", edited(window_answer(9), "window", datatype="UINT8")
    yield "share", "no_layers", "a relayed share of 0 layers", without(share, "relayed_0")
    yield "share", "other_layer", "a relayed share of 1 layers", edited(share, "relayed_0", name="relayed_1")
    yield "share", "signature_short", "'signature' has 63 bytes", cut(share, "signature", 63)
    yield "share", "datatype", "'relayed_0' is 'INT32'", edited(share, "relayed_0", datatype="INT32")
    yield "share", "truncated", "needs 48", edited(share, "relayed_0", content=bytes(47))
    yield "share", "two_tickets", "'ticket' has 2 numbers", [numbers("ticket", 1, 2), *share[1:]]
    yield "show", "no_dealer", "expected ['dealer', 'session', 'ticket']", show[:2]
    yield "close", "twice", "expected ['session']", close_request(session) * 2


def bad_shares() -> Iterator[tuple[str, Vector]]:
    """Well-formed shares that the dealer did not sign like this, or that are not of this input."""
    relay = example()
    share, other = relay.shares()
    [tensor] = share.tensors
    flipped = replace(tensor, content=bytes([tensor.content[0] ^ 1]) + tensor.content[1:])
    small = Relay("bad_relay", make_case("bad relay small", 32, [PRODUCT], (3, 5), 2))
    unsigned, shape = "not signed with the key that the dealer announced", "a relayed share of"
    for name, message, signer, session, given in [
        ("of_another_dealer", unsigned, 0, relay.session, other),
        ("of_another_session", unsigned, 0, small.session[::-1], share),
        ("of_another_ticket", unsigned, 0, relay.session, replace(share, ticket=TICKET + 1)),
        ("of_another_slice", unsigned, 0, relay.session, replace(share, slice="good_relay")),
        ("flipped_bit", unsigned, 0, relay.session, replace(share, tensors=(flipped,))),
        ("without_signature", unsigned, 0, relay.session, replace(share, signature=bytes(64))),
        ("of_another_shape", shape, 0, small.session, small.shares()[0]),
    ]:
        yield f"bad_share_{name}", share_vector(relay, message, relay.signers[signer], session, given)


def share_vector(relay: Relay, message: str, signer: bytes, session: bytes, share: RelayedShare) -> Vector:
    """A vector of step `share`."""
    return {
        "step": "share",
        "error": "InputError",
        "message": message,
        "ring_bits": relay.case.ring.bits,
        "layers": [layer.model_dump(exclude_defaults=True) for layer in relay.case.layers],
        "x_shape": list(relay.case.x.shape),
        "signer": signer.hex(),
        "session": session.hex(),
        "slice": share.slice,
        "tensors": [whole(tensor) for tensor in share_tensors(share)],
    }


def bad_relayed_answers() -> Iterator[tuple[str, Vector]]:
    """Lies and malformed answers of an evaluator in relay mode."""
    relay = example()
    [honest] = relay.answer()
    flipped = replace(honest, content=bytes([honest.content[0] ^ 1]) + honest.content[1:])
    direct = relay.case.run()[1].answers[0]
    replayed = replace(relay, case=make_case("bad relay, replayed", 32, [PRODUCT], (4, 5), 2)).answer()
    for name, error, message, given in [
        ("flipped_bit", "CheckError", "product: 1 rows of the relayed answer are wrong", [flipped]),
        ("without_shares", "CheckError", "product: 4 rows", direct),
        ("replayed", "CheckError", "product: 4 rows", replayed),
        ("truncated", "InputError", "'answer_0' has 47 bytes", [replace(honest, content=honest.content[:-1])]),
        ("other_name", "InputError", "expected ['answer_0']", [replace(honest, name="relayed_0")]),
    ]:
        vector = {"step": "open_relayed", "error": error, "message": message} | inputs(relay.case)
        seeds = [seed.reveal().hex() for seed in relay.case.seeds]
        yield f"bad_relayed_{name}", vector | {"seeds": seeds, "answer": [whole(tensor) for tensor in given]}
