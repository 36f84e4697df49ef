"""Relay mode: what dealers send to the evaluator, and what the client makes of its answer (PROTOCOL.md, section 7).

A dealer sends W r_i + s_i, where s_i = PRG(seed_i, mask-out). The evaluator adds it to W (x - r) and answers W x + s; the
client takes s off. The evaluator sees two uniform values, a dealer seeds only. Everything a dealer sends is reduced modulo
2**k: more would show the high bits of W r_i, which s_i does not hide.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING

import numpy as np
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from ppidm.protocol.check import wrong_rows
from ppidm.protocol.errors import CheckError, InputError
from ppidm.protocol.messages import Tensor, parse_answer
from ppidm.protocol.prg import Usage, expand

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from numpy.typing import NDArray

    from ppidm.protocol.check import CheckVectors
    from ppidm.protocol.linear import Layer, Shape
    from ppidm.protocol.prg import Seed
    from ppidm.protocol.ring import Elements, Integers, Ring

RELAYED = "relayed_"
_LABEL = b"ppidm relayed share, version 1\n"


@dataclass(frozen=True, repr=False)
class RelayedShare:
    """What a dealer sends for one ticket: planar bytes of W r_i + s_i, one tensor per layer, signed.

    Security:
        `repr` shows no content.
    """

    slice: str
    ticket: int
    tensors: tuple[Tensor, ...]
    signature: bytes

    def __repr__(self) -> str:
        return f"RelayedShare({self.slice!r}, {self.ticket})"

    @property
    def bytes(self) -> int:
        """Of all tensors."""
        return sum(len(tensor.content) for tensor in self.tensors)


def mask_out(ring: Ring, seed: Seed, index: int, shape: Shape) -> Elements:
    """s_i of layer `index`: uniform elements of the shape of its output."""
    stream = expand(seed, Usage.MASK_OUT, index, ring.limbs * prod(shape))
    return ring.from_digits(np.frombuffer(stream, np.uint8).reshape(ring.limbs, *shape))


def relayed_tensors(ring: Ring, seed: Seed, outputs: Sequence[NDArray[np.int32]]) -> tuple[Tensor, ...]:
    """A dealer: W r_i + s_i of every layer, as planar bytes.

    Args:
        ring: Z_2^k.
        seed: the dealer's.
        outputs: W r_i of every layer, as a slice gives it.
    """
    tensors = []
    for index, output in enumerate(outputs):
        share = (output.view(np.uint32) + mask_out(ring, seed, index, output.shape)) & ring.mask
        digits = ring.to_digits(share)
        tensors.append(Tensor(f"{RELAYED}{index}", "UINT8", digits.shape, digits.tobytes()))
    return tuple(tensors)


def relayed_bytes(ring: Ring, layers: Sequence[Layer], shape: Shape) -> int:
    """What one dealer sends to the evaluator, for an input of `shape`."""
    return ring.limbs * sum(prod(layer.output_shape(shape)) for layer in layers)


def elements_of(ring: Ring, layers: Sequence[Layer], shape: Shape, share: RelayedShare) -> list[Elements]:
    """What a relayed share holds.

    Raises:
        InputError: it is not of these layers and this input.
    """
    expected = [(f"{RELAYED}{index}", (ring.limbs, *layer.output_shape(shape))) for index, layer in enumerate(layers)]
    if (got := [(tensor.name, tensor.shape) for tensor in share.tensors]) != expected:
        raise InputError(f"a relayed share of {ascii(got)[:200]}; expected {expected}")
    return [ring.from_digits(tensor.array("UINT8")) for tensor in share.tensors]


def add_relayed(
    ring: Ring, outputs: Sequence[NDArray[np.int32]], relayed: Sequence[Sequence[Elements]]
) -> list[NDArray[np.int32]]:
    """The evaluator: W (x - r) plus what the dealers sent, of every layer: W x + s.

    Args:
        ring: Z_2^k.
        outputs: W (x - r) of every layer.
        relayed: of every dealer, per layer.
    """
    shares = [[output.view(np.uint32) for output in outputs], *relayed]
    totals = [sum(of_layer[1:], of_layer[0]) & ring.mask for of_layer in zip(*shares, strict=True)]
    return [total.view(np.int32) for total in totals]


def open_relayed(
    ring: Ring,
    layers: Sequence[Layer],
    checks: Sequence[CheckVectors] | None,
    x: Integers,
    seeds: Sequence[Seed],
    answer: Sequence[Tensor],
    dropped_bits: int = 0,
) -> list[Integers]:
    """The client: take s off, check (unless `checks` is None), return W x of every layer.

    A truncated answer gives W x within 2**(t-1), whatever the number of dealers: s is taken off exactly.

    Raises:
        CheckError: the answer was wrong.
        InputError: it was malformed.
    """
    assert checks is None or not dropped_bits, "truncated answers cannot be checked; they are audited"
    results = []
    for index, masked in enumerate(parse_answer(answer, layers, x.shape, dropped_bits)):
        s = sum((mask_out(ring, seed, index, masked.shape) for seed in seeds), np.zeros(masked.shape, np.uint32))
        results.append(ring.signed((masked - s) & ring.mask))
    for layer, check, y in zip(layers, checks or (), results, strict=checks is not None):
        if wrong := wrong_rows(layer, check, x, y):
            raise CheckError(f"{layer.name}: {wrong} rows of the relayed answer are wrong")
    return results


def sign_share(
    key: Ed25519PrivateKey, session: bytes, name: str, ticket: int, tensors: tuple[Tensor, ...]
) -> RelayedShare:
    """A dealer: make it attributable, so that the evaluator can show who sent it."""
    return RelayedShare(name, ticket, tensors, key.sign(_signed_content(session, name, ticket, tensors)))


def require_signature(signer: bytes, session: bytes, share: RelayedShare) -> None:
    """The evaluator, and in a dispute the client: did the dealer with the key `signer` send this?

    Raises:
        InputError: no.
    """
    content = _signed_content(session, share.slice, share.ticket, share.tensors)
    try:
        Ed25519PublicKey.from_public_bytes(signer).verify(share.signature, content)
    except (InvalidSignature, ValueError) as error:
        raise InputError(f"{share}: not signed with the key that the dealer announced") from error


def _signed_content(session: bytes, name: str, ticket: int, tensors: Sequence[Tensor]) -> bytes:
    digest = hashlib.sha256()
    for tensor in tensors:
        digest.update(f"{tensor.name} {tensor.datatype} {tensor.shape}\n".encode())
        digest.update(tensor.content)
    title = f"{session.hex()} {ticket} {len(name)} {name}\n".encode()
    return _LABEL + title + digest.digest()
